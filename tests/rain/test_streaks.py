"""Rendered streaks: geometry, brightness, depth layers, video."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from derain.rain import StreakField, StreakParams, render_streaks


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("profile", ["box", "soft"])
def test_the_mean_matches_the_closed_form(profile):
    """Mean of the layer = streaks per pixel · area under the profiles · brightness."""
    params = StreakParams(
        density=20, length=(30, 30), width=(3, 3), angle=15, angle_jitter=0, brightness=(0.4, 0.4), profile=profile
    )
    mean = np.mean([render_streaks((400, 400), params, rng(i)).mean() for i in range(8)])
    # Across, cos² over ±w has the area of a box of width w; along, 1 - t⁴ has 4/5 of it.
    expected = 20 / 1e4 * 30 * 3 * 0.4 * (0.8 if profile == "soft" else 1.0)
    assert mean == pytest.approx(expected, rel=0.06)


def test_width_is_the_half_maximum():
    params = StreakParams(density=0.05, length=(200, 200), width=(6, 6), angle=0, angle_jitter=0, brightness=(1, 1))
    layer = render_streaks((100, 4000), params, rng(1))
    row = layer[50]
    peak = next(p for p in np.flatnonzero(row == row.max()) if 20 < p < 3980)
    assert (row[peak - 15 : peak + 15] > row.max() / 2).sum() == pytest.approx(6, abs=1)


def test_depth_layers_add_smaller_dimmer_streaks():
    near = StreakParams(density=5, brightness=(0.5, 0.5), length=(40, 40), width=(3, 3))
    far = near.farther()
    assert far.length[0] < near.length[0]
    assert far.brightness[0] < near.brightness[0]
    assert far.density > near.density
    layered = replace(near, depth_layers=3)
    coverage = [(render_streaks((200, 200), params, rng()) > 0).mean() for params in (near, layered)]
    assert coverage[1] > coverage[0]


def test_clumping_is_uneven_and_blur_spreads():
    params = StreakParams(density=60, length=(8, 12), width=(1, 1.5))
    blocks = []
    for clumping in (0.0, 1.0):
        layer = render_streaks((640, 640), replace(params, clumping=clumping), rng())
        means = layer.reshape(8, 80, 8, 80).mean(axis=(1, 3))
        blocks.append(means.std() / means.mean())
    assert blocks[1] > 2 * blocks[0]
    sharp, blurred = (render_streaks((200, 200), StreakParams(density=9, blur=b), rng()) for b in (0, 2))
    assert blurred.mean() == pytest.approx(sharp.mean(), rel=0.05)
    assert blurred.max() < sharp.max()


@pytest.mark.parametrize(
    "parameters",
    [{"density": -1}, {"length": (5, 2)}, {"width": (0, 1)}, {"angle": 80}, {"depth_layers": 0}, {"blur": -1}],
)
def test_invalid_parameters_raise(parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        StreakParams(**parameters)


def test_scaled_parameters_give_the_same_rain_at_a_higher_resolution():
    params = StreakParams(density=30, length=(20, 20), width=(2, 2), brightness=(0.3, 0.3))
    small = render_streaks((200, 200), params, rng())
    large = render_streaks((600, 600), params.scaled(3), rng())
    assert large.mean() == pytest.approx(small.mean(), rel=0.1)
    assert params.scaled(3).length == (60, 60)


def test_frames_of_a_field_show_the_same_streaks_fallen_further():
    """With one speed and direction, the next frame is the previous one shifted by speed times length."""
    params = StreakParams(density=8, length=(20, 20), width=(2, 2), angle=0, angle_jitter=0, speed=0.5)
    field = StreakField((200, 150), params, rng())
    first, second = field.render(0), field.render(1)
    np.testing.assert_allclose(second[30:170], first[20:160], atol=1e-4)
    assert np.abs(first - second).max() > 0.05
    np.testing.assert_array_equal(field.render(0), render_streaks((200, 150), params, rng()))
    slanted = StreakField((200, 150), StreakParams(density=20, angle=30, depth_layers=2), rng())
    means = [slanted.render(t).mean() for t in range(6)]
    assert max(means) < 1.3 * min(means)
