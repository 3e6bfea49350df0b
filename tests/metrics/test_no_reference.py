"""NIQE: its statistics against known distributions and scipy, its values on distorted images."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from scipy.ndimage import correlate, gaussian_filter
from scipy.stats import gennorm

from derain.metrics import niqe
from derain.metrics.no_reference import fit_aggd, gaussian_distance, mscn, niqe_features


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 4.0])
def test_the_fit_finds_the_distribution(shape):
    samples = gennorm.rvs(shape, scale=1.7, size=(1, 200_000), random_state=0)
    alpha, left, right = fit_aggd(torch.from_numpy(samples))
    assert alpha.item() == pytest.approx(shape, rel=0.03)
    assert left.item() == pytest.approx(1.7, rel=0.03)
    assert right.item() == pytest.approx(1.7, rel=0.03)


def test_the_fit_distinguishes_left_from_right():
    # Two half Gaussians of unequal width, with samples in proportion.
    rng = np.random.default_rng(0)
    left, right = 1.0, 3.0
    sign = rng.random(200_000) < right / (left + right)
    samples = np.abs(rng.normal(size=200_000)) * np.where(sign, right, -left)
    alpha, found_left, found_right = fit_aggd(torch.from_numpy(samples)[None])
    assert alpha.item() == pytest.approx(2, rel=0.05)
    assert found_right.item() / found_left.item() == pytest.approx(3, rel=0.03)
    assert found_left.item() == pytest.approx(2**0.5, rel=0.05)  # scale of a Gaussian: sigma times the root of 2


def test_mscn_matches_its_formula(photo):
    gray = photo[..., 0].astype(np.float64)
    x = np.arange(7) - 3
    window = np.exp(-(x**2) / (2 * (7 / 6) ** 2))
    window = np.outer(window, window) / window.sum() ** 2
    mean = correlate(gray, window, mode="nearest")
    deviation = np.sqrt(np.abs(correlate(gray**2, window, mode="nearest") - mean**2))
    found, spread = mscn(torch.from_numpy(gray)[None, None])
    np.testing.assert_allclose(spread[0, 0].numpy(), deviation, atol=1e-4)
    np.testing.assert_allclose(found[0, 0].numpy(), (gray - mean) / (deviation + 1), atol=1e-6)


def test_the_distance_has_its_closed_form():
    eye = np.eye(3)
    assert gaussian_distance(np.zeros(3), eye, np.zeros(3), 5 * eye) == 0
    assert gaussian_distance(np.zeros(3), eye, np.array([2.0, 0, 0]), 3 * eye) == pytest.approx(2**0.5)


def test_features_have_their_layout():
    features, sharpness = niqe_features(tensor(skimage.data.astronaut()[:300, :400]))
    assert features.shape == (12, 36)
    assert sharpness.shape == (12,)
    assert features.isfinite().all()


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_noise_and_blur_look_unnatural(name):
    clean = getattr(skimage.data, name)()
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 15, clean.shape), 0, 255).astype(np.uint8)
    blurred = gaussian_filter(clean, (2, 2, 0))
    assert niqe(tensor(clean)) + 1 < min(niqe(tensor(noisy)), niqe(tensor(blurred)))


def test_small_images_and_other_shapes_are_rejected():
    with pytest.raises(ValueError, match="at least 192"):
        niqe(torch.rand(3, 100, 300))
    with pytest.raises(ValueError, match="at least 96"):
        niqe_features(torch.rand(3, 50, 300))
