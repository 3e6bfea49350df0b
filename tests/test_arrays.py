"""Quantizers, and padding by reflection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derain import arrays
from derain.errors import InputError


@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 40))
def test_reflection_agrees_with_numpy(length, before, after):
    values = np.arange(length)
    expected = np.pad(values, (before, after), mode="reflect") if length > 1 else np.zeros(1 + before + after, int)
    np.testing.assert_array_equal(values[arrays.reflect_indices(length, before, after)], expected)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 60), st.integers(1, 60))
def test_padding_keeps_the_image_and_never_crops(height, width, target_height, target_width):
    image = np.random.default_rng(0).random((3, height, width), dtype=np.float32)
    padded = arrays.pad_reflect(image, target_height, target_width)
    assert padded.shape == (3, max(height, target_height), max(width, target_width))
    np.testing.assert_array_equal(padded[:, :height, :width], image)


def test_truncation_is_numpys_cast_and_half_a_level_below_rounding():
    values = np.random.default_rng(0).random((400, 500), dtype=np.float32) * 1.2 - 0.1
    clamped = np.clip(values, 0, 1)
    truncated, rounded = (arrays.to_uint8(values, name).astype(int) for name in ("truncate", "round"))
    np.testing.assert_array_equal(truncated, np.uint8(255 * clamped))
    np.testing.assert_array_equal(rounded, np.floor(np.float32(255) * clamped + np.float32(0.5)))
    inside = (values > 0) & (values < 1)
    assert set(np.unique(rounded - truncated)) == {0, 1}
    assert (rounded - truncated)[inside].mean() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("quantizer", arrays.QUANTIZERS)
def test_integers_survive_floats_with_both_quantizers(dtype, quantizer):
    every = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    np.testing.assert_array_equal(arrays.to_integers(arrays.to_float(every), dtype, quantizer), every)


def test_an_unknown_quantizer_is_refused():
    with pytest.raises(InputError, match="round or truncate, not 'ceil'"):
        arrays.to_integers(np.zeros(3), np.uint8, "ceil")
