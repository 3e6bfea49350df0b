"""NSS against the literal loop, and what must hold for any image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derain.errors import InputError
from derain.rain2avoid import Sampler
from support.literal_nss import literal_candidates, literal_references


def scene(seed, height=14, width=17, share=0.3):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    rain_map = np.where(rng.random((height, width)) < share, 255, 0).astype(np.uint8)
    rain_map[rng.random((height, width)) < 0.05] = 7  # neither rain nor a candidate
    return image, rain_map


@given(
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.05, 0.3, 0.7, 0.95]),
    shape=st.sampled_from([(14, 17), (3, 20), (1, 1), (9, 2)]),
    sides=st.sampled_from([(7, 3), (5, 5), (3, 1)]),
)
@settings(max_examples=25)
def test_references_and_probabilities_are_the_literal_ones(seed, share, shape, sides):
    image, rain_map = scene(seed, *shape, share)
    rain_map[0, 0] = 0  # the literal window grows for ever without a clean pixel
    options = {"neighbors": sides[0], "similarity": sides[1]}
    sampler = Sampler(image, rain_map, **options)
    for found, expected in zip(sampler.references(6), literal_references(image, rain_map, 6, **options), strict=True):
        np.testing.assert_array_equal(found, expected)
    probabilities = sampler.weights.astype(np.float64) / sampler.weights.sum(axis=0, dtype=np.float64)
    reach, width = sides[0] // 2, shape[1]
    for column, flat in enumerate(sampler.rain[:20]):
        y, x = divmod(int(flat), width)
        places, expected = literal_candidates(image, rain_map, y, x, **options)
        numbers = [(i - y + reach) * sides[0] + j - x + reach for i, j in places]
        np.testing.assert_allclose(probabilities[numbers, column], expected, atol=1e-6)
        assert np.delete(probabilities[:, column], numbers).sum() == 0


def test_a_streak_wider_than_the_similarity_window_grows_it():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    rain_map = np.zeros((20, 20), np.uint8)
    rain_map[4:16, 7:12] = 255  # five across: the middle needs a window of 7
    sampler = Sampler(image, rain_map)
    assert len(sampler.rain) == 60
    expected = literal_references(image, rain_map, 3)
    for found, literal in zip(sampler.references(3), expected, strict=True):
        np.testing.assert_array_equal(found, literal)


def test_pixels_without_a_candidate_and_clean_ones_stay():
    image, _ = scene(2, 20, 20)
    rain_map = np.full((20, 20), 255, np.uint8)
    rain_map[:, :2] = 0
    sampler = Sampler(image, rain_map)
    reference = next(sampler.references(1))
    changed = (reference != image).any(axis=2)
    assert not changed[:, :2].any()
    assert not changed[:, 5:].any()
    assert changed[:, 2:5].any()
    np.testing.assert_array_equal(sampler.expected()[:, 5:], (image[:, 5:] / 255).astype(np.float32))


@pytest.mark.parametrize("value", [0, 255])
def test_all_clean_and_all_rain_are_left_alone(value):
    image, _ = scene(3)
    sampler = Sampler(image, np.full(image.shape[:2], value, np.uint8))
    assert len(sampler.rain) == 0
    np.testing.assert_array_equal(next(sampler.references(1)), image)
    np.testing.assert_array_equal(sampler.fused(3), sampler.expected())


@pytest.mark.parametrize("independent", [False, True])
def test_the_fused_mean_tends_to_the_expected_reference(independent):
    image, rain_map = scene(4)
    sampler = Sampler(image, rain_map)
    expected = sampler.expected()
    few, many = (np.abs(sampler.fused(n, independent=independent) - expected).mean() for n in (20, 2000))
    assert many < few / 4  # √100 fewer, with room for chance
    assert many < 0.01


def test_fused_is_the_mean_of_the_references():
    image, rain_map = scene(5)
    sampler = Sampler(image, rain_map)
    mean = np.mean([r.astype(float) for r in sampler.references(8, seed=3)], axis=0) / 255
    np.testing.assert_allclose(sampler.fused(8, seed=3), mean, atol=1e-6)


def test_draws_are_seeded_and_independent_ones_differ_between_pixels():
    image, rain_map = scene(6, 30, 30)
    sampler = Sampler(image, rain_map)
    first, again = (list(sampler.references(3, seed=5, independent=True)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != next(sampler.references(1, seed=6, independent=True))).any()
    # With shared uniforms two pixels with one and the same neighborhood draw the same color.
    flat = np.tile(np.arange(60, dtype=np.uint8)[None, :, None] * 4, (12, 1, 3))
    rows = np.zeros((12, 60), np.uint8)
    rows[4:8, 30] = 255
    together = next(Sampler(flat, rows).references(1))[5:7, 30]
    assert (together[0] == together[1]).all()


def test_floats_keep_their_own_values():
    image, rain_map = scene(7)
    deep = image / np.float32(255)
    reference = next(Sampler(deep, rain_map).references(1))
    assert reference.dtype == np.float32
    np.testing.assert_array_equal(reference, next(Sampler(image, rain_map).references(1)) / np.float32(255))


def test_what_does_not_fit_is_rejected():
    image, rain_map = scene(8)
    with pytest.raises(InputError, match="do not match"):
        Sampler(image, rain_map[1:])
    with pytest.raises(InputError, match="odd"):
        Sampler(image, rain_map, neighbors=6)
