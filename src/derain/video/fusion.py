"""Temporal fusion: remaining rain and flicker are removed where neighboring frames disagree.

Each derained frame is fused with its neighbors after compensation of the camera's motion. Where they agree, a
low median of all is taken; where something else moves, the frame keeps its own pixels.

The fusion comes after the network, not before it. A median of rainy frames smears dense streaks into a haze that
no network here was trained on, and motion is far easier to estimate when the rain is gone;
``benchmarks/video.py`` measures both orders.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray

Mask = npt.NDArray[np.bool_]

#: Neighbors on each side that a frame is fused with.
RADIUS = 2

_MAX_SIDE = 768  # motion is estimated on frames reduced to this longest side, pixels
_BORDER = 8  # border that is excluded from the cost of a motion, pixels
_MIN_IMPROVEMENT = 0.98  # a motion with more parameters must reduce the cost to this fraction
_SCENE_CUT = 0.12  # a cost of the best motion above this means another scene
_NOISE = 4 / 255  # differences up to this are always noise
_MAX_RATIO, _MAX_RATIO_OF_SUM = 3.0, 1.8  # of a local difference to the median, for one neighbor and for all together
_SIGNED_WINDOW, _ABSOLUTE_WINDOW = 13, 9  # over which signed and absolute differences are averaged, pixels
_EROSION = 7  # window by which rejected regions are widened, pixels


def temporal_fuse(frames: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Fuse each derained frame of a clip with :data:`RADIUS` neighbors on each side.

    A result depends only on these neighbors, so a part of a clip gives the same results as the whole clip if
    :data:`RADIUS` more frames are passed on each side. At most ``2 * RADIUS + 1`` frames are held.

    Args:
        frames: ``(H, W, 3)`` RGB in [0, 1], of one size, in order.

    Yields:
        One fused frame for each input frame.
    """
    window: deque[FloatArray] = deque(maxlen=2 * RADIUS + 1)
    motions: deque[FloatArray | None] = deque(maxlen=2 * RADIUS)  # of each frame in the window to the next
    pending = 0
    for frame in frames:
        if window:
            motions.append(camera_motion(window[-1], frame))
        window.append(frame)
        pending += 1
        if pending > RADIUS:
            yield _fuse_center(window, motions, len(window) - 1 - RADIUS)
            pending -= 1
    for remaining in range(pending, 0, -1):
        # The window no longer moves at the end; it holds frames beyond the radius, which are ignored.
        yield _fuse_center(window, motions, len(window) - remaining)


def _fuse_center(window: deque[FloatArray], motions: deque[FloatArray | None], center: int) -> FloatArray:
    neighbors = []
    for step in (-1, 1):
        total: FloatArray | None = identity_motion()
        for i in range(1, RADIUS + 1):
            other = center + step * i
            if not 0 <= other < len(window):
                break
            motion = motions[min(other, other - step)]
            total = _compose(total, motion if motion is None or step > 0 else _invert(motion))
            if total is None:
                break
            neighbors.append(align(window[other], total))
    return fuse(window[center], neighbors)


def _compose(first: FloatArray | None, second: FloatArray | None) -> FloatArray | None:
    """The motion ``first`` followed by ``second``; ``None`` if either is unknown."""
    if first is None or second is None:
        return None
    return np.asarray(second @ np.vstack([first, [0, 0, 1]]), np.float32)


def _invert(motion: FloatArray) -> FloatArray:
    return np.asarray(cv2.invertAffineTransform(motion), np.float32)


def identity_motion() -> FloatArray:
    """The motion of a static camera: the identity, ``(2, 3)``."""
    return np.eye(2, 3, dtype=np.float32)


def camera_motion(first: FloatArray, second: FloatArray) -> FloatArray | None:
    """Estimate the camera's motion between two frames as an affine map.

    Phase correlation (Kuglin and Hines, 1975) initializes it. Lucas-Kanade iterations (Baker and Matthews,
    IJCV 2004) with robust Geman-McClure weights refine a translation, then an affine map. The simplest motion
    that explains the frames is returned.

    Args:
        first, second: ``(H, W, 3)`` RGB in [0, 1].

    Returns:
        ``(2, 3)`` float32 that maps a point (x, y, 1) of ``first`` to its position in ``second``, pixels; exactly
        the identity for a static camera. ``None`` for frames of different scenes or sizes.
    """
    if first.shape != second.shape:
        return None
    height, width = first.shape[:2]
    scale = min(1.0, _MAX_SIDE / max(height, width))
    a, b = (_structure(frame, scale) for frame in (first, second))
    best, cost = identity_motion(), _cost(a, b, identity_motion())
    if min(a.shape) >= 4 * _BORDER:
        shift, _ = cv2.phaseCorrelate(a, b, cv2.createHanningWindow((a.shape[1], a.shape[0]), cv2.CV_32F))
        correlated = identity_motion()
        correlated[:, 2] = shift
        translations = [_refine(a, b, start, affine=False) for start in (correlated, identity_motion())]
        for candidates in (translations, None):
            for motion in candidates or [_refine(a, b, best, affine=True)]:
                if (new_cost := _cost(a, b, motion)) < _MIN_IMPROVEMENT * cost:
                    best, cost = motion, new_cost
    if cost > _SCENE_CUT:
        return None
    best[:, 2] /= np.float32(scale)
    return best


def _structure(frame: FloatArray, scale: float) -> FloatArray:
    """Gray, reduced and band-pass filtered: without illumination (coarse) and noise (fine)."""
    gray = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    if scale < 1:
        gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(gray, (0, 0), 1.5) - cv2.GaussianBlur(gray, (0, 0), 12), np.float32)


