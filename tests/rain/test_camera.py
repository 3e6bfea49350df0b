"""The camera model: noise, JPEG, blur, sharpening."""

from __future__ import annotations

import numpy as np
import pytest

from derain.rain import Camera, simulate_camera


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_default_camera_changes_nothing(photo):
    clean = (photo / 255).astype(np.float32)
    np.testing.assert_allclose(simulate_camera(clean, Camera(), rng()), clean, atol=1e-6)


def test_noise_has_its_variance():
    noisy = simulate_camera(np.full((200, 200, 3), 0.5), Camera(shot_noise=4e-4, read_noise=0.01), rng())
    assert noisy.std() == pytest.approx((4e-4 * 0.5 + 1e-4) ** 0.5, rel=0.03)


def test_jpeg_errors_fall_with_the_quality(photo):
    clean = (photo / 255).astype(np.float32)
    errors = [np.abs(simulate_camera(clean, Camera(jpeg_quality=q), rng()) - clean).mean() for q in (30, 95)]
    assert errors[0] > 2 * errors[1] > 0
    assert errors[1] < 0.01


def test_blur_and_sharpening_change_detail_but_not_flat_regions(photo):
    clean = (photo / 255).astype(np.float32)
    cameras = (Camera(blur=1), Camera(), Camera(sharpening=1))
    detail = [np.abs(np.diff(simulate_camera(clean, camera, rng()), axis=1)).mean() for camera in cameras]
    assert detail[0] < 0.8 * detail[1] < 0.8 * 0.8 * detail[2]
    flat = np.full((9, 9, 3), 0.4, np.float32)
    np.testing.assert_allclose(simulate_camera(flat, Camera(blur=2, sharpening=1), rng()), flat, atol=1e-6)


def test_invalid_parameters_raise():
    with pytest.raises(ValueError, match="blur and sharpening"):
        Camera(sharpening=-1)
    with pytest.raises(ValueError, match="jpeg_quality"):
        Camera(jpeg_quality=0)
    with pytest.raises(ValueError, match="noise"):
        Camera(read_noise=-1)
