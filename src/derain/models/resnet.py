"""ResNet backbone of Rain2Avoid (ICASSP 2023): a ResNet-18 encoder (He et al., CVPR 2016) and a decoder.

The decoder upsamples the five scales of the encoder by 4×4 transposed convolutions of stride 2 and adds the
encoder's features of each size; the last convolution outputs the image itself.

13,998,147 parameters. The authors' count of 14,511,147 includes the 513,000 of the classifier, which
their module contains but never uses; it is omitted here. Their checkpoints contain the encoder three
times; :meth:`ResNet.rename_official` takes each tensor once.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import HasOfficialCheckpoints


class _BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, with torchvision's parameter names."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        if stride != 1 or in_channels != out_channels:
            self.downsample: nn.Module = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        else:
            self.downsample = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.downsample(x))


def _stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_BasicBlock(in_channels, out_channels, stride), _BasicBlock(out_channels, out_channels, 1))


class ResNet(HasOfficialCheckpoints, nn.Module):
    """ResNet-18 encoder with an additive decoder.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped. H and W must be multiples of 32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, 1)
        self.layer2 = _stage(64, 128, 2)
        self.layer3 = _stage(128, 256, 2)
        self.layer4 = _stage(256, 512, 2)
        widths = (512, 256, 128, 64, 64, 3)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(widths))

    def forward(self, rainy: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(rainy)))
        skips = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            skips.append(x)
        skips.pop()
        for up in self.up[:-1]:
            x = torch.relu(up(x)) + skips.pop()
        derained: Tensor = self.up[-1](x)
        return derained

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert an official checkpoint to derain's key names.

        Raises:
            KeyError: the state has a key that official checkpoints do not have.
        """
        renamed = {}
        for key, value in state.items():
            outer, _, rest = key.partition(".")
            if outer == "resnet18":
                if not rest.startswith("fc."):
                    renamed[rest] = value
            elif outer[:2] == "up" and outer[2:].isdigit() and rest.startswith("main.0."):
                renamed[f"up.{int(outer[2:]) - 1}.{rest.removeprefix('main.0.')}"] = value
            elif outer != "resnet" and not outer.startswith("down"):  # further copies of the encoder
                raise KeyError(key)
        return renamed

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, object] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network."""
        return {} if "resnet18.conv1.weight" in state and "up5.main.0.weight" in state else None
