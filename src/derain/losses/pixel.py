"""Losses on pixels and on their spectrum."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class L1(nn.Module):
    """Mean absolute difference."""

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        return (derained - clean).abs().mean()


class LogL1(nn.Module):
    """L1 of each image on a logarithmic scale, ``floor · log(1 + L1 / floor)``, averaged over the batch.

    PSNR depends on ratios of errors, L1 on their magnitude, so with L1 the patches in heavy rain dominate;
    with a plain logarithm those that are almost clean do. For small errors this equals L1.

    Args:
        floor: the error above which an image counts less.
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
        peak: factor on the values; 255 for SGINet, whose authors compute it in 0..255.
    """

    def __init__(self, peak: float = 1.0) -> None:
        super().__init__()
        self.peak = peak

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        return (derained - clean).square().mean() * self.peak**2


class PSNR(nn.Module):
    """Negative PSNR of each image in dB, averaged over the batch (HINet, Chen et al., CVPRW 2021).

    Args:
        floor: added to the mean squared error of each image, so that a rain-free image does not outweigh all others.
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
