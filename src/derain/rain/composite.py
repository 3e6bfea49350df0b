"""Compositing rain over a clean image: the image formation models of the literature.

All functions take and return float32 in [0, 1]; layers are gray, ``(H, W)``, not negative.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray


def add_streaks(clean: npt.ArrayLike, layer: npt.ArrayLike) -> FloatArray:
    """The additive model, ``rainy = min(1, clean + layer)`` (Li et al., CVPR 2016; the Rain100 sets).

    Args:
        clean: ``(H, W, 3)`` or ``(H, W)`` in [0, 1].
        layer: ``(H, W)`` gray streaks, not negative.

    Returns:
        float32 of the clean image's shape in [0, 1].

    Raises:
        ValueError: the sizes of layer and image differ.
    """
    image, streaks = _broadcastable(clean, layer)
    rainy: FloatArray = np.clip(image + streaks, 0.0, 1.0)
    return rainy


def screen_streaks(clean: npt.ArrayLike, layer: npt.ArrayLike) -> FloatArray:
    """The screen blend, ``rainy = 1 - (1 - clean)(1 - layer)`` (Luo et al., ICCV 2015).

    Bright parts of the scene gain less than dark ones and nothing is clipped. Arguments, result and
    errors are those of :func:`add_streaks`.
    """
    image, streaks = _broadcastable(clean, layer)
    rainy: FloatArray = 1 - (1 - np.clip(image, 0, 1)) * (1 - np.clip(streaks, 0, 1))
    return rainy


def add_haze(image: npt.ArrayLike, transmission: npt.ArrayLike, airlight: float) -> FloatArray:
    """Rain accumulation, ``T · image + (1 - T) · A`` (Yang et al., CVPR 2017, eq. 3; as fog, Koschmieder 1924).

    Args:
        image: rainy or clean, ``(H, W, 3)`` or ``(H, W)``.
        transmission: ``(H, W)`` in [0, 1]; 1 is clear air.
        airlight: brightness A of the haze in [0, 1].

    Returns:
        float32 of the image's shape in [0, 1].

    Raises:
        ValueError: the sizes differ, or transmission or airlight lie outside of [0, 1].
    """
    values, transmitted = _broadcastable(image, transmission)
    if not 0 <= airlight <= 1 or transmitted.min() < 0 or transmitted.max() > 1:
        raise ValueError("transmission and airlight must lie in [0, 1]")
    hazy: FloatArray = transmitted * values + (1 - transmitted) * np.float32(airlight)
    return hazy


def sloping_transmission(shape: tuple[int, int], density: float, horizon: float) -> FloatArray:
    """A transmission map without a depth map: ``exp(-density · d)`` where d falls from the horizon down.

    Args:
        shape: height and width.
        density: optical depth at the horizon; 0 is clear air, 1 transmits 37 %.
        horizon: row of the horizon as a fraction of the height; everything above it has the same distance.

    Returns:
        ``(H, W)`` float32 in (0, 1].
    """
    height, width = shape
    rows = (np.arange(height, dtype=np.float32) + 0.5) / height
    below = np.clip((rows - horizon) / max(1 - horizon, 1e-6), 0, 1)
    # On flat ground, distance falls with the reciprocal of the depression below the horizon.
    distance = 1 / (1 + 6 * below)
    column = np.exp(-density * distance).astype(np.float32)
    return np.repeat(column[:, None], width, axis=1)


def _broadcastable(image: npt.ArrayLike, layer: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both as float32, the layer with a channel axis if the image has one."""
    values = np.asarray(image, np.float32)
    gray = np.asarray(layer, np.float32)
    if gray.shape != values.shape[:2]:
        raise ValueError(f"the layer is {gray.shape}, the image {values.shape[:2]}: the sizes must agree")
    return values, gray[..., None] if values.ndim == 3 else gray
