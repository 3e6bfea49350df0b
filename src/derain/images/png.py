"""PNG with 16 bits a channel, which Pillow cannot write in color: chunks checked and written, rows in strips.

Source: the PNG specification (ISO/IEC 15948), https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

from .picture import Picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_SUB = 1  # each byte less the one of the same kind in the pixel to its left: cheap, and close to the best
_LEVEL = 3
_AT_ONCE = 2**20  # bytes read


def check(file: BinaryIO) -> bytes | None:
    """Walk through the chunks of a file and compare their checksums.

    Args:
        file: with PNG's signature; left at another place.

    Returns:
        The EXIF block, wherever it lies in the file, or ``None``.

    Raises:
        ValueError: truncated, or damaged.
    """
    exif = None
    file.seek(len(_SIGNATURE))
    while True:
        length, tag = struct.unpack(">I4s", _exactly(file, 8))
        checksum = zlib.crc32(tag)
        for start in range(0, length, _AT_ONCE):
            part = _exactly(file, min(_AT_ONCE, length - start))
            checksum = zlib.crc32(part, checksum)
            if tag == b"eXIf":
                exif = (exif or b"") + part
        if checksum != struct.unpack(">I", _exactly(file, 4))[0]:
            raise ValueError(f"wrong checksum of a {tag.decode('latin-1')} chunk")
        if tag == b"IEND":
            return exif


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise ValueError("the file ends too early")
    return data


def write_deep(picture: Picture, file: BinaryIO) -> None:
    """Write a picture with 16 bits a channel and its EXIF, ICC profile and resolution."""
    stored = picture.turned() if picture.exif is not None else picture
    width, height = stored.size
    file.write(_SIGNATURE)
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPE[stored.channels], 0, 0, 0))
    if picture.icc is not None:
        _chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc))
    if "dpi" in picture.info:
        metre = [round(float(d) / 0.0254) for d in picture.info["dpi"]]
        _chunk(file, b"pHYs", struct.pack(">IIB", *metre, 1))
    if picture.exif is not None:
        _chunk(file, b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))
    step = 2 * stored.channels  # bytes of a pixel
    stream = zlib.compressobj(_LEVEL)
    for _, strip in stored.strips():
        rows = strip.astype(">u2").reshape(len(strip), -1).view(np.uint8)
        filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = _SUB
        filtered[:, 1 : 1 + step] = rows[:, :step]
        np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])
        _chunk(file, b"IDAT", stream.compress(filtered.data))
    _chunk(file, b"IDAT", stream.flush())
    _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, tag: bytes, body: bytes) -> None:
    if body or tag == b"IEND":  # the compressor may keep what it got for later
        file.write(struct.pack(">I", len(body)) + tag)
        file.write(body)
        file.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(tag))))
