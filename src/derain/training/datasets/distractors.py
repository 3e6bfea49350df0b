"""Lines that are not rain, drawn into clean training images: seams, fences, poles, wires, branches, rims.

A network that sees few of them takes the seams of a brick wall for streaks: they are thin, bright and
nearly parallel. Unlike rain they continue, repeat evenly, bend, or are dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray, UInt8Array

_FRACTION_BITS = 4  # of the coordinates of lines, for positions between pixels
_MAX_LINES = 120


def draw_distractors(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw one to three groups of lines into an image.

    Args:
        image: ``(H, W, 3)`` float32 in [0, 1].
        rng: source of all randomness.

    Returns:
        A new image of the same shape and range.
    """
    for _ in range(int(rng.integers(1, 4))):
        mask = np.zeros(image.shape[:2], np.uint8)
        rng.choice([_parallels, _parallels, _poles, _arcs, _branches])(mask, rng)  # type: ignore[arg-type]
        cover = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 1.0)).astype(np.float32)[..., None] / 255
        gray = rng.uniform(0.55, 1.0) if rng.random() < 0.65 else rng.uniform(0.0, 0.4)
        color = np.clip(gray + rng.normal(0, 0.06, 3), 0, 1).astype(np.float32)
        cover *= np.float32(rng.uniform(0.3, 1.0))
        image = image + cover * (color - image)
    return image


def _parallels(mask: UInt8Array, rng: np.random.Generator) -> None:
    """Long lines at even distances that may fan out a little, often with cross lines: bricks, fences, stripes."""
    height, width = mask.shape
    reach = math.hypot(height, width)
    # Half of them are nearly vertical like rain: those are the hard ones.
    angle = math.radians(90 + rng.normal(0, 20) if rng.random() < 0.5 else rng.uniform(0, 180))
    spacing = rng.uniform(2.5, 10) if rng.random() < 0.3 else rng.uniform(8, 45)
    thick, fan = int(rng.integers(1, max(2, min(5, int(spacing / 3) + 1)))), rng.normal(0, 0.0015)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    center = np.array([width / 2, height / 2])
    spacing = max(spacing, 2 * reach / _MAX_LINES)
    positions = np.arange(-reach, reach, spacing) + rng.uniform(0, spacing)
    for position in positions:
        tilted = angle + fan * position
        half = reach * np.array([math.cos(tilted), math.sin(tilted)])
        _line(mask, center + position * across - half, center + position * across + half, thick)
    crossing = rng.random()
    if crossing > 0.5:
        return
    pitch = max(spacing * rng.uniform(1, 4), 4 * thick)
    staggered = crossing < 0.3  # like bricks; grids are not
    count = len(positions)
    offsets = rng.uniform(0, pitch, count) if staggered else np.full(count, rng.uniform(0, pitch))
    for position, offset in zip(positions, offsets, strict=True):
        if abs(position) > reach / 2 + spacing:
            continue
        for shift in np.arange(-reach / 2, reach / 2, pitch) + offset:
            start = center + shift * along
            _line(mask, start + position * across, start + (position + spacing) * across, thick)


def _poles(mask: UInt8Array, rng: np.random.Generator) -> None:
    """A few separate straight bars, most of them nearly upright: masts, tripod legs, door edges."""
    height, width = mask.shape
    for _ in range(int(rng.integers(1, 5))):
        angle = math.radians(90 + rng.normal(0, 20) if rng.random() < 0.7 else rng.uniform(0, 180))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        half = rng.uniform(0.4, 1.5) * height
        dx, dy = half * math.cos(angle), half * math.sin(angle)
        _line(mask, (x - dx, y - dy), (x + dx, y + dy), int(rng.integers(1, 9)))


def _arcs(mask: UInt8Array, rng: np.random.Generator) -> None:
    """Ellipses, mostly cut off by the image's edge: rims of cups, wheels, letters."""
    height, width = mask.shape
    for _ in range(int(rng.integers(1, 4))):
        center = (int(rng.uniform(-0.3, 1.3) * width), int(rng.uniform(-0.3, 1.3) * height))
        axes = (int(rng.uniform(0.1, 1.0) * width), int(rng.uniform(0.1, 1.0) * height))
        start = rng.uniform(0, 360)
        end = start + rng.uniform(60, 360)
        cv2.ellipse(mask, center, axes, rng.uniform(0, 180), start, end, 255, int(rng.integers(1, 4)), cv2.LINE_AA)


def _branches(mask: UInt8Array, rng: np.random.Generator) -> None:
    """Bent lines of any direction, neither parallel nor even: twigs, hairs, grass."""
    height, width = mask.shape
    for _ in range(int(rng.integers(2, 16))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        angle, step = rng.uniform(0, 2 * math.pi), rng.uniform(3, 9)
        points = [(x, y)]
        for _ in range(int(rng.integers(3, 14))):
            angle += rng.normal(0, 0.25)
            x, y = x + step * math.cos(angle), y + step * math.sin(angle)
            points.append((x, y))
        thick = int(rng.integers(1, 3))
        for a, b in pairwise(points):
            _line(mask, a, b, thick)


def _line(
    mask: UInt8Array,
    a: Sequence[float] | npt.NDArray[np.float64],
    b: Sequence[float] | npt.NDArray[np.float64],
    thick: int,
) -> None:
    ends = [(round(x * 2**_FRACTION_BITS), round(y * 2**_FRACTION_BITS)) for x, y in (a, b)]
    cv2.line(mask, ends[0], ends[1], 255, thick, cv2.LINE_AA, _FRACTION_BITS)
