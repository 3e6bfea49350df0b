"""EXIF orientation: its tag, and arrays between stored and upright orientation."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

#: The EXIF (and TIFF) tag.
ORIENTATION_TAG = 0x0112


def to_upright(values: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Rotate and mirror an array as stored in a file to upright.

    Args:
        values: rows, columns, and any further axes.
        orientation: EXIF's number, 1 to 8.

    Returns:
        A view.
    """
    rows = values[::-1] if orientation in (3, 4, 6, 7) else values
    mirrored = rows[:, ::-1] if orientation in (2, 3, 7) else rows
    upright = mirrored.swapaxes(0, 1) if orientation >= 5 else mirrored
    return upright[::-1] if orientation == 8 else upright


def to_stored(values: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """The inverse of :func:`to_upright`."""
    # 6 and 8 are quarter turns and inverse to each other; all others are their own inverse.
    return to_upright(values, 14 - orientation if orientation in (6, 8) else orientation)
