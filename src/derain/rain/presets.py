"""Presets: the distributions from which the rain of an image is sampled.

The ranges of ``light`` and ``heavy`` follow the statistics of Rain100L and Rain100H (coverage,
brightness, directions, half-widths of the streaks); they are deliberately wider, with medians close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .camera import Camera
from .library import StreakLibrary
from .noise import NoiseParams
from .spec import Haze, Layer, LibraryStreaks, RainSpec
from .streaks import StreakParams

_MAX_MEAN_BRIGHTNESS = 0.45  # of heavy rain's streaks

_LayerSampler = Callable[[np.random.Generator, StreakLibrary | None], tuple[Layer, ...]]
_SpecSampler = Callable[[np.random.Generator, StreakLibrary | None], RainSpec]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A log-uniform draw."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _span(rng: np.random.Generator, low: float, high: float, ratio: float) -> tuple[float, float]:
    """A (low, high) range whose middle is log-uniform in the bounds and whose ends differ by ``ratio``."""
    middle = _log_uniform(rng, low, high)
    return middle / ratio**0.5, middle * ratio**0.5


def _family(
    *,
    coverage: float,
    length: tuple[float, float],
    width: tuple[float, float],
    clumping: float,
    depth_layers: int,
    **rest: Any,
) -> StreakParams:
    """Streaks whose density follows from ``coverage``, the mean number of streaks over a pixel."""
    area = (length[0] * length[1] * width[0] * width[1]) ** 0.5
    kept_by_clumping = 1 - clumping / 2
    return StreakParams(
        density=1e4 * coverage / (area * depth_layers * kept_by_clumping),
        length=length,
        width=width,
        clumping=clumping,
        depth_layers=depth_layers,
        **rest,
    )


def _light(rng: np.random.Generator, library: StreakLibrary | None) -> tuple[Layer, ...]:
    angle = float(rng.uniform(-35, 35))
    if library is not None and rng.random() < 0.7:
        return (LibraryStreaks(angle=angle, zoom=float(rng.uniform(0.7, 1.6)), gain=_log_uniform(rng, 0.45, 1.9)),)
    return (
        _family(
            coverage=_log_uniform(rng, 0.06, 0.3),
            length=_span(rng, 24, 80, 4),
            width=_span(rng, 1.4, 2.8, 2),
            angle=angle,
            angle_jitter=float(rng.uniform(0.5, 4)),
            brightness=(0.03, _log_uniform(rng, 0.25, 0.8)),
            profile="soft",
            flicker=float(rng.uniform(0, 0.8)),
            clumping=float(rng.uniform(0, 0.9)),
            blur=float(rng.uniform(0, 0.8)),
            depth_layers=int(rng.integers(1, 4)),
        ),
    )


def _heavy(rng: np.random.Generator, library: StreakLibrary | None) -> tuple[Layer, ...]:
    main = float(rng.normal(0, 9))
    spread = float(rng.choice([0.0, 0.0, 4.0, 12.0]))  # of the directions of the layers
    # Coverage and mean brightness of all rain are sampled per image; the brightness of a streak
    # follows from them, so that dense rain is dim and never hides the whole scene.
    coverage, light = _log_uniform(rng, 0.7, 4.0), _log_uniform(rng, 0.1, 0.42)
    count = int(rng.integers(1, 4))
    layers: list[Layer] = []
    for share in rng.dirichlet([3.0] * count):
        mean = min(light / coverage, _MAX_MEAN_BRIGHTNESS)
        dimmest = float(rng.choice([0.3, 0.9]))
        flicker = float(rng.choice([0.0, 0.5]))
        box = rng.random() < 0.65
        depths = int(rng.integers(1, 3))
        peak = mean / (0.5 + 0.5 * dimmest) / (1 - flicker / 2) / (1.0 if box else 0.8) / (1.0 if depths == 1 else 0.9)
        layers.append(
            _family(
                coverage=coverage * float(share),
                length=_span(rng, 30, 180, 3),
                width=_span(rng, 1.3, 3.6, 2),
                angle=float(np.clip(main + rng.normal(0, spread), -50, 50)),
                angle_jitter=float(rng.choice([0.3, 1.0, 3.0, 8.0])),
                brightness=(peak * dimmest, peak),
                profile="box" if box else "soft",
                flicker=flicker,
                clumping=float(rng.uniform(0, 0.6)),
                blur=float(rng.choice([0.0, 0.4, 0.8])),
                depth_layers=depths,
            )
        )
    if library is not None and rng.random() < 0.4:
        layers.append(LibraryStreaks(angle=main, zoom=float(rng.uniform(0.7, 2.0)), gain=float(rng.uniform(0.4, 1.0))))
    return tuple(layers)


def _additive(name: str, sample_layers: _LayerSampler) -> _SpecSampler:
    return lambda rng, library: RainSpec(name, sample_layers(rng, library))


def _mixed(rng: np.random.Generator, library: StreakLibrary | None) -> RainSpec:
    return RainSpec("mixed", (_light if rng.random() < 0.5 else _heavy)(rng, library))


def _noise(rng: np.random.Generator, _library: StreakLibrary | None) -> RainSpec:
    layers = []
    main = float(rng.uniform(-30, 30))
    for _ in range(int(rng.integers(1, 3))):
        length, coverage = _log_uniform(rng, 8, 50), _log_uniform(rng, 0.1, 1.2)
        layers.append(
            NoiseParams(
                amount=min(0.5, coverage / length),
                length=length,
                angle=float(np.clip(main + rng.normal(0, 4), -60, 60)),
                brightness=float(rng.uniform(0.1, 0.45)),
                thickness=float(rng.uniform(0, 0.9)),
            )
        )
    return RainSpec("noise", tuple(layers), blend="add" if rng.random() < 0.5 else "screen")


def _fine(rng: np.random.Generator) -> tuple[Layer, ...]:
    """Dense, thin, short streaks of little contrast: distant rain."""
    main = float(rng.normal(0, 12)) if rng.random() < 0.8 else float(rng.uniform(-65, 65))  # or storm, sleet
    coverage, thickness = _log_uniform(rng, 0.15, 2.0), float(rng.uniform(0, 1.1))
    # As in heavy rain, dense rain is dim; wide streaks carry more light.
    brightness = min(_log_uniform(rng, 0.05, 0.5), 0.35 / (coverage * (1 + 2 * np.pi * thickness**2) ** 0.5))
    layers = []
    for share in rng.dirichlet([2.0] * int(rng.integers(1, 4))):
        length = _log_uniform(rng, 5, 45)
        layers.append(
            NoiseParams(
                amount=min(0.5, max(0.02, share) * coverage / length),
                length=length,
                angle=float(np.clip(main + rng.normal(0, 4), -70, 70)),
                brightness=brightness * _log_uniform(rng, 0.6, 1.6),
                thickness=thickness,
            )
        )
    return tuple(layers)


def _near(rng: np.random.Generator) -> Layer:
    """A few wide, soft streaks: drops near the camera, out of focus."""
    return _family(
        coverage=_log_uniform(rng, 0.01, 0.12),
        length=_span(rng, 40, 160, 3),
        width=_span(rng, 3, 7, 2),
        angle=float(rng.uniform(-35, 35)),
        angle_jitter=float(rng.uniform(0.5, 5)),
        brightness=(0.03, _log_uniform(rng, 0.06, 0.3)),
        clumping=0.0,
        blur=float(rng.uniform(0.5, 2)),
        depth_layers=1,
    )


def _drops(rng: np.random.Generator) -> Layer:
    """Short streaks: drops that a short exposure hardly elongates."""
    return _family(
        coverage=_log_uniform(rng, 0.005, 0.08),
        length=_span(rng, 2.5, 8, 2),
        width=_span(rng, 1.2, 2.5, 2),
        angle=float(rng.uniform(-35, 35)),
        angle_jitter=float(rng.uniform(2, 12)),
        brightness=(0.05, _log_uniform(rng, 0.2, 0.8)),
        clumping=float(rng.uniform(0, 0.5)),
        blur=float(rng.uniform(0, 0.6)),
        depth_layers=int(rng.integers(1, 3)),
    )


def _real(rng: np.random.Generator, library: StreakLibrary | None) -> RainSpec:
    layers: list[Layer] = []
    fine = rng.random() < 0.55
    if fine:
        layers += _fine(rng)
    if not fine or rng.random() < 0.4:
        layers += _light(rng, library)
    if rng.random() < 0.2:
        layers.append(_near(rng))
    if rng.random() < 0.15:
        layers.append(_drops(rng))
    haze = Haze(float(rng.uniform(0.05, 1.0)), float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.55, 0.95)))
    camera = Camera(
        shot_noise=float(rng.uniform(0, 4e-4)),
        read_noise=float(rng.uniform(0, 6e-3)),
        jpeg_quality=int(rng.integers(60, 97)) if rng.random() < 0.7 else None,
        blur=float(rng.uniform(0.2, 0.9)) if rng.random() < 0.3 else 0.0,
        sharpening=float(rng.uniform(0.2, 1.2)) if rng.random() < 0.4 else 0.0,
    )
    blend: Literal["add", "screen"] = "screen" if rng.random() < 0.75 else "add"
    return RainSpec("real", tuple(layers), blend, haze if rng.random() < 0.6 else None, camera)


PRESETS: dict[str, _SpecSampler] = {
    "light": _additive("light", _light),
    "heavy": _additive("heavy", _heavy),
    "mixed": _mixed,
    "noise": _noise,
    "real": _real,
}


def sample_rain(preset: str, rng: np.random.Generator, library: StreakLibrary | None = None) -> RainSpec:
    """Sample the rain of one image from a preset.

    Args:
        preset: ``light`` (close to Rain100L), ``heavy`` (close to Rain100H), ``mixed`` (either
            of them, with equal probability), ``noise`` (motion-blurred noise, as in Rain800) or ``real`` (light,
            fine and near streaks and drops, mostly screened; haze; camera).
        rng: the only source of randomness.
        library: if given, some of the layers are sampled from its images.

    Raises:
        ValueError: unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown rain preset {preset!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[preset](rng, library)
