"""BMP with alpha, which Pillow reads in part and does not write.

Source: Microsoft's documentation of BITMAPINFOHEADER and BITMAPV4HEADER.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .picture import Picture

_BITFIELDS = 3
_MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)  # red, green, blue, alpha


def alpha(file: BinaryIO) -> npt.NDArray[np.uint8] | None:
    """``(H, W)``: the fourth bytes of an uncompressed 32-bit file without masks, if they are not all equal.

    The format calls them reserved, but many programs store alpha there; all 0 or all 255 means that it is opaque.
    """
    file.seek(0)
    head = file.read(34)
    if len(head) < 34:
        return None
    start, size, width, height, _, bits, compression = struct.unpack("<4xIIiiHHI", head[6:34])
    if size != 40 or bits != 32 or compression != 0 or width <= 0:
        return None
    file.seek(start)
    data = file.read(4 * width * abs(height))
    if len(data) < 4 * width * abs(height):
        return None
    fourth = np.frombuffer(data, np.uint8)[3::4].reshape(abs(height), width)
    if fourth.min() == fourth.max():
        return None
    return fourth[::-1] if height > 0 else fourth


def write(image: Picture, file: BinaryIO) -> None:
    """Write an upright 8-bit image with alpha, 32 bits per pixel."""
    width, height = image.size
    start = 14 + 108
    file.write(b"BM" + struct.pack("<IHHI", start + 4 * width * height, 0, 0, start))
    file.write(struct.pack("<IiiHHIIIIII", 108, width, height, 1, 32, _BITFIELDS, 4 * width * height, 2835, 2835, 0, 0))
    file.write(struct.pack("<4I", *_MASKS) + b"BGRs" + bytes(48))  # sRGB
    for rows in reversed(list(image.strips())):
        strip = image.integer_rows(rows)
        if strip.shape[2] == 2:
            strip = strip[..., [0, 0, 0, 1]]
        file.write(np.ascontiguousarray(strip[::-1][..., [2, 1, 0, 3]]).tobytes())
    file.seek(0, io.SEEK_END)
