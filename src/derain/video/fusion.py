"""Steadying a clip: what a network leaves of rain is where neighboring frames disagree.

Each derained frame is fused with its neighbors, moved as the camera moved. Where they agree a low
median of all is taken; where something else moves, the frame keeps its own pixels.

The fusion follows the network and does not precede it. A median of rainy frames smears dense streaks
into a veil that no network here was trained on, and motion is far easier to tell when the rain is gone;
``benchmarks/video.py`` measures both orders.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Known = npt.NDArray[np.bool_]

#: Frames on each side that a frame is fused with.
RADIUS = 2

_SIDE = 768  # motion is estimated at this longest side at most, pixels
_MARGIN = 8  # border that motion is not judged by, pixels
_STILL = 0.98  # a freer motion must reduce the disagreement to this share, or the simpler one is taken
_CUT = 0.12  # mean disagreement after the best motion that means another scene
_FLOOR = 4 / 255  # disagreement that is always taken for noise
_ALONE, _TOGETHER = 3.0, 1.8  # how far beyond the usual one neighbor, and all of them, may disagree
_PALE, _FINE = 13, 9  # sides of the squares over which the mean and the absolute difference are judged
_GROWN = 7  # what disagrees is widened by half of this, pixels


def steady(frames: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Fuse each derained frame of a clip with :data:`RADIUS` neighbors on each side.

    A result depends on these neighbors alone, so a part of a clip gives what the whole gives if
    :data:`RADIUS` frames more are fed on each side. That many frames are held, twice, and no more.

    Args:
        frames: ``(H, W, 3)`` RGB in [0, 1], of one size, in order.

    Yields:
        As many frames, alike.
    """
    window: deque[FloatArray] = deque(maxlen=2 * RADIUS + 1)
    motions: deque[FloatArray | None] = deque(maxlen=2 * RADIUS)  # of each frame in the window to the next
    waiting = 0
    for frame in frames:
        if window:
            motions.append(camera_motion(window[-1], frame))
        window.append(frame)
        waiting += 1
        if waiting > RADIUS:
            yield _fused(window, motions, len(window) - 1 - RADIUS)
            waiting -= 1
    for left in range(waiting, 0, -1):
        # At the end the window no longer moves; frames farther away than the radius are not looked at.
        yield _fused(window, motions, len(window) - left)


def _fused(window: deque[FloatArray], motions: deque[FloatArray | None], center: int) -> FloatArray:
    neighbors = []
    for step in (-1, 1):
        total: FloatArray | None = still()
        for i in range(1, RADIUS + 1):
            other = center + step * i
            if not 0 <= other < len(window):
                break
            motion = motions[min(other, other - step)]
            total = _then(total, motion if motion is None or step > 0 else _back(motion))
            if total is None:
                break
            neighbors.append(aligned(window[other], total))
    return fuse(window[center], neighbors)


def _then(first: FloatArray | None, second: FloatArray | None) -> FloatArray | None:
    """Two motions, one after the other."""
    if first is None or second is None:
        return None
    return np.asarray(second @ np.vstack([first, [0, 0, 1]]), np.float32)


def _back(motion: FloatArray) -> FloatArray:
    return np.asarray(cv2.invertAffineTransform(motion), np.float32)


def still() -> FloatArray:
    """The motion of a camera that stands: the identity, ``(2, 3)``."""
    return np.eye(2, 3, dtype=np.float32)


def camera_motion(first: FloatArray, second: FloatArray) -> FloatArray | None:
    """How the camera moved between two frames: an affine map.

    Phase correlation (Kuglin and Hines, 1975) gives a start. Lucas and Kanade's iteration (Baker and
    Matthews, IJCV 2004), with Geman and McClure's weights against what does not fit, refines a shift
    and then an affine map. The simplest that explains the frames is taken.

    Args:
        first, second: ``(H, W, 3)`` RGB in [0, 1], of one size.

    Returns:
        ``(2, 3)`` float32 that maps a point (x, y, 1) of ``first`` to where it lies in ``second``,
        pixels; exactly the identity if the camera stands. ``None`` for frames of different scenes.
    """
    if first.shape != second.shape:
        return None
    height, width = first.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    a, b = (_structure(frame, scale) for frame in (first, second))
    best, cost = still(), _cost(a, b, still())
    if min(a.shape) >= 4 * _MARGIN:
        shift, _ = cv2.phaseCorrelate(a, b, cv2.createHanningWindow((a.shape[1], a.shape[0]), cv2.CV_32F))
        jump = still()
        jump[:, 2] = shift
        shifts = [_refine(a, b, start, affine=False) for start in (jump, still())]
        for candidates in (shifts, None):
            for motion in candidates or [_refine(a, b, best, affine=True)]:
                if (found := _cost(a, b, motion)) < _STILL * cost:
                    best, cost = motion, found
    if cost > _CUT:
        return None
    best[:, 2] /= np.float32(scale)
    return best


def _structure(frame: FloatArray, scale: float) -> FloatArray:
    """Gray and reduced, without the coarsest structure, which is light, and the finest, which is noise."""
    gray = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    if scale < 1:
        gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(gray, (0, 0), 1.5) - cv2.GaussianBlur(gray, (0, 0), 12), np.float32)


