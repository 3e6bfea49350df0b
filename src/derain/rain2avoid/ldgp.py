"""LDGP: where a single rainy picture has rain, from its gradients alone (Rain2Avoid, ICASSP 2023, 2.1).

Rain streaks of a picture share one direction, and a streak is brighter than what lies beside it.

``authors`` computes what the published code does, bit for bit with OpenCV 4:
gradient histograms (HOG, Dalal and Triggs, CVPR 2005) of square patches vote for the direction; the
picture is turned until the rain falls straight down; what is brighter than the mean of its 5×5
neighbors and stays so over ``kernel_size`` pixels down is rain; the map is turned back. Three quirks of
that code are kept:

- the cells of a HOG block come column by column and are read row by row, so that the averaging over
  overlapping blocks takes swapped cells;
- an opening with an even kernel moves the map down by one pixel;
- turning back interpolates, so the map has gray values; those up to 10 are neither rain nor clean.

``streaks``, the default, keeps the principle and measures each part: rain must be brighter than both
sides by more than the noise (a top-hat across, then an opening along, the streak), and the direction is
the one in which the typical patch holds most of that, so that a few strong edges of the scene cannot
decide it. On Rain100L's slice it finds more of the rain with fewer mistakes (docs/rain2avoid.md).
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

#: What a value of the map must exceed to be rain.
THRESHOLD = 10
_CELL = 8
_BLOCK = 4  # cells along a block's side
_BINS = 36

# The default's settings, chosen on Rain100L's slice (width and least) or from its streak lengths.
_ACROSS = 5  # widest thing that counts as a streak is one pixel less
_ALONG = 13
_CONTRAST = 2.0  # gray levels of 255
_ANGLES = range(-45, 46, 3)
_PATCH = 40
_STRONG = 30.0  # gray levels: a brighter streak counts no more for the direction


def ldgp(
    image: npt.NDArray[Any],
    *,
    mode: Mode = "streaks",
    patch_size: int = 80,
    kernel_size: int | None = None,
    angles: Sequence[float] | None = None,
    directions: int = 1,
) -> Map:
    """The rain map of a picture.

    Args:
        image: ``(H, W, 3)`` RGB, uint8 or float in [0, 1]; any size.
        mode: ``streaks`` or ``authors``.
        patch_size: side of the voting patches of ``authors``, a multiple of 8 from 32; smaller pictures
            take the largest that fits.
        kernel_size: least length of a streak, pixels; 10 for ``authors``, 13 for ``streaks``.
        angles: directions of the rain in degrees, 0 falling straight, positive leaning left going down;
            found from the picture if ``None``.
        directions: how many directions to find; their maps are united.

    Returns:
        ``(H, W)`` uint8: 0 is clean, above :data:`THRESHOLD` is rain.

    Raises:
        InputError: another shape, unknown mode, or sizes that cannot be.
    """
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"an array of shape {image.shape} is not a color picture; use (H, W, 3), RGB last")
    if mode not in ("authors", "streaks"):
        raise InputError(f"unknown mode {mode!r}; choose authors or streaks")
    length = kernel_size if kernel_size is not None else (10 if mode == "authors" else _ALONG)
    if length < 1 or directions < 1:
        raise InputError("kernel_size and directions must be at least 1")
    eight = np.ascontiguousarray(to_uint8(image))
    if angles is None:
        angles = rain_angles(eight, mode=mode, patch_size=patch_size, count=directions)
    one = _authors_map if mode == "authors" else _streak_map
    united = one(eight, angles[0], length)
    for angle in angles[1:]:
        np.maximum(united, one(eight, angle, length), out=united)
    return united


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
        count: how many; further ones differ by more than 10 degrees from those before. There may be
            fewer.

    Returns:
        Degrees from vertical in (-90, 90], positive leaning left going down; whole multiples of 5 for
        ``authors``.
    """
    eight = np.ascontiguousarray(to_uint8(image))
    if mode == "authors":
        votes = _patch_votes(eight, patch_size)
        # Ties go to whichever a set lists first, as in the authors' code.
        ranked = sorted(set(votes), key=lambda angle: -votes.count(angle))
        found = [0.0 if a in (85, 90) else float(a - 180 if a > 90 else a) for a in ranked]
    else:
        scores = _direction_scores(eight)
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
        raise InputError(f"a patch_size of {patch_size} cannot be; use a multiple of 8 from 32")
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    least = _BLOCK * _CELL
    below, right = (max(0, least - side) for side in gray.shape)
    gray = cv2.copyMakeBorder(gray, 0, below, 0, right, cv2.BORDER_REPLICATE)
    height, width = gray.shape
    side = min(patch_size, height // _CELL * _CELL, width // _CELL * _CELL)
    cells = side // _CELL
    blocks = cells - _BLOCK + 1
    hog = cv2.HOGDescriptor(
        (side, side), (least, least), (_CELL, _CELL), (_CELL, _CELL), _BINS, 1, -1, cv2.HOGDescriptor_L2Hys, 0.2, False
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
    upright, back = _turn(image, angle)
    turned = cv2.warpAffine(image, upright, back, borderValue=(255, 255, 255))
    gray = cv2.cvtColor(turned, cv2.COLOR_RGB2GRAY)
    bright = cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 5, 0)
    column = np.ones((length, 1), np.uint8)
    return _turned_back(cv2.dilate(cv2.erode(bright, column), column), angle, image.shape[:2], 255)


def _turn(image: npt.NDArray[Any], angle: float) -> tuple[npt.NDArray[np.float64], tuple[int, int]]:
    """The matrix that turns a picture about its middle into a canvas that holds all of it, and the canvas."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    canvas = int(height * sin + width * cos), int(height * cos + width * sin)
    matrix[:, 2] += canvas[0] / 2 - width / 2, canvas[1] / 2 - height / 2
    return np.asarray(matrix), canvas


def _turned_back(turned: npt.NDArray[Any], angle: float, shape: tuple[int, int], border: int) -> npt.NDArray[Any]:
    matrix, canvas = _turn(turned, -angle)
    sin, cos = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    height, width = shape
    top, left = int(width * sin * cos), int(height * sin * cos)
    # A canvas is cut to whole pixels twice, so that the crop may reach one or two beyond it.
    canvas = max(canvas[0], left + width), max(canvas[1], top + height)
    full = cv2.warpAffine(turned, matrix, canvas, borderValue=border)
    return np.ascontiguousarray(full[top : top + height, left : left + width])


# --- the default's map ---------------------------------------------------------------------------


def _streaks(gray: npt.NDArray[np.float32], angle: float, across: int, along: int) -> npt.NDArray[np.float32]:
    """How much brighter than its sides each pixel is over a length in a direction; gray levels."""
    matrix, canvas = _turn(gray, angle)
    turned = cv2.warpAffine(gray, matrix, canvas, borderMode=cv2.BORDER_REFLECT_101)
    over = cv2.morphologyEx(turned, cv2.MORPH_TOPHAT, np.ones((1, across), np.uint8))
    long = cv2.morphologyEx(over, cv2.MORPH_OPEN, np.ones((along | 1, 1), np.uint8))  # odd: centered
    height, width = gray.shape
    return _turned_back(long, angle, (height, width), 0)


def _streak_map(image: Map, angle: float, length: int) -> Map:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.where(_streaks(gray, angle, _ACROSS, length) > _CONTRAST, 255, 0).astype(np.uint8)


def _direction_scores(image: Map) -> npt.NDArray[np.float64]:
    """For each of the tried angles the streaks of the median patch."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = gray.shape
    scores = []
    for angle in _ANGLES:
        strength = np.minimum(_streaks(gray, angle, _ACROSS + 2, _ALONG + 4), _STRONG)
        # Patch means by area resampling, which also serves pictures smaller than a patch.
        patches = cv2.resize(
            strength, (max(1, width // _PATCH), max(1, height // _PATCH)), interpolation=cv2.INTER_AREA
        )
        scores.append(float(np.median(patches)))
    return np.array(scores)


def _refined(scores: npt.NDArray[np.float64], best: int) -> float:
    """The angle of a peak, moved to the top of the parabola through it and its neighbors."""
    angle = float(_ANGLES[best])
    if 0 < best < len(scores) - 1:
        before, here, after = (float(score) for score in scores[best - 1 : best + 2])
        if before < here or after < here:
            angle += _ANGLES.step * (after - before) / (2 * (2 * here - before - after))
    return angle
