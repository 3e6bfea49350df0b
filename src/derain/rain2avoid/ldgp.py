"""LDGP: where a single image has rain, from its gradients alone (Rain2Avoid, ICASSP 2023, section 2.1).

The rain streaks of an image share one direction, and a streak is brighter than its surroundings. Angles are in
degrees from vertical, positive when streaks lean to the right going down, as everywhere in derain.

``authors`` computes what the published code does, bit for bit with OpenCV 4: gradient histograms (HOG, Dalal and
Triggs, CVPR 2005) of square patches vote for the direction; the image is rotated until the rain falls straight
down; what is brighter than the mean of its 5×5 neighborhood over ``kernel_size`` pixels down is rain; the map is
rotated back. Three quirks of that code are kept:

- the cells of a HOG block are stored column by column and read row by row, so that the averaging over
  overlapping blocks swaps cells;
- an opening with an even kernel shifts the map down by one pixel;
- rotating back interpolates, so the map has gray values; those from 1 to 10 are neither rain nor clean.

``streaks``, the default, keeps the principle: rain must be brighter than both sides by more than the noise (a
top-hat across the streak, then an opening along it), and the direction is the one in which the median patch
has most of that, so that a few strong edges of the scene cannot decide it. On Rain100L's slice it finds more of
the rain with fewer errors (docs/guide/rain2avoid.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import to_uint8
from derain.errors import InputError

Map = npt.NDArray[np.uint8]
Mode = Literal["authors", "streaks"]

#: Map values above it are rain.
THRESHOLD = 10
_CELL = 8
_BLOCK = 4  # cells along a block's side
_BINS = 36

# The default's settings, chosen on Rain100L's slice (width, contrast) or from its streak lengths.
_ACROSS = 5  # streaks are at most one pixel narrower than this
_ALONG = 13
_CONTRAST = 2.0  # gray levels of 255
_ANGLES = range(45, -46, -3)  # in this order ties go to streaks that lean right
_PATCH = 40
_STRONG = 30.0  # gray levels; brighter streaks do not count more for the direction


def ldgp(
    image: npt.NDArray[Any],
    *,
    mode: Mode = "streaks",
    patch_size: int = 80,
    kernel_size: int | None = None,
    angles: Sequence[float] | None = None,
    directions: int = 1,
) -> Map:
    """The rain map of an image.

    Args:
        image: ``(H, W, 3)`` RGB, uint8 or float in [0, 1]; any size.
        mode: ``streaks`` or ``authors``.
        patch_size: side of the voting patches of ``authors``, a multiple of 8 from 32; smaller images
            use the largest that fits.
        kernel_size: minimum length of a streak, pixels; by default 10 for ``authors``, 13 for ``streaks``.
        angles: directions of the rain in degrees; estimated from the image if ``None``.
        directions: how many directions to estimate; the result is the union of their maps.

    Returns:
        ``(H, W)`` uint8: 0 is clean, above :data:`THRESHOLD` is rain.

    Raises:
        InputError: another shape, unknown mode, or impossible sizes.
    """
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"an array of shape {image.shape} is not a color image; use (H, W, 3), RGB last")
    if mode not in ("authors", "streaks"):
        raise InputError(f"unknown mode {mode!r}; choose authors or streaks")
    length = kernel_size if kernel_size is not None else (10 if mode == "authors" else _ALONG)
    if length < 1 or directions < 1:
        raise InputError("kernel_size and directions must be at least 1")
    image8 = np.ascontiguousarray(to_uint8(image))
    if angles is None:
        angles = rain_angles(image8, mode=mode, patch_size=patch_size, count=directions)
    map_of = _authors_map if mode == "authors" else _streak_map
    union = map_of(image8, angles[0], length)
    for angle in angles[1:]:
        np.maximum(union, map_of(image8, angle, length), out=union)
    return union


def rain_mask(rain_map: Map, threshold: int = THRESHOLD) -> npt.NDArray[np.bool_]:
    """``(H, W)`` bool, true where the map says rain."""
    mask: npt.NDArray[np.bool_] = rain_map > threshold
    return mask


def rain_angles(
    image: npt.NDArray[Any], *, mode: Mode = "streaks", patch_size: int = 80, count: int = 1
) -> list[float]:
    """The directions of the rain, strongest first.

    Args:
        image, mode, patch_size: as for :func:`ldgp`.
        count: how many at most; each differs by more than 10 degrees from those before.

    Returns:
        Degrees from vertical in [-90, 90); multiples of 5 for ``authors``.
    """
    image8 = np.ascontiguousarray(to_uint8(image))
    if mode == "authors":
        votes = _patch_votes(image8, patch_size)
        # Ties go to whichever a set lists first, as in the authors' code.
        ranked = sorted(set(votes), key=lambda angle: -votes.count(angle))
        found = [0.0 if a in (0, 85, 90) else float(180 - a if a > 90 else -a) for a in ranked]
    else:
        scores = _direction_scores(image8)
        edged = np.concatenate([[-1.0], scores, [-1.0]])
        peaks = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= max(edged[i], edged[i + 2])]
        found = [_refined(scores, int(i)) for i in peaks]
    chosen: list[float] = []
    for angle in found:
        if all(min(abs(angle - c), 180 - abs(angle - c)) > 10 for c in chosen):
            chosen.append(angle)
    return chosen[:count]


# --- the authors' map ----------------------------------------------------------------------------


def _patch_votes(image: Map, patch_size: int) -> list[int]:
    """The direction of each full patch in degrees, columns of patches first."""
    if patch_size % _CELL or patch_size < _BLOCK * _CELL:
        raise InputError(f"a patch_size of {patch_size} is not possible; use a multiple of 8 from 32")
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    minimum = _BLOCK * _CELL
    below, right = (max(0, minimum - side) for side in gray.shape)
    gray = cv2.copyMakeBorder(gray, 0, below, 0, right, cv2.BORDER_REPLICATE)
    height, width = gray.shape
    side = min(patch_size, height // _CELL * _CELL, width // _CELL * _CELL)
    cells = side // _CELL
    blocks = cells - _BLOCK + 1
    hog = cv2.HOGDescriptor(
        (side, side),
        (minimum, minimum),
        (_CELL, _CELL),
        (_CELL, _CELL),
        _BINS,
        1,
        -1,
        cv2.HOGDescriptor_L2Hys,
        0.2,
        False,
    )
    # The authors average over the blocks that hold a cell, with row and column of the cell swapped:
    # block (by, bx) and cell (cx, cy) weigh one over the blocks that hold cell (by + cx, bx + cy).
    along = np.convolve(np.ones(blocks), np.ones(_BLOCK))
    place = np.add.outer(np.arange(blocks), np.arange(_BLOCK))
    weight = 1 / (along[place][:, None, :, None] * along[place][None, :, None, :])
    votes = []
    for x in range(0, width // side * side, side):
        for y in range(0, height // side * side, side):
            features = np.asarray(hog.compute(np.ascontiguousarray(gray[y : y + side, x : x + side])))
            by_block = features.reshape(blocks, blocks, _BLOCK, _BLOCK, _BINS).astype(np.float64)
            histogram = np.einsum("yxab,xyabk->k", weight, by_block)
            votes.append(int(histogram.argmax()) * 180 // _BINS)
    return votes


def _authors_map(image: Map, angle: float, length: int) -> Map:
    matrix, canvas = _rotation(image, angle)
    rotated = cv2.warpAffine(image, matrix, canvas, borderValue=(255, 255, 255))
    gray = cv2.cvtColor(rotated, cv2.COLOR_RGB2GRAY)
    bright = cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 5, 0)
    column = np.ones((length, 1), np.uint8)
    return _rotate_back(cv2.dilate(cv2.erode(bright, column), column), angle, image.shape[:2], 255)


def _rotation(image: npt.NDArray[Any], angle: float) -> tuple[npt.NDArray[np.float64], tuple[int, int]]:
    """The matrix that makes streaks at ``angle`` vertical, on a canvas that holds the whole image, and its size."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -angle, 1.0)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    canvas = int(height * sin + width * cos), int(height * cos + width * sin)
    matrix[:, 2] += canvas[0] / 2 - width / 2, canvas[1] / 2 - height / 2
    return np.asarray(matrix), canvas


