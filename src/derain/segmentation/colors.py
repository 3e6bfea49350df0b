"""Class numbers as colors, for display."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .cityscapes import CITYSCAPES

# CamVid's colors for its 11 classes, in the order of SegNet's labels.
_CAMVID = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip


@lru_cache(maxsize=2)
def palette(cityscapes: bool = False) -> npt.NDArray[np.uint8]:
    """``(256, 3)`` RGB, all different: CamVid's or Cityscapes', then the remaining ones of PASCAL VOC's bit pattern.

    255 is black.
    """
    known = tuple(CITYSCAPES.values()) if cityscapes else _CAMVID
    voc = []
    for number in range(1, 256):
        bits = [[number >> (3 * bit + channel) & 1 for bit in range(8)] for channel in range(3)]
        voc.append(tuple(sum(bit << (7 - position) for position, bit in enumerate(channel)) for channel in bits))
    colors = [*known, *(color for color in voc if color not in known)]
    return np.array([*colors[:255], (0, 0, 0)], np.uint8)


def colored(classes: npt.NDArray[np.integer], names: Sequence[str] = ()) -> npt.NDArray[np.uint8]:
    """``(H, W)`` class numbers in 0..255 to ``(H, W, 3)`` RGB; 255, void, is black.

    Args:
        classes: the numbers.
        names: of the classes; Cityscapes' have colors of their own.
    """
    colors: npt.NDArray[np.uint8] = palette(tuple(names) == tuple(CITYSCAPES))[classes]
    return colors
