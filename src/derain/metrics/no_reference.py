"""NIQE: how natural an image looks, without a reference.

Mittal, Soundararajan and Bovik, "Making a 'completely blind' image quality analyzer", IEEE Signal
Processing Letters 2013. Features of natural scene statistics on 96×96 patches at two scales are
compared with those of clean photographs by a distance of Gaussians. Lower is better.

The original model of clean photographs is not available here, so ``derain`` includes its own, fitted by
``scripts/fit_niqe.py``. **Its values are not those of the published model**: report them as ``NIQE-derain``,
and compare them only with each other.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .full_reference import luma

PATCH = 96
#: Patches of at least this fraction of the maximum sharpness are used in the model of clean photographs.
MIN_SHARPNESS = 0.75
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_MODEL = Path(__file__).parent / "niqe_derain.npz"


def mscn(gray: Tensor, border: Literal["replicate", "constant"] = "replicate") -> tuple[Tensor, Tensor]:
    """Mean-subtracted contrast-normalized coefficients (eq. 1–3), 7×7 Gaussian window, σ 7/6.

    Args:
        gray: ``(N, 1, H, W)`` float64, 0 to 255.
        border: what lies beyond it: the nearest pixel, or zero (``constant``).

    Returns:
        The coefficients and the local standard deviations, both of the input's shape.
    """
    x = torch.arange(7, dtype=torch.float64) - 3
    window = torch.exp(-(x**2) / (2 * (7 / 6) ** 2))
    window = (window / window.sum()).to(gray.device)

    def smooth(t: Tensor) -> Tensor:
        padded = F.pad(t, (3, 3, 3, 3), mode=border)
        rows = F.conv2d(padded, window.view(1, 1, 7, 1))
        return F.conv2d(rows, window.view(1, 1, 1, 7))

    mean = smooth(gray)
    deviation = (smooth(gray * gray) - mean * mean).abs().sqrt()
    return (gray - mean) / (deviation + 1), deviation


@lru_cache(maxsize=1)
def _gamma_table() -> tuple[Tensor, Tensor]:
    """Shape parameters and the moment ratio Γ(2/α)² / (Γ(1/α) Γ(3/α)) of each."""
    shapes = torch.arange(0.2, 10.0005, 0.001, dtype=torch.float64)
    ratio = torch.exp(2 * torch.lgamma(2 / shapes) - torch.lgamma(1 / shapes) - torch.lgamma(3 / shapes))
    return shapes, ratio


def fit_aggd(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit asymmetric generalized Gaussians by moments (Lasmar et al. 2009).

    Args:
        values: ``(N, K)`` float64, K samples each.

    Returns:
        Shape α, left scale and right scale β of each row, ``(N,)``.
    """
    squares = values * values
    left, right = values < 0, values > 0
    tiny = torch.finfo(torch.float64).tiny
    sigma_left = ((squares * left).sum(1) / left.sum(1).clamp(min=1)).sqrt().clamp(min=tiny)
    sigma_right = ((squares * right).sum(1) / right.sum(1).clamp(min=1)).sqrt().clamp(min=tiny)
    skew = sigma_left / sigma_right
    ratio = values.abs().mean(1) ** 2 / squares.mean(1).clamp(min=tiny)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, table = _gamma_table()
    shapes, table = shapes.to(values.device), table.to(values.device)
    # The table increases with the shape.
    index = torch.searchsorted(table, ratio.clamp(float(table[0]), float(table[-1]))).clamp(1, len(table) - 1)
    lower_is_nearer = (ratio - table[index - 1]) < (table[index] - ratio)
    shape = shapes[index - lower_is_nearer.to(torch.int64)]
    scale = torch.exp(0.5 * (torch.lgamma(1 / shape) - torch.lgamma(3 / shape)))
    return shape, sigma_left * scale, sigma_right * scale


def niqe_features(image: Tensor) -> tuple[Tensor, Tensor]:
    """Features of all patches of one image.

    Args:
        image: ``(3, H, W)`` float in [0, 1], at least 96 pixels per side.

    Returns:
        ``(patches, 36)`` float64, 18 per scale, and the patches' sharpness ``(patches,)``.

    Raises:
        ValueError: another shape, or too small.
    """
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape[1:]) < PATCH:
        raise ValueError(f"NIQE needs a (3, H, W) image of at least {PATCH} pixels per side, not {tuple(image.shape)}")
    rows, columns = (n // PATCH * PATCH for n in image.shape[1:])
    rounded = torch.floor(image[None, :, :rows, :columns].clamp(0, 1).double() * 255 + 0.5)
    gray = luma(rounded)
    scales: list[Tensor] = []
    sharpness = torch.zeros(0)
    for scale in (1, 2):
        side = PATCH // scale
        coefficients, deviation = mscn(gray)
        patches = _patches(coefficients, side)
        if scale == 1:
            sharpness = _patches(deviation, side).mean(dim=(1, 2))
        shape, left, right = fit_aggd(patches.flatten(1))
        features = [shape, (left + right) / 2]
        for dy, dx in _SHIFTS:
            product = patches * torch.roll(patches, (dy, dx), dims=(1, 2))
            shape, left, right = fit_aggd(product.flatten(1))
            mean = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
            features += [shape, mean, left, right]
        scales.append(torch.stack(features, dim=1))
        gray = F.interpolate(gray, scale_factor=0.5, mode="bicubic", antialias=True)
    return torch.cat(scales, dim=1), sharpness


def _patches(planes: Tensor, side: int) -> Tensor:
    """``(1, 1, H, W)`` to ``(patches, side, side)``."""
    tiles = planes[0, 0].unfold(0, side, side).unfold(1, side, side)
    return tiles.reshape(-1, side, side)


def niqe(image: Tensor) -> float:
    """NIQE-derain of one image; lower is better.

    Args:
        image: ``(3, H, W)`` float in [0, 1], at least 192 pixels per side, so that it has enough patches.

    Raises:
        ValueError: another shape, or too small.
    """
    if image.ndim != 3 or min(image.shape[1:]) < 2 * PATCH:
        raise ValueError(f"NIQE needs a (3, H, W) image of at least {2 * PATCH} pixels per side")
    mean, covariance = _model()
    features = niqe_features(image)[0].cpu().numpy()
    image_covariance = np.cov(features, rowvar=False)
    return gaussian_distance(mean, covariance, features.mean(axis=0), image_covariance)


def gaussian_distance(
    mean_a: npt.NDArray[np.float64],
    covariance_a: npt.NDArray[np.float64],
    mean_b: npt.NDArray[np.float64],
    covariance_b: npt.NDArray[np.float64],
) -> float:
    """``sqrt(d' ((A + B) / 2)^-1 d)`` with d the difference of the means (eq. 10)."""
    difference = mean_a - mean_b
    pooled = np.linalg.pinv((covariance_a + covariance_b) / 2)
    return math.sqrt(max(0.0, float(difference @ pooled @ difference)))


@lru_cache(maxsize=1)
def _model() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    with np.load(_MODEL, allow_pickle=False) as file:
        return file["mean"], file["covariance"]
