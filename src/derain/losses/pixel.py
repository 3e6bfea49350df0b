"""Losses on pixels and on their spectrum."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class L1(nn.Module):
    """Mean absolute difference."""

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        return (derained - clean).abs().mean()


class LogL1(nn.Module):
    """L1 of each picture on a logarithmic scale, ``floor · log(1 + L1 / floor)``, and the mean over the batch.

    PSNR counts ratios of errors, L1 their size, so with L1 the patches in heavy rain decide nearly alone;
    a plain logarithm hears only those that are almost clean. For small errors this is L1.

    Args:
        floor: the error at which a picture begins to count less.
    """

    def __init__(self, floor: float = 0.01) -> None:
        super().__init__()
        if floor <= 0:
            raise ValueError(f"floor must be above 0, not {floor}")
        self.floor = floor

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        errors = (derained - clean).abs().mean(dim=(1, 2, 3))
        return self.floor * torch.log1p(errors / self.floor).mean()


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


class PSNR(nn.Module):
    """Minus each picture's PSNR in dB, and the mean over the batch (HINet, Chen et al., CVPRW 2021).

    Args:
        floor: mean squared error added to each picture's, so that one without rain does not outweigh all others.
    """

    def __init__(self, floor: float = 1e-5) -> None:
        super().__init__()
        if floor <= 0:
            raise ValueError(f"floor must be above 0, not {floor}")
        self.floor = floor

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        errors = (derained - clean).square().mean(dim=(1, 2, 3))
        return 10 * torch.log10(errors + self.floor).mean()


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
