"""The rain engine: what its parameters promise, seen in the layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from derain.errors import InputError
from derain.rain import (
    PRESETS,
    Camera,
    Haze,
    LibraryStreaks,
    NoiseParams,
    RainSpec,
    StreakField,
    StreakLibrary,
    StreakParams,
    add_haze,
    add_streaks,
    apply_rain,
    render,
    render_noise,
    render_streaks,
    sample_rain,
    screen_streaks,
    simulate_camera,
    sloping_transmission,
    tone,
)


def direction(layer: np.ndarray) -> float:
    """Dominant streak direction, degrees from vertical, by the structure tensor."""
    # Smoothed, for differences of neighbors misjudge the slant of lines one pixel wide.
    gy, gx = np.gradient(gaussian_filter(layer.astype(np.float64), 1.5))
    return float(np.degrees(0.5 * np.arctan2(-2 * (gx * gy).mean(), (gx * gx - gy * gy).mean())))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("angle", [-40, -10, 0, 25, 60])
def test_streaks_have_their_angle(angle):
    params = StreakParams(density=10, length=(30, 50), width=(2, 3), angle=angle, angle_jitter=0.5)
    assert direction(render_streaks((300, 300), params, rng())) == pytest.approx(angle, abs=4)


def test_a_positive_angle_leans_to_the_right_going_down():
    params = StreakParams(density=0.4, length=(60, 60), width=(2, 2), angle=30, angle_jitter=0)
    layer = np.zeros((300, 300))
    seed = 0
    while not layer.any():
        layer, seed = render_streaks((300, 300), params, rng(seed)), seed + 1
    shift = [(layer[:-20, :-11] * layer[20:, 11:]).sum(), (layer[:-20, 11:] * layer[20:, :-11]).sum()]
    assert shift[0] > 5 * shift[1]


@pytest.mark.parametrize("profile", ["box", "soft"])
def test_painted_light_matches_the_closed_form(profile):
    """Mean of the layer = streaks a pixel · area under the profiles · brightness."""
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
    lone = next(p for p in np.flatnonzero(row == row.max()) if 20 < p < 3980)
    assert (row[lone - 15 : lone + 15] > row.max() / 2).sum() == pytest.approx(6, abs=1)


def test_depth_layers_add_smaller_dimmer_streaks():
    near = StreakParams(density=5, brightness=(0.5, 0.5), length=(40, 40), width=(3, 3))
    far = near.farther()
    assert far.length[0] < near.length[0]
    assert far.brightness[0] < near.brightness[0]
    assert far.density > near.density
    deep = StreakParams(density=5, brightness=(0.5, 0.5), length=(40, 40), width=(3, 3), depth_layers=3)
    assert (render_streaks((200, 200), deep, rng()) > 0).mean() > (render_streaks((200, 200), near, rng()) > 0).mean()


def test_clumping_is_uneven_and_blur_spreads():
    even = StreakParams(density=60, length=(8, 12), width=(1, 1.5))
    blocks = []
    for clumping in (0.0, 1.0):
        layer = render_streaks((640, 640), StreakParams(**{**even.__dict__, "clumping": clumping}), rng())
        means = layer.reshape(8, 80, 8, 80).mean(axis=(1, 3))
        blocks.append(means.std() / means.mean())
    assert blocks[1] > 2 * blocks[0]
    sharp, blurred = (render_streaks((200, 200), StreakParams(density=9, blur=b), rng()) for b in (0, 2))
    assert blurred.mean() == pytest.approx(sharp.mean(), rel=0.05)
    assert blurred.max() < sharp.max()


@pytest.mark.parametrize(
    "wrong", [{"density": -1}, {"length": (5, 2)}, {"width": (0, 1)}, {"angle": 80}, {"depth_layers": 0}, {"blur": -1}]
)
def test_impossible_streaks_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StreakParams(**wrong)


@settings(max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(sorted(PRESETS)), st.integers(0, 10**6))
def test_any_recipe_renders_at_any_size_and_repeats(height, width, preset, seed):
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


def test_scale_makes_the_same_rain_larger():
    params = StreakParams(density=30, length=(20, 20), width=(2, 2), brightness=(0.3, 0.3))
    small = render_streaks((200, 200), params, rng())
    large = render_streaks((600, 600), params.scaled(3), rng())
    assert large.mean() == pytest.approx(small.mean(), rel=0.1)
    assert params.scaled(3).length == (60, 60)


def test_adding_streaks_is_the_additive_model(photo):
    layer = render_streaks(photo.shape[:2], StreakParams(), rng())
    rainy = add_streaks(photo / 255, layer)
    open_ = rainy < 1
    added = rainy - photo / 255
    np.testing.assert_allclose(added[open_], np.repeat(layer[..., None], 3, 2)[open_], atol=1e-6)
    assert rainy.max() <= 1
    with pytest.raises(ValueError, match="agree"):
        add_streaks(photo / 255, layer[1:])


def test_streak_library(tmp_path):
    with pytest.raises(InputError, match="no streak pictures"):
        StreakLibrary(tmp_path)
    params = StreakParams(density=10, length=(30, 50), width=(2, 3), angle_jitter=0.5)
    layer = render_streaks((320, 500), params, rng())
    Image.fromarray((np.clip(layer, 0, 1) * 255).astype(np.uint8)).save(tmp_path / "1.png")
    library = StreakLibrary(tmp_path)
    turned = library.sample((250, 260), rng(1), angle=20)
    assert turned.shape == (250, 260)
    assert 0 <= turned.min() <= turned.max() <= 1
    assert direction(turned) == pytest.approx(20, abs=4)
    spec = RainSpec("light", (LibraryStreaks(0, 1, 0.5),))
    assert render(spec, (50, 50), rng(), library).max() <= 0.5
    with pytest.raises(ValueError, match="library"):
        render(spec, (50, 50), rng())


def test_unknown_preset():
    with pytest.raises(ValueError, match="choose one of light, heavy, mixed"):
        sample_rain("frogs", rng())


def test_frames_of_a_field_are_the_same_streaks_fallen_further():
    """With one speed and direction, the next frame is the last one shifted by speed times length."""
    params = StreakParams(density=8, length=(20, 20), width=(2, 2), angle=0, angle_jitter=0, speed=0.5)
    field = StreakField((200, 150), params, rng())
    first, second = field.render(0), field.render(1)
    np.testing.assert_allclose(second[30:170], first[20:160], atol=1e-4)
    assert np.abs(first - second).max() > 0.05
    np.testing.assert_array_equal(field.render(0), render_streaks((200, 150), params, rng()))
    slanted = StreakField((200, 150), StreakParams(density=20, angle=30, depth_layers=2), rng())
    means = [slanted.render(t).mean() for t in range(6)]
    assert max(means) < 1.3 * min(means)


def test_screen_is_its_formula_and_never_clips(photo):
    clean = photo / 255
    layer = render_streaks(photo.shape[:2], StreakParams(brightness=(0.3, 0.9)), rng())
    rainy = screen_streaks(clean, layer)
    np.testing.assert_allclose(rainy, clean + (1 - clean) * np.clip(layer, 0, 1)[..., None], atol=1e-6)
    assert (rainy <= add_streaks(clean, layer) + 1e-6).all()


def test_veil_is_koschmieders_law(photo):
    clean = photo / 255
    through = sloping_transmission(photo.shape[:2], density=0.7, horizon=0.3)
    np.testing.assert_allclose(through[0], np.exp(-0.7), atol=1e-6)
    assert (np.diff(through[:, 0]) >= 0).all(), "nearer ground lets more through"
    veiled = add_haze(clean, through, 0.8)
    np.testing.assert_allclose(veiled, through[..., None] * clean + (1 - through[..., None]) * 0.8, atol=1e-6)
    np.testing.assert_allclose(add_haze(clean, np.ones(photo.shape[:2]), 0.8), clean, atol=1e-6)
    with pytest.raises(ValueError, match="lie in"):
        add_haze(clean, through + 1, 0.8)


@pytest.mark.parametrize("angle", [-30, 0, 20])
def test_noise_streaks_have_their_angle_and_amount(angle):
    params = NoiseParams(amount=0.004, length=30, angle=angle, thickness=0.6)
    layer = render_noise((300, 300), params, rng())
    assert direction(layer) == pytest.approx(angle, abs=4)
    thin = NoiseParams(amount=0.001, length=20, brightness=0.5, thickness=0)
    mean = np.mean([render_noise((400, 400), thin, rng(i)).mean() for i in range(6)])
    # seeds a pixel · mean strength 0.7 · brightness · area of the line
    assert mean == pytest.approx(0.001 * 0.7 * 0.5 * 21, rel=0.12)
    with pytest.raises(ValueError, match="impossible"):
        NoiseParams(amount=0)


def test_camera(photo):
    clean = (photo / 255).astype(np.float32)
    np.testing.assert_allclose(simulate_camera(clean, Camera(), rng()), clean, atol=1e-6)
    noisy = simulate_camera(np.full((200, 200, 3), 0.5), Camera(shot_noise=4e-4, read_noise=0.01), rng())
    assert noisy.std() == pytest.approx((4e-4 * 0.5 + 1e-4) ** 0.5, rel=0.03)
    errors = [np.abs(simulate_camera(clean, Camera(jpeg_quality=q), rng()) - clean).mean() for q in (30, 95)]
    assert errors[0] > 2 * errors[1] > 0
    assert errors[1] < 0.01
    toned = simulate_camera(clean, Camera(gain=0.8, gamma=0.5), rng())
    np.testing.assert_allclose(toned, np.sqrt(0.8 * clean), atol=1e-6)
    np.testing.assert_array_equal(toned, tone(clean, Camera(gain=0.8, gamma=0.5)))
    assert tone([0.4, 0.6], Camera(gain=2)).tolist() == pytest.approx([0.8, 1.0])
    detail = [np.abs(np.diff(simulate_camera(clean, c, rng()), axis=1)).mean() for c in (Camera(blur=1), Camera())]
    detail.append(np.abs(np.diff(simulate_camera(clean, Camera(sharpening=1), rng()), axis=1)).mean())
    assert detail[0] < 0.8 * detail[1] < 0.8 * 0.8 * detail[2]
    flat = np.full((9, 9, 3), 0.4, np.float32)
    np.testing.assert_allclose(simulate_camera(flat, Camera(blur=2, sharpening=1), rng()), flat, atol=1e-6)
    with pytest.raises(ValueError, match="blur and sharpening"):
        Camera(sharpening=-1)
    with pytest.raises(ValueError, match="jpeg_quality"):
        Camera(jpeg_quality=0)
    with pytest.raises(ValueError, match="gain and gamma"):
        Camera(gain=0)


def test_real_rain_is_of_many_kinds():
    """Fine streaks in about half, near ones and drops in some; dense rain is never bright."""
    recipes = [sample_rain("real", rng(seed)) for seed in range(200)]
    fine = [[part for part in spec.layers if isinstance(part, NoiseParams)] for spec in recipes]
    assert 0.4 < np.mean([bool(parts) for parts in fine]) < 0.7
    assert all(spec.layers for spec in recipes)
    widest = [max((p.width[1] for p in r.layers if isinstance(p, StreakParams)), default=0) for r in recipes]
    assert 0.1 < np.mean(np.array(widest) > 4) < 0.3
    shortest = [min((p.length[1] for p in r.layers if isinstance(p, StreakParams)), default=99) for r in recipes]
    assert 0.05 < np.mean(np.array(shortest) < 12) < 0.25
    for spec, parts in zip(recipes[:40], fine[:40], strict=True):
        if parts:
            assert render(RainSpec("fine", tuple(parts)), (96, 96), rng()).mean() < 0.5, spec


def test_rain_on_puts_the_parts_together(photo):
    clean = photo / 255
    layers = (StreakParams(), NoiseParams())
    spec = RainSpec("mine", layers, "screen", Haze(0.5, 0.3, 0.8))
    layer = render(spec, photo.shape[:2], rng())
    expected = add_haze(screen_streaks(clean, layer), sloping_transmission(photo.shape[:2], 0.5, 0.3), 0.8)
    np.testing.assert_array_equal(apply_rain(clean, spec, rng()), expected)
    for preset in PRESETS:
        rainy = apply_rain(clean, sample_rain(preset, rng(2)), rng(3))
        assert rainy.shape == photo.shape
        assert 0 <= rainy.min() <= rainy.max() <= 1
        assert np.abs(rainy - clean).mean() > 1e-3


def test_preset_names_of_the_command_are_the_engines():
    from derain.cli import options

    assert tuple(PRESETS) == options.PRESETS
