"""A simple camera model: lens blur, sensor noise, sharpening, JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray, to_float, to_uint8


@dataclass(frozen=True)
class Camera:
    """Parameters of the camera model.

    Attributes:
        shot_noise: variance of the signal-dependent noise at white, in squared units of [0, 1].
        read_noise: standard deviation of the constant noise.
        jpeg_quality: 1 to 100, or ``None`` for no compression.
        blur: standard deviation of the lens's Gaussian, pixels; applied first.
        sharpening: strength of an unsharp mask with σ = 1 pixel; applied after the noise.
    """

    shot_noise: float = 0.0
    read_noise: float = 0.0
    jpeg_quality: int | None = None
    blur: float = 0.0
    sharpening: float = 0.0

    def __post_init__(self) -> None:
        if self.shot_noise < 0 or self.read_noise < 0:
            raise ValueError("noise must not be negative")
        if self.blur < 0 or self.sharpening < 0:
            raise ValueError("blur and sharpening must not be negative")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be 1 to 100, not {self.jpeg_quality}")


def simulate_camera(image: npt.ArrayLike, camera: Camera, rng: np.random.Generator) -> FloatArray:
    """Pass an image through a camera: lens blur, noise, sharpening, compression.

    The noise is Gaussian with a variance that grows with the intensity (Foi et al., IEEE TIP 2008).

    Args:
        image: ``(H, W, 3)`` RGB in [0, 1].
        camera: parameters.
        rng: the only source of randomness.

    Returns:
        ``(H, W, 3)`` float32 in [0, 1]; 8-bit values if compressed.
    """
    values = np.asarray(image, np.float32)
    if camera.blur > 0.05:
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), camera.blur), np.float32)
    values = np.clip(values, 0, 1)
    if camera.shot_noise > 0 or camera.read_noise > 0:
        deviation = np.sqrt(camera.shot_noise * values + camera.read_noise**2)
        values = values + deviation * rng.standard_normal(values.shape, dtype=np.float32)
    if camera.sharpening > 0:
        values = values + camera.sharpening * (values - cv2.GaussianBlur(values, (0, 0), 1.0))
    values = np.clip(values, 0, 1)
    if camera.jpeg_quality is not None:
        bgr = np.ascontiguousarray(to_uint8(values)[..., ::-1])
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg_quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        values = to_float(decoded)[..., ::-1]
    return np.ascontiguousarray(values)
