"""Streaks from motion-blurred noise: the Photoshop recipe behind Rain800 and much other synthetic rain."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from derain.arrays import FloatArray

from .streaks import MAX_ANGLE


@dataclass(frozen=True)
class NoiseParams:
    """Parameters of a layer of motion-blurred noise.

    Attributes:
        amount: fraction of the pixels that are seeds, in (0, 1).
        length: of the motion blur, pixels.
        angle: degrees from vertical; positive leans to the right going down.
        brightness: peak of an isolated streak in [0, 1].
        thickness: standard deviation of the seeds' blur, pixels; 0 for single pixels.
    """

    amount: float = 0.02
    length: float = 20.0
    angle: float = 0.0
    brightness: float = 0.4
    thickness: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.amount < 1 or self.length < 1 or self.brightness < 0 or self.thickness < 0:
            raise ValueError(f"invalid noise parameters: {self}")
        if abs(self.angle) > MAX_ANGLE:
            raise ValueError(f"angle must lie within ±{MAX_ANGLE:g} degrees from vertical, not {self.angle:g}")

    def scaled(self, factor: float) -> NoiseParams:
        """The same rain at ``factor`` times the resolution."""
        return replace(
            self,
            amount=min(0.99, self.amount / factor**2),
            length=max(1.0, self.length * factor),
            thickness=max(self.thickness, 0.3) * factor if factor > 1 else self.thickness * factor,
        )


def render_noise(shape: tuple[int, int], params: NoiseParams, rng: np.random.Generator) -> FloatArray:
    """Render a layer.

    Args:
        shape: height and width, pixels.
        params: what the layer looks like.
        rng: the only source of randomness.

    Returns:
        ``(H, W)`` float32, not negative.
    """
    kernel = _line_kernel(params.length, params.angle)
    margin = kernel.shape[0] // 2 + math.ceil(3 * params.thickness)
    size = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    seeds = (rng.random(size, dtype=np.float32) < params.amount).astype(np.float32)
    seeds *= rng.uniform(0.4, 1.0, size).astype(np.float32)
    if params.thickness > 0.05:
        seeds = np.asarray(cv2.GaussianBlur(seeds, (0, 0), params.thickness), np.float32)
        seeds *= np.float32(1 + 2 * math.pi * params.thickness**2) ** 0.5  # restores part of the peak
    streaks = cv2.filter2D(seeds, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT)
    layer = np.asarray(streaks, np.float32)[margin : margin + shape[0], margin : margin + shape[1]]
    # filter2D's Fourier path leaves tiny negative values.
    return np.maximum(layer, 0) * np.float32(params.brightness)


def _line_kernel(length: float, angle: float) -> FloatArray:
    """A one-pixel-wide line with peak 1, anti-aliased."""
    half = math.ceil(length / 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    theta = math.radians(angle)
    along = x * math.sin(theta) + y * math.cos(theta)
    across = x * math.cos(theta) - y * math.sin(theta)
    # filter2D correlates instead of convolving; the kernel is point-symmetric, so that makes no difference.
    kernel = np.clip(1 - np.abs(across), 0, 1) * np.clip(length / 2 + 0.5 - np.abs(along), 0, 1)
    return np.asarray(kernel, np.float32)
