"""Presets: what rain to draw for one picture, as data, then one layer from that data.

Their ranges follow the statistics of the public sets measured in additive rain (coverage, brightness
percentiles, directions): ``light`` is close to Rain100L, ``heavy`` to Rain100H.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .library import StreakLibrary
from .streaks import FloatArray, StreakParams, render_streaks


@dataclass(frozen=True)
class PicturedStreaks:
    """A layer taken from a streak library instead of being rendered."""

    angle: float
    zoom: float
    gain: float


@dataclass(frozen=True)
class Recipe:
    """All the rain of one picture: layers that are added together."""

    preset: str
    layers: tuple[StreakParams | PicturedStreaks, ...] = field(default_factory=tuple)

    def describe(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return {"preset": self.preset, "layers": [asdict(layer) for layer in self.layers]}


def render(
    recipe: Recipe,
    shape: tuple[int, int],
    rng: np.random.Generator,
    library: StreakLibrary | None = None,
    scale: float = 1.0,
) -> FloatArray:
    """Draw a recipe as one grey layer.

    Args:
        recipe: from :func:`sample_recipe`.
        shape: height and width, pixels.
        rng: the only source of chance.
        library: needed when the recipe holds pictured streaks.
        scale: size of the rain relative to a picture of some 480×320 pixels.

    Returns:
        ``(H, W)`` float32, not negative.
    """
    layer = np.zeros(shape, np.float32)
    for part in recipe.layers:
        if isinstance(part, StreakParams):
            layer += render_streaks(shape, part.scaled(scale), rng)
        elif library is None:
            raise ValueError("this recipe holds pictured streaks: give the library it was sampled with")
        else:
            layer += part.gain * library.sample(shape, rng, angle=part.angle, zoom=part.zoom * scale)
    return layer


def _span(rng: np.random.Generator, low: float, high: float, ratio: float) -> tuple[float, float]:
    """A (low, high) range whose middle is log-uniform in the bounds and whose ends differ by ``ratio``."""
    middle = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return middle / ratio**0.5, middle * ratio**0.5


def _light(rng: np.random.Generator, library: StreakLibrary | None) -> tuple[StreakParams | PicturedStreaks, ...]:
    angle = float(rng.uniform(-35, 35))
    if library is not None and rng.random() < 0.7:
        pictured = PicturedStreaks(angle=angle, zoom=float(rng.uniform(0.7, 1.5)), gain=float(rng.uniform(0.5, 1.1)))
        return (pictured,)
    rendered = StreakParams(
        density=float(np.exp(rng.uniform(np.log(4), np.log(30)))),
        length=_span(rng, 12, 50, 4),
        width=_span(rng, 0.9, 2.2, 2),
        angle=angle,
        angle_jitter=float(rng.uniform(0.5, 4)),
        brightness=(0.03, float(rng.uniform(0.25, 0.8))),
        profile="soft",
        flicker=float(rng.uniform(0, 0.8)),
        clumping=float(rng.uniform(0, 0.9)),
        blur=float(rng.uniform(0, 0.8)),
        depth_layers=int(rng.integers(1, 4)),
    )
    return (rendered,)


def _heavy(rng: np.random.Generator, library: StreakLibrary | None) -> tuple[StreakParams | PicturedStreaks, ...]:
    layers: list[StreakParams | PicturedStreaks] = []
    main = float(rng.normal(0, 9))
    spread = float(rng.choice([0.0, 8.0, 20.0]))  # directions laid over each other
    strength = float(rng.uniform(0.5, 1.0))
    count = int(rng.integers(1, 4))
    for _ in range(count):
        angle = float(np.clip(main + rng.normal(0, spread), -50, 50))
        box = rng.random() < 0.65
        width = _span(rng, 1.0, 3.2, 2)
        length = _span(rng, 14, 110, 3)
        # Density from the share of the picture that this family paints (overlaps counted twice).
        paint = float(np.exp(rng.uniform(np.log(0.25), np.log(1.6))))
        area = (length[0] * length[1] * width[0] * width[1]) ** 0.5
        # The more it paints, the dimmer: denser rain would hide the scene altogether.
        peak = min(strength * float(rng.uniform(0.15, 0.5)), 0.5 / (paint * count**0.5))
        layers.append(
            StreakParams(
                density=1e4 * paint / area,
                length=length,
                width=width,
                angle=angle,
                angle_jitter=float(rng.choice([0.3, 2.0, 6.0, 14.0])),
                brightness=(peak * float(rng.choice([0.3, 0.9])), peak),
                profile="box" if box else "soft",
                flicker=float(rng.choice([0.0, 0.5])),
                clumping=float(rng.uniform(0, 0.6)),
                blur=float(rng.choice([0.0, 0.4, 0.8])),
                depth_layers=int(rng.integers(1, 3)),
            )
        )
    if library is not None and rng.random() < 0.4:
        layers.append(PicturedStreaks(angle=main, zoom=float(rng.uniform(0.7, 2.0)), gain=float(rng.uniform(0.6, 1.4))))
    return tuple(layers)


def _mixed(rng: np.random.Generator, library: StreakLibrary | None) -> tuple[StreakParams | PicturedStreaks, ...]:
    return (_light if rng.random() < 0.5 else _heavy)(rng, library)


_Sampler = Callable[[np.random.Generator, "StreakLibrary | None"], tuple["StreakParams | PicturedStreaks", ...]]
PRESETS: dict[str, _Sampler] = {"light": _light, "heavy": _heavy, "mixed": _mixed}


def sample_recipe(preset: str, rng: np.random.Generator, library: StreakLibrary | None = None) -> Recipe:
    """Draw the rain of one picture from a preset.

    Args:
        preset: ``light``, ``heavy`` or ``mixed`` (one or the other, evenly).
        rng: the only source of chance.
        library: when given, part of the layers come from its pictures.

    Raises:
        ValueError: unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown rain preset {preset!r}; choose one of {', '.join(PRESETS)}")
    return Recipe(preset, PRESETS[preset](rng, library))
