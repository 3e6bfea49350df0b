"""PNG with 16 bits per channel, which Pillow cannot write in color: chunks checked and written, rows in strips.

Source: the PNG specification (ISO/IEC 15948), https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from .picture import Picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_SUB = 1  # filter: difference to the same byte of the pixel to the left; cheap, and close to the best
_LEVEL = 3
_BLOCK = 2**20  # bytes read at a time


def check(file: BinaryIO) -> bytes | None:
    """Walk through the chunks of a file and compare their checksums.

    Args:
        file: with PNG's signature; its position changes.

    Returns:
        The EXIF block, wherever it is in the file, or ``None``.

    Raises:
        ValueError: truncated, or damaged.
    """
    exif = None
    file.seek(len(_SIGNATURE))
    while True:
        length, tag = struct.unpack(">I4s", _read_exactly(file, 8))
        checksum = zlib.crc32(tag)
        for start in range(0, length, _BLOCK):
            part = _read_exactly(file, min(_BLOCK, length - start))
            checksum = zlib.crc32(part, checksum)
            if tag == b"eXIf":
                exif = (exif or b"") + part
        if checksum != struct.unpack(">I", _read_exactly(file, 4))[0]:
            raise ValueError(f"wrong checksum of a {tag.decode('latin-1')} chunk")
        if tag == b"IEND":
            return exif


def _read_exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise ValueError("unexpected end of file")
    return data


def write_sixteen_bit(image: Picture, file: BinaryIO) -> None:
    """Write an image with 16 bits per channel and its EXIF, ICC profile and resolution."""
    stored = image.as_stored() if image.exif is not None else image
    width, height = stored.size
    file.write(_SIGNATURE)
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPE[stored.channels], 0, 0, 0))
    if image.icc is not None:
        _write_chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(image.icc))
    if "dpi" in image.info:
        per_meter = [round(float(d) / 0.0254) for d in image.info["dpi"]]
        _write_chunk(file, b"pHYs", struct.pack(">IIB", *per_meter, 1))
    if image.exif is not None:
        _write_chunk(file, b"eXIf", image.exif.removeprefix(b"Exif\0\0"))
    step = 2 * stored.channels  # bytes per pixel
    stream = zlib.compressobj(_LEVEL)
    for rows in stored.strips():
        strip = stored.integer_rows(rows)
        data = strip.astype(">u2").reshape(len(strip), -1).view(np.uint8)
        filtered = np.empty((len(data), 1 + data.shape[1]), np.uint8)
        filtered[:, 0] = _SUB
        filtered[:, 1 : 1 + step] = data[:, :step]
        np.subtract(data[:, step:], data[:, :-step], out=filtered[:, 1 + step :])
        _write_chunk(file, b"IDAT", stream.compress(filtered.data))
    _write_chunk(file, b"IDAT", stream.flush())
    _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, tag: bytes, body: bytes) -> None:
    if body or tag == b"IEND":  # the compressor may buffer its input and return nothing
        file.write(struct.pack(">I", len(body)) + tag)
        file.write(body)
        file.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(tag))))
