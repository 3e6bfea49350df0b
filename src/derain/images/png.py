"""PNG with 16 bits a channel, which Pillow cannot write in colour: chunks checked and written, rows in strips.

Source: the PNG specification (ISO/IEC 15948), https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

from .picture import Picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_SUB = 1  # each byte less the one of the same kind in the pixel to its left: cheap, and close to the best
_LEVEL = 3


def check(data: bytes) -> bytes | None:
    """Walk through the chunks of a whole file and compare their checksums.

    Args:
        data: a file with PNG's signature.

    Returns:
        The EXIF block, wherever it lies in the file, or ``None``.

    Raises:
        ValueError: truncated, or damaged.
    """
    whole, exif, place = memoryview(data), None, len(_SIGNATURE)
    while True:
        if place + 12 > len(whole):
            raise ValueError("the file ends too early")
        length, tag = struct.unpack_from(">I4s", whole, place)
        end = place + 8 + length
        if end + 4 > len(whole):
            raise ValueError("the file ends too early")
        if zlib.crc32(whole[place + 4 : end]) != struct.unpack_from(">I", whole, end)[0]:
            raise ValueError(f"wrong checksum of a {tag.decode('latin-1')} chunk")
        if tag == b"eXIf":
            exif = bytes(whole[place + 8 : end])
        if tag == b"IEND":
            return exif
        place = end + 4


def write_deep(picture: Picture, file: BinaryIO) -> None:
    """Write a picture with 16 bits a channel and its EXIF, ICC profile and resolution."""
    stored = picture.turned() if picture.exif is not None else picture
    width, height = stored.size
    file.write(_SIGNATURE)
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPE[stored.channels], 0, 0, 0))
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
