"""Metrics against outside implementations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from derain.metrics import luma, psnr_y


def test_luma_is_matlabs(photo):
    exact = rgb2ycbcr(photo)[..., 0]
    tie = np.abs(exact % 1 - 0.5) < 1e-9  # floats decide these by their last bit; MATLAB rounds them up
    np.testing.assert_array_equal(luma(photo), np.where(tie, np.ceil(exact), np.round(exact)))
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma(corners).tolist() == [[16, 235, 81, 145, 41]]


def test_psnr_agrees_with_scikit_image(photo):
    noisy = np.clip(photo + np.random.default_rng(0).normal(0, 9, photo.shape), 0, 255).astype(np.uint8)
    expected = peak_signal_noise_ratio(luma(photo), luma(noisy), data_range=255)
    assert psnr_y(noisy, photo) == pytest.approx(expected, abs=1e-9)
    assert psnr_y(photo, photo) == float("inf")


def test_wrong_arrays_are_refused(photo):
    with pytest.raises(ValueError, match="uint8"):
        luma(photo / 255)
    with pytest.raises(ValueError, match="sizes differ"):
        psnr_y(photo, photo[1:])
