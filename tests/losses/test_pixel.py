"""Pixel losses and SSIM against their closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from derain.losses import create_loss


def smooth(image: np.ndarray) -> np.ndarray:
    x = np.arange(11) - 5
    window = np.exp(-(x**2) / (2 * 1.5**2))
    window /= window.sum()
    for axis in (-1, -2):
        image = correlate1d(image, window, axis=axis, mode="constant")
    return image


def test_ssim_is_the_gaussian_ssim_with_zero_border(images):
    derained, clean, rainy = images
    a, b = derained.double().numpy(), clean.double().numpy()
    ma, mb = smooth(a), smooth(b)
    va, vb, cov = smooth(a * a) - ma**2, smooth(b * b) - mb**2, smooth(a * b) - ma * mb
    index = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    assert create_loss("ssim")(derained, clean, rainy).item() == pytest.approx(-index.mean(), abs=1e-6)
    assert create_loss("ssim")(clean, clean, rainy).item() == pytest.approx(-1, abs=1e-6)
    # As in SGINet: the constants of range 1 with images of range 255.
    scaled = create_loss("ssim", peak=255.0)(derained, clean, rainy).item()
    assert scaled > create_loss("ssim")(derained, clean, rainy).item()


def test_pixel_losses_have_their_closed_forms(images):
    derained, clean, rainy = images
    difference = (derained - clean).double().numpy()
    spectrum = np.fft.fft2(difference, norm="ortho")[..., : difference.shape[-1] // 2 + 1]
    expected = {
        "l1": np.abs(difference).mean(),
        "log-l1": np.mean([0.01 * np.log(1 + np.abs(d).mean() / 0.01) for d in difference]),
        "mse": (difference**2).mean(),
        "psnr": np.mean([10 * np.log10((d**2).mean() + 1e-5) for d in difference]),
        "charbonnier": np.sqrt(difference**2 + 1e-6).mean(),
        "frequency": (np.abs(spectrum.real).mean() + np.abs(spectrum.imag).mean()) / 2,
    }
    for name, value in expected.items():
        assert create_loss(name)(derained, clean, rainy).item() == pytest.approx(value, rel=1e-5), name
    assert create_loss("mse", peak=255)(derained, clean, rainy).item() == pytest.approx(expected["mse"] * 255**2)
