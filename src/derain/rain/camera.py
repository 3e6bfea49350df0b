"""What the camera adds to a rainy picture: a soft lens, exposure, noise, sharpening and JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .streaks import FloatArray


@dataclass(frozen=True)
class Camera:
    """A simple camera pipeline.

    Attributes:
        shot_noise: variance of the light-dependent noise at white, in squared units of [0, 1].
        read_noise: standard deviation of the constant noise.
        jpeg_quality: 1 to 100, or ``None`` for no compression.
        gain: exposure, a factor before all else.
        gamma: exponent of the tone curve that follows; below 1 it lifts the shadows.
        blur: standard deviation of the lens's Gaussian, pixels; before all else.
        sharpening: strength of an unsharp mask of 1 pixel, as cameras and web pages add it; after the noise.
    """

    shot_noise: float = 0.0
    read_noise: float = 0.0
    jpeg_quality: int | None = None
    gain: float = 1.0
    gamma: float = 1.0
    blur: float = 0.0
    sharpening: float = 0.0

    def __post_init__(self) -> None:
        if self.gain <= 0 or self.gamma <= 0:
            raise ValueError("gain and gamma must be positive")
        if self.shot_noise < 0 or self.read_noise < 0:
            raise ValueError("noise must not be negative")
        if self.blur < 0 or self.sharpening < 0:
            raise ValueError("blur and sharpening must not be negative")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be 1 to 100, not {self.jpeg_quality}")


def tone(picture: npt.ArrayLike, camera: Camera) -> FloatArray:
    """A camera's exposure and tone curve, ``(gain · x) ** gamma``, clipped.

    The clean picture of a pair needs the same, or the network learns to undo the exposure.

    Args:
        picture: any shape, in [0, 1].
        camera: its ``gain`` and ``gamma``.

    Returns:
        float32 in [0, 1].
    """
    values = np.clip(np.asarray(picture, np.float32) * np.float32(camera.gain), 0, 1)
    toned: FloatArray = values if camera.gamma == 1 else values ** np.float32(camera.gamma)
    return toned


def simulate_camera(picture: npt.ArrayLike, camera: Camera, rng: np.random.Generator) -> FloatArray:
    """Pass a picture through a camera: lens, :func:`tone`, noise, sharpening, compression.

    Noise is Gaussian with a variance that grows with the light (Foi et al., IEEE TIP 2008).

    Args:
        picture: ``(H, W, 3)`` RGB in [0, 1].
        camera: what it adds.
        rng: the only source of chance.

    Returns:
        ``(H, W, 3)`` float32 in [0, 1]; 8-bit values if compressed.
    """
    values = np.asarray(picture, np.float32)
    if camera.blur > 0.05:
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), camera.blur), np.float32)
    values = tone(values, camera)
    if camera.shot_noise > 0 or camera.read_noise > 0:
        deviation = np.sqrt(camera.shot_noise * values + camera.read_noise**2)
        values = values + deviation * rng.standard_normal(values.shape, dtype=np.float32)
    if camera.sharpening > 0:
        values = values + camera.sharpening * (values - cv2.GaussianBlur(values, (0, 0), 1.0))
    values = np.clip(values, 0, 1)
    if camera.jpeg_quality is not None:
        eight = (values[..., ::-1] * 255 + 0.5).astype(np.uint8)
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(eight), [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg_quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        values = np.asarray(decoded, np.float32)[..., ::-1] / np.float32(255)
    return np.ascontiguousarray(values)
