"""Lines that are no rain, drawn into clean training pictures: seams, fences, poles, wires, branches, rims.

A network that meets few of them takes the seams of a brick wall for streaks: they are thin, bright and
nearly parallel. What tells them from rain is that they go on, repeat evenly, bend, or are dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float32]
_FINE = 4  # lines are drawn with this many fractional bits, so that they lie between pixels too
_MOST_LINES = 120


def draw_distractors(picture: Picture, rng: np.random.Generator) -> Picture:
    """Draw one to three groups of lines into a picture.

    Args:
        picture: ``(H, W, 3)`` float32 in [0, 1].
        rng: the only source of chance.

    Returns:
        A new picture of the same shape and range.
    """
    for _ in range(int(rng.integers(1, 4))):
        mask = np.zeros(picture.shape[:2], np.uint8)
        rng.choice([_family, _family, _poles, _arcs, _branches])(mask, rng)  # type: ignore[arg-type]
        cover = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 1.0)).astype(np.float32)[..., None] / 255
        gray = rng.uniform(0.55, 1.0) if rng.random() < 0.65 else rng.uniform(0.0, 0.4)
        color = np.clip(gray + rng.normal(0, 0.06, 3), 0, 1).astype(np.float32)
        cover *= np.float32(rng.uniform(0.3, 1.0))
        picture = picture + cover * (color - picture)
    return picture


def _family(mask: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Long lines at even distances that may fan out a little, often crossed: bricks, fences, striped cloth."""
    height, width = mask.shape
    reach = math.hypot(height, width)
    # Half of them stand like rain: those are the hard ones.
    angle = math.radians(90 + rng.normal(0, 20) if rng.random() < 0.5 else rng.uniform(0, 180))
    gap = rng.uniform(2.5, 10) if rng.random() < 0.3 else rng.uniform(8, 45)
    thick, fan = int(rng.integers(1, max(2, min(5, int(gap / 3) + 1)))), rng.normal(0, 0.0015)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    center = np.array([width / 2, height / 2])
    gap = max(gap, 2 * reach / _MOST_LINES)
    places = np.arange(-reach, reach, gap) + rng.uniform(0, gap)
    for place in places:
        lean = angle + fan * place
        way = reach * np.array([math.cos(lean), math.sin(lean)])
        _line(mask, center + place * across - way, center + place * across + way, thick)
    crossed = rng.random()
    if crossed > 0.5:
        return
    long = max(gap * rng.uniform(1, 4), 4 * thick)
    offsets = rng.uniform(0, long, len(places)) if crossed < 0.3 else np.full(len(places), rng.uniform(0, long))
    for place, offset in zip(places, offsets, strict=True):  # bricks are staggered from course to course, grids are not
        if abs(place) > reach / 2 + gap:
            continue
        for at in np.arange(-reach / 2, reach / 2, long) + offset:
            here = center + at * along
            _line(mask, here + place * across, here + (place + gap) * across, thick)


def _poles(mask: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Masts, legs of a tripod, edges of doors: a few straight bars, each by itself, most of them nearly upright."""
    height, width = mask.shape
    for _ in range(int(rng.integers(1, 5))):
        angle = math.radians(90 + rng.normal(0, 20) if rng.random() < 0.7 else rng.uniform(0, 180))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        half = rng.uniform(0.4, 1.5) * height
        way = (half * math.cos(angle), half * math.sin(angle))
        _line(mask, (x - way[0], y - way[1]), (x + way[0], y + way[1]), int(rng.integers(1, 9)))


def _arcs(mask: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Rims of cups, wheels, letters: ellipses, mostly cut off by the picture's edge."""
    height, width = mask.shape
    for _ in range(int(rng.integers(1, 4))):
        center = (int(rng.uniform(-0.3, 1.3) * width), int(rng.uniform(-0.3, 1.3) * height))
        axes = (int(rng.uniform(0.1, 1.0) * width), int(rng.uniform(0.1, 1.0) * height))
        start = rng.uniform(0, 360)
        end = start + rng.uniform(60, 360)
        cv2.ellipse(mask, center, axes, rng.uniform(0, 180), start, end, 255, int(rng.integers(1, 4)), cv2.LINE_AA)


def _branches(mask: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Twigs, hairs, grass: bent lines of any direction, neither parallel nor even."""
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
    mask: npt.NDArray[np.uint8],
    a: Sequence[float] | npt.NDArray[np.float64],
    b: Sequence[float] | npt.NDArray[np.float64],
    thick: int,
) -> None:
    ends = [(round(x * 2**_FINE), round(y * 2**_FINE)) for x, y in (a, b)]
    cv2.line(mask, ends[0], ends[1], 255, thick, cv2.LINE_AA, _FINE)