def _rotate_back(rotated: npt.NDArray[Any], angle: float, shape: tuple[int, int], border: int) -> npt.NDArray[Any]:
    matrix, canvas = _rotation(rotated, -angle)
    sin, cos = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    height, width = shape
    top, left = int(width * sin * cos), int(height * sin * cos)
    # The canvas is truncated to whole pixels twice, so the crop may reach one or two pixels beyond it.
    canvas = max(canvas[0], left + width), max(canvas[1], top + height)
    full = cv2.warpAffine(rotated, matrix, canvas, borderValue=border)
    return np.ascontiguousarray(full[top : top + height, left : left + width])


# --- the default's map ---------------------------------------------------------------------------


def _streaks(gray: npt.NDArray[np.float32], angle: float, across: int, along: int) -> npt.NDArray[np.float32]:
    """How much brighter than both sides each pixel is, over a length along a direction; gray levels."""
    matrix, canvas = _rotation(gray, angle)
    rotated = cv2.warpAffine(gray, matrix, canvas, borderMode=cv2.BORDER_REFLECT_101)
    over = cv2.morphologyEx(rotated, cv2.MORPH_TOPHAT, np.ones((1, across), np.uint8))
    long = cv2.morphologyEx(over, cv2.MORPH_OPEN, np.ones((along | 1, 1), np.uint8))  # odd: centered
    height, width = gray.shape
    return _rotate_back(long, angle, (height, width), 0)


def _streak_map(image: Map, angle: float, length: int) -> Map:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.where(_streaks(gray, angle, _ACROSS, length) > _CONTRAST, 255, 0).astype(np.uint8)


def _direction_scores(image: Map) -> npt.NDArray[np.float64]:
    """For each candidate angle the streaks of the median patch."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = gray.shape
    scores = []
    for angle in _ANGLES:
        strength = np.minimum(_streaks(gray, angle, _ACROSS + 2, _ALONG + 4), _STRONG)
        # Patch means by area resampling, which also works for images smaller than a patch.
        patches = cv2.resize(
            strength, (max(1, width // _PATCH), max(1, height // _PATCH)), interpolation=cv2.INTER_AREA
        )
        scores.append(float(np.median(patches)))
    return np.array(scores)


def _refined(scores: npt.NDArray[np.float64], best: int) -> float:
    """The angle of a peak, refined to the top of the parabola through it and its neighbors."""
    angle = float(_ANGLES[best])
    if 0 < best < len(scores) - 1:
        before, here, after = (float(score) for score in scores[best - 1 : best + 2])
        if before < here or after < here:
            angle += _ANGLES.step * (after - before) / (2 * (2 * here - before - after))
    return angle
