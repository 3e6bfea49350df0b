"""Rain-streak layers rendered from parameters.

A streak is a short line segment: length, width, angle, brightness. It is drawn by scan lines: on
each row it crosses, the few pixels near its axis get the value of its cross profile, so that every
streak has its own geometry and the cost grows with the painted pixels alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Profile = Literal["soft", "box"]

MAX_ANGLE = 75.0
_FARTHER = 0.65  # size of a streak in one depth layer, relative to the layer before it
_DIMMER = 0.8  # brightness, likewise
_CHUNK = 20_000  # streaks painted at once: bounds the memory on large pictures


@dataclass(frozen=True)
class StreakParams:
    """What one family of streaks looks like.

    Attributes:
        density: streaks per 10,000 pixels in the nearest depth layer.
        length: shortest and longest streak, pixels; drawn log-uniformly.
        width: thinnest and thickest streak, pixels (full width at half maximum); log-uniformly.
        angle: mean direction in degrees from vertical; positive leans to the right going down.
        angle_jitter: standard deviation of the direction, degrees.
        brightness: dimmest and brightest streak in [0, 1].
        profile: ``soft`` fades across and along like a defocused drop; ``box`` has hard edges.
        flicker: depth in [0, 1] of the brightness oscillation along a streak (Garg & Nayar 2006).
        clumping: in [0, 1]; 0 spreads streaks evenly, 1 leaves bare regions between dense ones.
        blur: standard deviation of a final Gaussian blur, pixels; 0 for none.
        depth_layers: number of layers, each with smaller, dimmer and more numerous streaks.
    """

    density: float = 20.0
    length: tuple[float, float] = (10.0, 40.0)
    width: tuple[float, float] = (1.0, 2.0)
    angle: float = 0.0
    angle_jitter: float = 2.0
    brightness: tuple[float, float] = (0.1, 0.5)
    profile: Profile = "soft"
    flicker: float = 0.0
    clumping: float = 0.0
    blur: float = 0.0
    depth_layers: int = 1

    def __post_init__(self) -> None:
        if self.density < 0 or self.blur < 0:
            raise ValueError("density and blur must not be negative")
        for name in ("length", "width", "brightness"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be (low, high) with 0 < low <= high, not {(low, high)}")
        if abs(self.angle) > MAX_ANGLE:
            raise ValueError(f"angle must lie within ±{MAX_ANGLE:g} degrees from vertical, not {self.angle:g}")
        if self.depth_layers < 1:
            raise ValueError("depth_layers must be at least 1")

    def scaled(self, factor: float) -> StreakParams:
        """The same rain seen ``factor`` times larger (a picture of higher resolution)."""
        return replace(
            self,
            density=self.density / factor**2,
            length=(self.length[0] * factor, self.length[1] * factor),
            width=(self.width[0] * factor, self.width[1] * factor),
            blur=self.blur * factor,
        )

    def farther(self) -> StreakParams:
        """The next depth layer: smaller, dimmer, more numerous streaks."""
        return replace(
            self,
            density=self.density / _FARTHER**2,
            length=(self.length[0] * _FARTHER, self.length[1] * _FARTHER),
            width=(max(0.8, self.width[0] * _FARTHER), max(0.8, self.width[1] * _FARTHER)),
            brightness=(self.brightness[0] * _DIMMER, self.brightness[1] * _DIMMER),
            depth_layers=max(1, self.depth_layers - 1),
        )


def render_streaks(shape: tuple[int, int], params: StreakParams, rng: np.random.Generator) -> FloatArray:
    """Render one family of streaks on black.

    Args:
        shape: height and width of the layer, pixels.
        params: what the streaks look like.
        rng: the only source of chance; equal generators give equal layers.

    Returns:
        ``(H, W)`` float32, not negative; overlapping streaks add up and may exceed 1.
    """
    layer = _render_one_depth(shape, params, rng)
    if params.blur > 0.05:
        layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), params.blur), np.float32)
    if params.depth_layers > 1:
        layer = layer + render_streaks(shape, params.farther(), rng)
    return layer


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float], n: int) -> FloatArray:
    low, high = math.log(bounds[0]), math.log(bounds[1])
    return np.exp(rng.uniform(low, high, n)).astype(np.float32)


def _render_one_depth(shape: tuple[int, int], p: StreakParams, rng: np.random.Generator) -> FloatArray:
    height, width = shape
    # Streaks centred outside the picture still reach into it.
    reach_y = p.length[1] / 2
    lean = math.sin(math.radians(min(abs(p.angle) + 3 * p.angle_jitter, MAX_ANGLE)))
    reach_x = reach_y * lean + p.width[1]
    area = (height + 2 * reach_y) * (width + 2 * reach_x)
    n = int(rng.poisson(p.density * area / 1e4))
    cy = rng.uniform(-reach_y, height + reach_y, n).astype(np.float32)
    cx = rng.uniform(-reach_x, width + reach_x, n).astype(np.float32)
    if p.clumping > 0 and n:
        keep = _clump_mask(cy, cx, p.clumping, rng)
        cy, cx = cy[keep], cx[keep]

    layer = np.zeros(height * width, np.float64)
    for start in range(0, len(cy), _CHUNK):
        part = slice(start, start + _CHUNK)
        _paint(layer, shape, cy[part], cx[part], p, rng)
    return layer.reshape(shape).astype(np.float32)


def _paint(
    layer: npt.NDArray[np.float64],
    shape: tuple[int, int],
    cy: FloatArray,
    cx: FloatArray,
    p: StreakParams,
    rng: np.random.Generator,
) -> None:
    """Add the streaks centred at ``(cy, cx)`` to the flat layer."""
    height, width = shape
    n = len(cy)
    theta = np.clip(rng.normal(p.angle, p.angle_jitter, n), -MAX_ANGLE, MAX_ANGLE)
    theta = np.radians(theta).astype(np.float32)
    length = _log_uniform(rng, p.length, n)
    wide = _log_uniform(rng, p.width, n)
    bright = rng.uniform(p.brightness[0], p.brightness[1], n).astype(np.float32)
    waves = rng.uniform(0.5, 3.0, n).astype(np.float32)
    phase = rng.uniform(0, 2 * math.pi, n).astype(np.float32)
    cos, slope = np.cos(theta), np.tan(theta)

    # One entry a row and streak.
    first = np.maximum(np.ceil(cy - length * cos / 2), 0).astype(np.int64)
    last = np.minimum(np.floor(cy + length * cos / 2), height - 1).astype(np.int64)
    rows_each = np.maximum(last - first + 1, 0)
    owner = np.repeat(np.arange(n), rows_each)
    if owner.size == 0:
        return
    starts = np.cumsum(rows_each) - rows_each
    row = first[owner] + (np.arange(owner.size) - starts[owner])
    dy = (row - cy[owner]).astype(np.float32)
    axis = cx[owner] + dy * slope[owner]

    value = bright[owner]
    if p.profile == "soft":
        along = np.clip(np.abs(dy) / cos[owner] / (length[owner] / 2), 0, 1)
        value = value * (1 - along**4)
    if p.flicker > 0:
        turn = 2 * math.pi * waves[owner] * dy / length[owner] + phase[owner]
        value = value * (1 - p.flicker * (0.5 + 0.5 * np.sin(turn)))

    # The few columns around the axis; a soft profile (cos²) is twice as wide at its foot.
    half_foot = wide if p.profile == "soft" else np.maximum(wide / 2, 0.5)
    half_columns = half_foot / cos
    left = np.floor(axis - half_columns[owner]).astype(np.int64)
    column = left[:, None] + np.arange(math.ceil(2 * float(half_columns.max())) + 2)
    distance = np.abs(column - axis[:, None]).astype(np.float32) * cos[owner][:, None]
    foot = half_foot[owner][:, None]
    if p.profile == "soft":
        across = np.cos(np.minimum(distance / foot, 1.0) * (math.pi / 2)) ** 2
    else:
        across = (distance <= foot).astype(np.float32)
    painted = across * value[:, None]
    inside = (column >= 0) & (column < width) & (painted > 0)
    flat = (row[:, None] * width + column)[inside]
    layer += np.bincount(flat, weights=painted[inside], minlength=layer.size)


def _clump_mask(cy: FloatArray, cx: FloatArray, clumping: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Thin the streaks out by a smooth random field with features of some 80 pixels."""
    cell = 80.0
    y, x = (cy - cy.min()) / cell, (cx - cx.min()) / cell
    field = rng.uniform(0, 1, (int(y.max()) + 2, int(x.max()) + 2))
    y0, x0 = y.astype(np.int64), x.astype(np.int64)
    fy, fx = y - y0, x - x0
    upper = field[y0, x0] * (1 - fx) + field[y0, x0 + 1] * fx
    lower = field[y0 + 1, x0] * (1 - fx) + field[y0 + 1, x0 + 1] * fx
    chance = upper * (1 - fy) + lower * fy
    keep: npt.NDArray[np.bool_] = rng.uniform(0, 1, len(cy)) < 1 - clumping * (1 - chance)
    return keep
