"""Full-reference metrics: a derained picture against the clean one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# MATLAB's rgb2ycbcr: 8-bit RGB to limited-range luma (ITU-R BT.601).
_LUMA = np.array([65_481, 128_553, 24_966])  # in 1/255000, so that rounding is exact
_UNIT = 255_000


def luma(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The Y channel as MATLAB's ``rgb2ycbcr`` gives it for uint8: 16 to 235, rounded half up.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.

    Returns:
        ``(H, W)`` float64 of whole numbers.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"luma needs (H, W, 3) uint8, not {picture.shape} {picture.dtype}")
    weighted = picture.astype(np.int64) @ _LUMA
    rounded: npt.NDArray[np.float64] = (16 + (2 * weighted + _UNIT) // (2 * _UNIT)).astype(np.float64)
    return rounded


def psnr_y(derained: npt.NDArray[np.uint8], clean: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB on the Y channel, peak 255: the protocol of the Rain100 papers.

    Args:
        derained, clean: ``(H, W, 3)`` uint8 RGB of one size.

    Returns:
        dB; infinity for equal luma.
    """
    if derained.shape != clean.shape:
        raise ValueError(f"sizes differ: {derained.shape} and {clean.shape}")
    error = float(np.mean((luma(derained) - luma(clean)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
