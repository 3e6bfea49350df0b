"""Losses on pixels and on their spectrum."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class L1(nn.Module):
    """Mean absolute difference."""

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        return (derained - clean).abs().mean()


class MSE(nn.Module):
    """Mean squared difference.

    Args:
        peak: the values' range; SGINet's authors measure in 0..255, so 255 there.
    """

    def __init__(self, peak: float = 1.0) -> None:
        super().__init__()
        self.peak = peak

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        return (derained - clean).square().mean() * self.peak**2


class Charbonnier(nn.Module):
    """Mean of ``sqrt(d² + ε²)``, an L1 that is smooth at 0 (Charbonnier et al., ICIP 1994)."""

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        return ((derained - clean).square() + self.epsilon**2).sqrt().mean()


class Frequency(nn.Module):
    """Mean absolute difference of the orthonormal 2-D spectra (Cho et al., MIMO-UNet, ICCV 2021, eq. 8)."""

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(derained - clean, norm="ortho")
        return torch.view_as_real(spectrum).abs().mean()
