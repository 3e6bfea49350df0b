"""UNet, the default backbone of Rain2Avoid (ICASSP 2023), in the manner of Liu et al. (ECCV 2018).

Four strided convolutions down (7×7, 5×5, 5×5, 3×3; 64, 128, 256, 512 features), four times nearest
upsampling, concatenation with the encoder's feature of that size and a 3×3 convolution up. Batch
normalization everywhere but at the two ends. The output is the picture itself, not a residual.
4,539,988 parameters.

The authors' ``train()`` returns nothing, so that their ``UNet().eval()`` is ``None``; here it is the
network. Parameter names are theirs, so their checkpoints load.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Layer(nn.Module):
    """Convolution without bias, batch normalization, activation."""

    def __init__(self, before: int, after: int, side: int, stride: int, activation: nn.Module, norm: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(before, after, side, stride, side // 2, bias=False)
        self.bn = nn.BatchNorm2d(after) if norm else nn.Identity()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.bn(self.conv(x)))
        return activated


class _Plain(nn.Module):
    """A lone convolution, under the name that the authors' checkpoints give it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv(x)
        return mixed


class UNet(nn.Module):
    """The U-Net of Rain2Avoid.

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
        self.dec_1 = _Plain(64 + 3, 3)

    def forward(self, rainy: Tensor) -> Tensor:
        skips = [rainy]
        for encode in (self.enc_1, self.enc_2, self.enc_3, self.enc_4):
            skips.append(encode(skips[-1]))
        x = skips.pop()
        for decode in (self.dec_4, self.dec_3, self.dec_2, self.dec_1):
            x = decode(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], dim=1))
        return x

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The authors' checkpoints use the same names."""
        return state

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, object] | None:
        """The settings of an official checkpoint; ``None`` if it is of another network."""
        return {} if {"enc_4.bn.weight", "dec_1.conv.bias"} <= state.keys() else None
