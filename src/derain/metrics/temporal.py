"""Flicker of a video clip."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray


def flicker(
    frames: Sequence[FloatArray],
    *,
    truth: Sequence[FloatArray] | None = None,
    motions: Sequence[FloatArray] | None = None,
    static: Sequence[npt.NDArray[np.bool_]] | None = None,
    border: int = 12,
) -> float:
    """How much a clip changes from frame to frame where the scene does not: the warping error.

    The mean over consecutive frames, pixels and channels of ``|warp(F(t + 1)) - F(t)|``, after the
    warping error of Lai et al. (ECCV 2018), but absolute and with known motion.

    Args:
        frames: ``(H, W, 3)`` in [0, 1], two or more of equal size.
        truth: the clean frames. If given, F is the error, frame - truth, so that changes of the scene
            itself and the blur of subpixel warping do not count.
        motions: from each frame to the next, ``(2, 3)``; maps a point (x, y, 1) to its position there, pixels.
            ``None`` for a static camera.
        static: ``(H, W)`` for each frame, true where nothing but the camera moves from it to the next.
        border: pixels at the edge that are ignored.

    Returns:
        8-bit levels; 0 for a clip without flicker.

    Raises:
        ValueError: fewer than two frames, or no static pixel.
    """
    if len(frames) < 2:
        raise ValueError("flicker needs at least two frames")
    height, width = frames[0].shape[:2]
    inner = np.zeros((height, width), bool)
    inner[border : height - border, border : width - border] = True
    total, count = 0.0, 0
    for t in range(len(frames) - 1):
        before, after = (frames[i] if truth is None else frames[i] - truth[i] for i in (t, t + 1))
        if motions is not None and not np.array_equal(motions[t], np.eye(2, 3)):
            flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            border_mode = cv2.BORDER_REFLECT_101
            moved = cv2.warpAffine(after, motions[t], (width, height), flags=flags, borderMode=border_mode)
            after = np.asarray(moved, np.float32)
        counted = inner if static is None else inner & static[t]
        change = np.abs(np.asarray(after, np.float64) - before)[counted]
        total += float(change.sum())
        count += change.size
    if not count:
        raise ValueError("no static pixel inside the border")
    return 255 * total / count
