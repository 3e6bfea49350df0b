"""Rain-streak layers rendered from parameters.

A streak is a short line segment: length, width, angle, brightness. It is rasterized by scan lines: on
each row it crosses, the few pixels near its axis get the value of its cross profile. Every streak has
its own geometry, and the cost grows only with the number of painted pixels.

Angles are in degrees from vertical, positive when streaks lean to the right going down. This holds for
the whole package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray

Profile = Literal["soft", "box"]

MAX_ANGLE = 75.0
_SIZE_RATIO = 0.65  # size of the streaks of a depth layer, relative to the previous layer
_BRIGHTNESS_RATIO = 0.8  # their brightness, likewise
_CHUNK = 20_000  # streaks rasterized at once; bounds the memory on large images


@dataclass(frozen=True)
class StreakParams:
    """Parameters of one family of streaks.

    Attributes:
        density: streaks per 10,000 pixels in the nearest depth layer.
        length: shortest and longest streak, pixels; log-uniformly distributed.
        width: thinnest and thickest streak, pixels (full width at half maximum); log-uniformly distributed.
        angle: mean direction in degrees from vertical; positive leans to the right going down.
        angle_jitter: standard deviation of the direction, degrees.
        brightness: dimmest and brightest streak in [0, 1].
        profile: ``soft`` fades across and along like a defocused drop; ``box`` has hard edges.
        flicker: depth in [0, 1] of the brightness oscillation along a streak (Garg & Nayar 2006).
        clumping: in [0, 1]; 0 distributes streaks evenly, 1 leaves empty regions between dense ones.
        blur: standard deviation of a final Gaussian blur, pixels; 0 for none.
        depth_layers: number of layers, each with smaller, dimmer and more numerous streaks.
        speed: in video, distance that a streak falls per frame, in mean streak lengths.
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
    speed: float = 2.0

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
        """The same rain at ``factor`` times the resolution."""
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
            density=self.density / _SIZE_RATIO**2,
            length=(self.length[0] * _SIZE_RATIO, self.length[1] * _SIZE_RATIO),
            width=(max(0.8, self.width[0] * _SIZE_RATIO), max(0.8, self.width[1] * _SIZE_RATIO)),
            brightness=(self.brightness[0] * _BRIGHTNESS_RATIO, self.brightness[1] * _BRIGHTNESS_RATIO),
            depth_layers=max(1, self.depth_layers - 1),
        )


def render_streaks(shape: tuple[int, int], params: StreakParams, rng: np.random.Generator) -> FloatArray:
    """Render one family of streaks on black.

    Args:
        shape: height and width of the layer, pixels.
        params: what the streaks look like.
        rng: the only source of randomness; equal generators give equal layers.

    Returns:
        ``(H, W)`` float32, not negative; overlapping streaks add up and may exceed 1.
    """
    return StreakField(shape, params, rng).render()


class StreakField:
    """Streaks that persist over time: each frame shows the same streaks, fallen further.

    Args:
        shape: height and width of the frames, pixels.
        params: what the streaks look like.
        rng: the only source of randomness; used at construction only.
    """

    def __init__(self, shape: tuple[int, int], params: StreakParams, rng: np.random.Generator) -> None:
        self.shape = shape
        self._depths: list[_Depth] = []
        for _ in range(params.depth_layers):
            self._depths.append(_Depth(shape, params, rng))
            params = params.farther()

    def render(self, time: float = 0.0) -> FloatArray:
        """The layer at a time in frames, ``(H, W)`` float32, not negative."""
        layer = np.zeros(self.shape, np.float32)
        for depth in self._depths:
            layer += depth.render(time)
        return layer


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float], n: int) -> FloatArray:
    low, high = math.log(bounds[0]), math.log(bounds[1])
    return np.exp(rng.uniform(low, high, n)).astype(np.float32)


