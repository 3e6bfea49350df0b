"""The distributions of the presets."""

from __future__ import annotations

import numpy as np
import pytest

from derain.rain import PRESETS, NoiseParams, RainSpec, StreakParams, apply_rain, render, sample_rain


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_presets_have_the_statistics_they_claim():
    """Medians near Rain100L's and Rain100H's: share of pixels above 4/255, percentiles of 255."""
    claims = {
        "light": {"covered": (0.12, 0.32), "p50": (0, 4), "p90": (8, 32), "p99": (45, 95)},
        "heavy": {"covered": (0.82, 0.97), "p50": (35, 62), "p90": (80, 125), "p99": (125, 180)},
    }
    for preset, bounds in claims.items():
        rows = []
        for seed in range(40):
            generator = rng(seed)
            layer = render(sample_rain(preset, generator), (200, 200), generator)
            rows.append([(layer > 4 / 255).mean(), *np.percentile(layer, [50, 90, 99]) * 255])
        for (name, (low, high)), value in zip(bounds.items(), np.median(rows, axis=0), strict=True):
            assert low <= value <= high, (preset, name)


def test_heavy_rain_never_hides_a_whole_scene():
    for seed in range(60):
        generator = rng(seed)
        rainy = apply_rain(np.full((120, 120, 3), 0.45, np.float32), sample_rain("heavy", generator), generator)
        assert (rainy >= 1).mean() < 0.6, seed


def test_an_unknown_preset_raises():
    with pytest.raises(ValueError, match="choose one of light, heavy, mixed"):
        sample_rain("unknown", rng())


def test_real_rain_varies():
    """Fine streaks in about half of the images, near ones and drops in some; dense rain is never bright."""
    specs = [sample_rain("real", rng(seed)) for seed in range(200)]
    fine = [[part for part in spec.layers if isinstance(part, NoiseParams)] for spec in specs]
    assert 0.4 < np.mean([bool(parts) for parts in fine]) < 0.7
    assert all(spec.layers for spec in specs)
    widest = [max((p.width[1] for p in r.layers if isinstance(p, StreakParams)), default=0) for r in specs]
    assert 0.1 < np.mean(np.array(widest) > 4) < 0.3
    shortest = [min((p.length[1] for p in r.layers if isinstance(p, StreakParams)), default=99) for r in specs]
    assert 0.05 < np.mean(np.array(shortest) < 12) < 0.25
    for spec, parts in zip(specs[:40], fine[:40], strict=True):
        if parts:
            assert render(RainSpec("fine", tuple(parts)), (96, 96), rng()).mean() < 0.5, spec


def test_the_command_line_has_the_same_preset_names():
    from derain.cli import options

    assert tuple(PRESETS) == options.PRESETS
