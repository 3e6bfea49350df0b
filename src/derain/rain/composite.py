"""Laying rain over a clean picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .streaks import FloatArray


def add_streaks(clean: npt.ArrayLike, layer: npt.ArrayLike) -> FloatArray:
    """The additive model of the Rain100 sets: ``rainy = min(1, clean + layer)``.

    Args:
        clean: ``(H, W, 3)`` or ``(H, W)`` in [0, 1].
        layer: ``(H, W)`` grey streaks, not negative.

    Returns:
        float32 of the clean picture's shape in [0, 1].
    """
    picture = np.asarray(clean, np.float32)
    streaks = np.asarray(layer, np.float32)
    if streaks.shape != picture.shape[:2]:
        raise ValueError(f"the layer is {streaks.shape}, the picture {picture.shape[:2]}: they must agree")
    if picture.ndim == 3:
        streaks = streaks[..., None]
    rainy: FloatArray = np.clip(picture + streaks, 0.0, 1.0)
    return rainy