def _inner(picture: FloatArray) -> FloatArray:
    margin = min(_MARGIN, (min(picture.shape) - 1) // 2)
    return picture[margin : picture.shape[0] - margin, margin : picture.shape[1] - margin]


def _cost(a: FloatArray, b: FloatArray, motion: FloatArray) -> float:
    return float(np.abs(_inner(_warp(b, motion) - a)).mean())


def _refine(a: FloatArray, b: FloatArray, motion: FloatArray, *, affine: bool) -> FloatArray:
    """Iteratively reweighted least squares on the linearized difference of two pictures."""
    height, width = a.shape
    y, x = (_inner(grid) for grid in np.mgrid[:height, :width].astype(np.float32))
    motion = motion.copy()
    for _ in range(12):
        moved = _warp(b, motion)
        wrong = _inner(moved - a).ravel()
        gx, gy = (_inner(np.asarray(cv2.Sobel(moved, cv2.CV_32F, *axis, scale=1 / 8))) for axis in ((1, 0), (0, 1)))
        spread = 1.48 * np.median(np.abs(wrong)) + 1e-5
        weights = 1 / (1 + (wrong / spread) ** 2) ** 2
        columns = (gx * x, gx * y, gx, gy * x, gy * y, gy) if affine else (gx, gy)
        slopes = np.stack([column.ravel() for column in columns]).astype(np.float64)
        weighted = slopes * weights
        step = -np.linalg.lstsq(weighted @ slopes.T, weighted @ wrong, rcond=1e-12)[0].astype(np.float32)
        if affine:
            change = step.reshape(2, 3)
        else:
            change = np.zeros((2, 3), np.float32)
            change[:, 2] = step
        motion += change
        if np.abs(change @ np.array([width, height, 1], np.float32)).max() < 0.005:
            break
    return motion


def _warp(picture: FloatArray, motion: FloatArray, interpolation: int = cv2.INTER_LINEAR) -> FloatArray:
    if np.array_equal(motion, still()):
        return picture
    height, width = picture.shape[:2]
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(picture, motion, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101), np.float32
    )


def aligned(frame: FloatArray, motion: FloatArray) -> tuple[FloatArray, Known]:
    """A frame as it would look had the camera not moved.

    Args:
        frame: ``(H, W, 3)`` in [0, 1].
        motion: from :func:`camera_motion`, of the wanted view to the frame's.

    Returns:
        The moved frame, and ``(H, W)`` bool: where it shows what the frame really saw.
    """
    height, width = frame.shape[:2]
    if np.array_equal(motion, still()):
        return frame, np.ones((height, width), bool)
    moved = np.clip(_warp(frame, motion, cv2.INTER_CUBIC), 0, 1)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    x, y = (row[0] * columns + row[1] * rows + row[2] for row in motion)
    return moved, (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def fuse(frame: FloatArray, neighbors: list[tuple[FloatArray, Known]]) -> FloatArray:
    """A frame and its aligned neighbors as one: a low median where they agree, else the frame.

    A neighbor counts at a pixel if the mean difference around it, with its sign and without, is not
    far beyond that of the whole picture: what is left of rain is everywhere, a moving thing in one
    place. All neighbors together are judged more strictly, for their noise cancels. What does not
    count is replaced by the frame. The mean of the two values below and at the median is taken,
    because what is left of rain is light.

    Args:
        frame: ``(H, W, 3)`` in [0, 1].
        neighbors: from :func:`aligned`; more than :data:`RADIUS` a side are not needed.

    Returns:
        ``(H, W, 3)`` float32; exactly the frame where all neighbors equal it.
    """
    if not neighbors:
        return frame
    differences = [_differences(frame, moved) for moved, _ in neighbors]
    seen = np.maximum(sum(known.astype(np.float32) for _, known in neighbors), 1)
    together: FloatArray = np.ones(frame.shape[:2], np.float32)
    for kind in zip(*differences, strict=True):
        summed = sum(local * known for local, (_, known) in zip(kind, neighbors, strict=True))
        together = np.minimum(together, _trust(np.asarray(summed / seen, np.float32), _TOGETHER))
    grown = cv2.erode(together, np.ones((_GROWN, _GROWN), np.uint8))
    together = np.asarray(cv2.blur(grown, (_GROWN, _GROWN)), np.float32)
    stack = [frame]
    for (moved, known), kinds in zip(neighbors, differences, strict=True):
        trust = np.minimum(together, np.minimum(*(_trust(local, _ALONE) for local in kinds))) * known
        stack.append(frame + trust[..., None] * (moved - frame))
    stack += [frame] * (2 * RADIUS + 1 - len(stack))
    middle = len(stack) // 2
    ordered = np.partition(np.stack(stack), (middle - 1, middle), axis=0)
    return np.asarray((ordered[middle - 1] + ordered[middle]) / 2, np.float32)


def _differences(frame: FloatArray, moved: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Local means of the difference with its sign, and without; ``(H, W)`` each."""
    difference = moved - frame
    pale = np.abs(cv2.blur(difference, (_PALE, _PALE))).max(axis=2)
    return pale, np.asarray(cv2.blur(np.abs(difference).mean(axis=2), (_FINE, _FINE)), np.float32)


def _trust(local: FloatArray, times: float) -> FloatArray:
    limit = np.float32(_FLOOR + times * float(np.median(local)))
    return np.asarray(np.clip(2 - local / limit, 0, 1), np.float32)
