"""Flicker of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def flicker(
    frames: Sequence[FloatArray],
    *,
    truth: Sequence[FloatArray] | None = None,
    motions: Sequence[FloatArray] | None = None,
    static: Sequence[npt.NDArray[np.bool_]] | None = None,
    border: int = 12,
) -> float:
    """How much a clip changes from frame to frame where the scene does not: the warped difference.

    The mean over consecutive frames, pixels and channels of ``|F(t + 1) moved back - F(t)|``, with the
    warping error of Lai et al. (ECCV 2018) as the model, but absolute and by known motion.

    Args:
        frames: ``(H, W, 3)`` in [0, 1], two or more of one size.
        truth: the clean frames. When given, F is the error, frame - truth, so that what the scene
            itself changes, and what moving it back by parts of a pixel blurs, does not count.
        motions: of each frame to the next, ``(2, 3)``, a point (x, y, 1) to where it lies there, pixels;
            ``None`` for a camera that stands.
        static: ``(H, W)`` for each frame, true where nothing moves but the camera, in it and the next.
        border: pixels at the edge that do not count.

    Returns:
        8-bit levels; 0 for a steady clip.

    Raises:
        ValueError: fewer than two frames, or no static pixel.
    """
    if len(frames) < 2:
        raise ValueError("flicker needs two frames at least")
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
        raise ValueError("no pixel is static and off the border")
    return 255 * total / count
