"""Compositing against the formulas of the papers."""

from __future__ import annotations

import numpy as np
import pytest

from derain.rain import (
    StreakParams,
    add_haze,
    add_streaks,
    render_streaks,
    screen_streaks,
    sloping_transmission,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_adding_streaks_is_the_additive_model(photo):
    layer = render_streaks(photo.shape[:2], StreakParams(), rng())
    rainy = add_streaks(photo / 255, layer)
    unclipped = rainy < 1
    added = rainy - photo / 255
    np.testing.assert_allclose(added[unclipped], np.repeat(layer[..., None], 3, 2)[unclipped], atol=1e-6)
    assert rainy.max() <= 1
    with pytest.raises(ValueError, match="agree"):
        add_streaks(photo / 255, layer[1:])


def test_screen_is_its_formula_and_never_clips(photo):
    clean = photo / 255
    layer = render_streaks(photo.shape[:2], StreakParams(brightness=(0.3, 0.9)), rng())
    rainy = screen_streaks(clean, layer)
    np.testing.assert_allclose(rainy, clean + (1 - clean) * np.clip(layer, 0, 1)[..., None], atol=1e-6)
    assert (rainy <= add_streaks(clean, layer) + 1e-6).all()


def test_haze_is_koschmieders_law(photo):
    clean = photo / 255
    transmission = sloping_transmission(photo.shape[:2], density=0.7, horizon=0.3)
    np.testing.assert_allclose(transmission[0], np.exp(-0.7), atol=1e-6)
    assert (np.diff(transmission[:, 0]) >= 0).all(), "nearer ground has less haze"
    hazy = add_haze(clean, transmission, 0.8)
    np.testing.assert_allclose(hazy, transmission[..., None] * clean + (1 - transmission[..., None]) * 0.8, atol=1e-6)
    np.testing.assert_allclose(add_haze(clean, np.ones(photo.shape[:2]), 0.8), clean, atol=1e-6)
    with pytest.raises(ValueError, match="lie in"):
        add_haze(clean, transmission + 1, 0.8)