class _Depth:
    """The streaks of one depth layer, as arrays with one entry per streak."""

    def __init__(self, shape: tuple[int, int], p: StreakParams, rng: np.random.Generator) -> None:
        height, width = shape
        self.shape, self.params = shape, p
        # Streaks centered outside the image may still reach into it.
        self.reach_y = p.length[1] / 2
        lean = math.sin(math.radians(min(abs(p.angle) + 3 * p.angle_jitter, MAX_ANGLE)))
        self.reach_x = self.reach_y * lean + p.width[1]
        area = (height + 2 * self.reach_y) * (width + 2 * self.reach_x)
        n = int(rng.poisson(p.density * area / 1e4))
        cy = rng.uniform(-self.reach_y, height + self.reach_y, n).astype(np.float32)
        cx = rng.uniform(-self.reach_x, width + self.reach_x, n).astype(np.float32)
        if p.clumping > 0 and n:
            keep = _clump_mask(cy, cx, p.clumping, rng)
            cy, cx = cy[keep], cx[keep]
            n = len(cy)
        theta = np.clip(rng.normal(p.angle, p.angle_jitter, n), -MAX_ANGLE, MAX_ANGLE)
        self.cy, self.cx = cy, cx
        self.theta = np.radians(theta).astype(np.float32)
        self.length = _log_uniform(rng, p.length, n)
        self.width = _log_uniform(rng, p.width, n)
        self.brightness = rng.uniform(p.brightness[0], p.brightness[1], n).astype(np.float32)
        self.waves = rng.uniform(0.5, 3.0, n).astype(np.float32)
        self.phase = rng.uniform(0, 2 * math.pi, n).astype(np.float32)

    def render(self, time: float) -> FloatArray:
        p = self.params
        layer = np.zeros(self.shape[0] * self.shape[1], np.float64)
        for start in range(0, len(self.cy), _CHUNK):
            self._rasterize(layer, slice(start, start + _CHUNK), time)
        image = layer.reshape(self.shape).astype(np.float32)
        if p.blur > 0.05:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), p.blur), np.float32)
        return image

    def _centers(self, part: slice, time: float) -> tuple[FloatArray, FloatArray]:
        """Center rows and columns at a time; streaks that leave the image at the bottom re-enter at the top."""
        cy, cx = self.cy[part], self.cx[part]
        if time == 0:
            return cy, cx
        fallen = np.float32(time * self.params.speed * math.sqrt(self.params.length[0] * self.params.length[1]))
        along, reach = np.cos(self.theta[part]), (self.reach_y, self.reach_x)
        spans = [n + 2 * r for n, r in zip(self.shape, reach, strict=True)]
        down = (cy + fallen * along + reach[0]) % spans[0] - reach[0]
        across = (cx + fallen * np.sin(self.theta[part]) + reach[1]) % spans[1] - reach[1]
        return down.astype(np.float32), across.astype(np.float32)

    def _rasterize(self, layer: npt.NDArray[np.float64], part: slice, time: float) -> None:
        """Add some of the streaks to the flattened layer."""
        height, width = self.shape
        p = self.params
        cy, cx = self._centers(part, time)
        theta, length, streak_width, brightness = (
            a[part] for a in (self.theta, self.length, self.width, self.brightness)
        )
        cos, slope = np.cos(theta), np.tan(theta)

        # One entry per row and streak.
        first = np.maximum(np.ceil(cy - length * cos / 2), 0).astype(np.int64)
        last = np.minimum(np.floor(cy + length * cos / 2), height - 1).astype(np.int64)
        rows_each = np.maximum(last - first + 1, 0)
        owner = np.repeat(np.arange(len(cy)), rows_each)
        if owner.size == 0:
            return
        starts = np.cumsum(rows_each) - rows_each
        row = first[owner] + (np.arange(owner.size) - starts[owner])
        dy = (row - cy[owner]).astype(np.float32)
        axis = cx[owner] + dy * slope[owner]

        value = brightness[owner]
        if p.profile == "soft":
            along = np.clip(np.abs(dy) / cos[owner] / (length[owner] / 2), 0, 1)
            value = value * (1 - along**4)
        if p.flicker > 0:
            oscillation = 2 * math.pi * self.waves[part][owner] * dy / length[owner] + self.phase[part][owner]
            value = value * (1 - p.flicker * (0.5 + 0.5 * np.sin(oscillation)))

        # The few columns around the axis; the support of a soft profile (cos²) is twice its width.
        half_support = streak_width if p.profile == "soft" else np.maximum(streak_width / 2, 0.5)
        half_columns = half_support / cos
        left = np.floor(axis - half_columns[owner]).astype(np.int64)
        column = left[:, None] + np.arange(math.ceil(2 * float(half_columns.max())) + 2)
        distance = np.abs(column - axis[:, None]).astype(np.float32) * cos[owner][:, None]
        support = half_support[owner][:, None]
        if p.profile == "soft":
            across = np.cos(np.minimum(distance / support, 1.0) * (math.pi / 2)) ** 2
        else:
            across = (distance <= support).astype(np.float32)
        painted = across * value[:, None]
        inside = (column >= 0) & (column < width) & (painted > 0)
        flat = (row[:, None] * width + column)[inside]
        layer += np.bincount(flat, weights=painted[inside], minlength=layer.size)


def _clump_mask(cy: FloatArray, cx: FloatArray, clumping: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which streaks to keep, by a smooth random field with features of about 80 pixels."""
    cell = 80.0
    y, x = (cy - cy.min()) / cell, (cx - cx.min()) / cell
    field = rng.uniform(0, 1, (int(y.max()) + 2, int(x.max()) + 2))
    y0, x0 = y.astype(np.int64), x.astype(np.int64)
    fy, fx = y - y0, x - x0
    upper = field[y0, x0] * (1 - fx) + field[y0, x0 + 1] * fx
    lower = field[y0 + 1, x0] * (1 - fx) + field[y0 + 1, x0 + 1] * fx
    probability = upper * (1 - fy) + lower * fy
    keep: npt.NDArray[np.bool_] = rng.uniform(0, 1, len(cy)) < 1 - clumping * (1 - probability)
    return keep
