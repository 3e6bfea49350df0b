"""U-Net, the default backbone of Rain2Avoid (ICASSP 2023), similar to that of Liu et al. (ECCV 2018).

The encoder has four strided convolutions (7×7, 5×5, 5×5, 3×3; 64, 128, 256, 512 channels). Each of the four
decoder levels is nearest upsampling, concatenation with the encoder's features of that size, and a 3×3
convolution. Batch normalization in all but the first and last layer. The output is the image itself, not a
residual. 4,539,988 parameters.

The authors' ``train()`` returns nothing, so that their ``UNet().eval()`` is ``None``; here it returns the
network. Parameter names are theirs, so that their checkpoints load.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import HasOfficialCheckpoints


class _Layer(nn.Module):
    """Convolution without bias, batch normalization, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        activation: nn.Module,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.bn(self.conv(x)))
        return out


class _OutputConv(nn.Module):
    """A single convolution, nested to match the key names of official checkpoints."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class UNet(HasOfficialCheckpoints, nn.Module):
    """Rain2Avoid's U-Net.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped. H and W must be multiples of 16.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enc_1 = _Layer(3, 64, 7, 2, nn.ReLU(), norm=False)
        self.enc_2 = _Layer(64, 128, 5, 2, nn.ReLU())
        self.enc_3 = _Layer(128, 256, 5, 2, nn.ReLU())
        self.enc_4 = _Layer(256, 512, 3, 2, nn.ReLU())
        self.dec_4 = _Layer(512 + 256, 256, 3, 1, nn.LeakyReLU(0.2))
        self.dec_3 = _Layer(256 + 128, 128, 3, 1, nn.LeakyReLU(0.2))
        self.dec_2 = _Layer(128 + 64, 64, 3, 1, nn.LeakyReLU(0.2))
        self.dec_1 = _OutputConv(64 + 3, 3)

    def forward(self, rainy: Tensor) -> Tensor:
        skips = [rainy]
        for encoder in (self.enc_1, self.enc_2, self.enc_3, self.enc_4):
            skips.append(encoder(skips[-1]))
        x = skips.pop()
        for decoder in (self.dec_4, self.dec_3, self.dec_2, self.dec_1):
            x = decoder(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], dim=1))
        return x

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, object] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network."""
        return {} if {"enc_4.bn.weight", "dec_1.conv.bias"} <= state.keys() else None
