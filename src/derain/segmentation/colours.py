"""Class numbers as colours, for people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# CamVid's own colours for its 11 classes in the order of SegNet's labels; further classes follow below.
_CAMVID = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip


def palette(classes: int = 256) -> npt.NDArray[np.uint8]:
    """``(classes, 3)`` RGB: CamVid's for the first 11, PASCAL VOC's bit pattern for the rest; the last is black."""
    numbers = np.arange(256)
    table = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            table[:, channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    table[: len(_CAMVID)] = _CAMVID
    table[255] = 0  # void
    return table[:classes]


def coloured(classes: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """``(H, W)`` class numbers in 0..255 to ``(H, W, 3)`` RGB; 255, void, is black."""
    return palette()[classes]
