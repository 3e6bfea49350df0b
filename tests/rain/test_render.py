"""From a spec to a layer and to a rainy image."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from derain.rain import (
    PRESETS,
    Haze,
    NoiseParams,
    RainSpec,
    StreakParams,
    add_haze,
    apply_rain,
    render,
    sample_rain,
    screen_streaks,
    sloping_transmission,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(sorted(PRESETS)), st.integers(0, 10**6))
def test_any_spec_renders_at_any_size_and_is_reproducible(height, width, preset, seed):
    layers = []
    for _ in range(2):
        generator = rng(seed)
        spec = sample_rain(preset, generator)
        layers.append(render(spec, (height, width), generator))
    assert layers[0].shape == (height, width)
    assert layers[0].dtype == np.float32
    assert np.isfinite(layers[0]).all()
    assert layers[0].min() >= 0
    np.testing.assert_array_equal(*layers)


def test_apply_rain_combines_the_parts(photo):
    clean = photo / 255
    layers = (StreakParams(), NoiseParams())
    spec = RainSpec("custom", layers, "screen", Haze(0.5, 0.3, 0.8))
    layer = render(spec, photo.shape[:2], rng())
    expected = add_haze(screen_streaks(clean, layer), sloping_transmission(photo.shape[:2], 0.5, 0.3), 0.8)
    np.testing.assert_array_equal(apply_rain(clean, spec, rng()), expected)
    for preset in PRESETS:
        rainy = apply_rain(clean, sample_rain(preset, rng(2)), rng(3))
        assert rainy.shape == photo.shape
        assert 0 <= rainy.min() <= rainy.max() <= 1
        assert np.abs(rainy - clean).mean() > 1e-3
