"""Padding by reflection."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from derain import arrays


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