def _inner(image: FloatArray) -> FloatArray:
    margin = min(_BORDER, (min(image.shape) - 1) // 2)
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def _cost(a: FloatArray, b: FloatArray, motion: FloatArray) -> float:
    return float(np.abs(_inner(_warp(b, motion) - a)).mean())


def _refine(a: FloatArray, b: FloatArray, motion: FloatArray, *, affine: bool) -> FloatArray:
    """Iteratively reweighted least squares on the linearized difference of two images."""
    height, width = a.shape
    y, x = (_inner(grid) for grid in np.mgrid[:height, :width].astype(np.float32))
    motion = motion.copy()
    for _ in range(12):
        moved = _warp(b, motion)
        residual = _inner(moved - a).ravel()
        gx, gy = (_inner(np.asarray(cv2.Sobel(moved, cv2.CV_32F, *axis, scale=1 / 8))) for axis in ((1, 0), (0, 1)))
        spread = 1.48 * np.median(np.abs(residual)) + 1e-5
        weights = 1 / (1 + (residual / spread) ** 2) ** 2
        columns = (gx * x, gx * y, gx, gy * x, gy * y, gy) if affine else (gx, gy)
        slopes = np.stack([column.ravel() for column in columns]).astype(np.float64)
        weighted = slopes * weights
        step = -np.linalg.lstsq(weighted @ slopes.T, weighted @ residual, rcond=1e-12)[0].astype(np.float32)
        if affine:
            change = step.reshape(2, 3)
        else:
            change = np.zeros((2, 3), np.float32)
            change[:, 2] = step
        motion += change
        if np.abs(change @ np.array([width, height, 1], np.float32)).max() < 0.005:
            break
    return motion


def _warp(image: FloatArray, motion: FloatArray, interpolation: int = cv2.INTER_LINEAR) -> FloatArray:
    if np.array_equal(motion, identity_motion()):
        return image
    height, width = image.shape[:2]
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(image, motion, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101), np.float32
    )


def align(frame: FloatArray, motion: FloatArray) -> tuple[FloatArray, Mask]:
    """Warp a frame to the view of another one.

    Args:
        frame: ``(H, W, 3)`` in [0, 1].
        motion: from :func:`camera_motion`, from the other frame to this one.

    Returns:
        The warped frame, and ``(H, W)`` bool: where it lies inside of the frame.
    """
    height, width = frame.shape[:2]
    if np.array_equal(motion, identity_motion()):
        return frame, np.ones((height, width), bool)
    moved = np.clip(_warp(frame, motion, cv2.INTER_CUBIC), 0, 1)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    x, y = (row[0] * columns + row[1] * rows + row[2] for row in motion)
    return moved, (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def fuse(frame: FloatArray, neighbors: list[tuple[FloatArray, Mask]]) -> FloatArray:
    """Fuse a frame and its aligned neighbors: a low median where they agree, else the frame.

    A neighbor is trusted at a pixel if the local mean difference, signed and absolute, is not far above the median
    over the frame: remaining rain is everywhere, a moving object in one place. The limit for all neighbors together
    is stricter, because their noise cancels. Where a neighbor is not trusted, the frame replaces it. The result is
    the mean of the median and the value below it, because remaining rain is bright.

    Args:
        frame: ``(H, W, 3)`` in [0, 1].
        neighbors: from :func:`align`; at most :data:`RADIUS` per side are useful.

    Returns:
        ``(H, W, 3)`` float32; exactly the frame where all neighbors equal it.
    """
    if not neighbors:
        return frame
    differences = [_differences(frame, moved) for moved, _ in neighbors]
    count = np.maximum(sum(known.astype(np.float32) for _, known in neighbors), 1)
    joint_trust: FloatArray = np.ones(frame.shape[:2], np.float32)
    for kind in zip(*differences, strict=True):
        total = sum(local * known for local, (_, known) in zip(kind, neighbors, strict=True))
        joint_trust = np.minimum(joint_trust, _trust(np.asarray(total / count, np.float32), _MAX_RATIO_OF_SUM))
    eroded = cv2.erode(joint_trust, np.ones((_EROSION, _EROSION), np.uint8))
    joint_trust = np.asarray(cv2.blur(eroded, (_EROSION, _EROSION)), np.float32)
    stack = [frame]
    for (moved, known), kinds in zip(neighbors, differences, strict=True):
        trust = np.minimum(joint_trust, np.minimum(*(_trust(local, _MAX_RATIO) for local in kinds))) * known
        stack.append(frame + trust[..., None] * (moved - frame))
    stack += [frame] * (2 * RADIUS + 1 - len(stack))
    middle = len(stack) // 2
    ordered = np.partition(np.stack(stack), (middle - 1, middle), axis=0)
    return np.asarray((ordered[middle - 1] + ordered[middle]) / 2, np.float32)


def _differences(frame: FloatArray, moved: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Magnitudes of the local mean of the signed and of the absolute difference; ``(H, W)`` each."""
    difference = moved - frame
    signed = np.abs(cv2.blur(difference, (_SIGNED_WINDOW, _SIGNED_WINDOW))).max(axis=2)
    absolute = cv2.blur(np.abs(difference).mean(axis=2), (_ABSOLUTE_WINDOW, _ABSOLUTE_WINDOW))
    return signed, np.asarray(absolute, np.float32)


def _trust(local: FloatArray, max_ratio: float) -> FloatArray:
    """1 where a local difference is below its limit, falling to 0 at twice the limit."""
    limit = np.float32(_NOISE + max_ratio * float(np.median(local)))
    return np.asarray(np.clip(2 - local / limit, 0, 1), np.float32)
