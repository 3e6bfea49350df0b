"""Gated U-Net: derain's own compact network.

A U-Net over a pixel-unshuffled picture (Shi et al. 2016), so that even its finest level works at half
resolution, made of residual blocks with gated linear units: a 3×3 convolution yields values and
gates (Dauphin et al. 2017; as gated convolution Yu et al. 2019), a 1×1 convolution projects their
product, a learnt weight for each channel scales the branch. No normalisation and no pooling over the
picture: every output pixel depends on a bounded neighbourhood only, so tiles agree with the whole.
Instead of normalising, the weights start with variance-preserving noise, without which the network
hardly learns (tried: after 200 steps its loss had not moved).

The network predicts the residual, ``derained = rainy + f(rainy)``, and starts next to the identity.
4,274,916 parameters at the defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ExactConv2d, sigmoid


class GatedBlock(nn.Module):
    """``x + scale · project(2 · values · sigmoid(gates))``, channels unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.full((1, channels, 1, 1), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.expand(x).chunk(2, dim=1)
        if torch.is_grad_enabled():
            # Twice, so that a gate at rest passes its value unchanged.
            out: Tensor = x + self.project(2 * values * torch.sigmoid(gates)) * self.scale
            return out
        # The same in fewer passes over memory: both factors go into the projection.
        assert self.project.bias is not None
        weight = 2 * self.scale.view(-1, 1, 1, 1) * self.project.weight
        branch = F.conv2d(sigmoid(gates).mul_(values), weight, self.scale.flatten() * self.project.bias)
        return branch.add_(x) if branch.dtype == x.dtype else x + branch


def _stack(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(GatedBlock(channels) for _ in range(count)))


class GatedUNet(nn.Module):
    """Residual U-Net of gated blocks.

    Args:
        channels: features of each level, finest first.
        blocks: blocks of each level, on the way down and again on the way up; the last level, the
            bottom of the U, has them once.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped. H and W must be multiples of
    ``2 ** len(channels)``.
    """

    def __init__(self, channels: Sequence[int] = (40, 80, 128, 192), blocks: Sequence[int] = (2, 2, 2, 3)) -> None:
        super().__init__()
        if len(channels) != len(blocks) or not channels or min(channels) < 1 or min(blocks) < 0:
            raise ValueError(f"channels {channels} and blocks {blocks} must be of one length and not negative")
        self.unshuffle = nn.PixelUnshuffle(2)
        self.shuffle = nn.PixelShuffle(2)
        self.stem = ExactConv2d(12, channels[0], 3, padding=1)
        *sides, bottom = [_stack(c, n) for c, n in zip(channels, blocks, strict=True)]
        self.encoder = nn.ModuleList(sides)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(channels))
        self.bottom = bottom
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in pairwise(channels))
        self.decoder = nn.ModuleList(_stack(c, n) for c, n in zip(channels[:-1], blocks[:-1], strict=True))
        self.head = ExactConv2d(channels[0], 12, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=0.002)

    def forward(self, rainy: Tensor) -> Tensor:
        """Derain a batch."""
        # Centred and spread to about unit variance, which the initialisation counts on.
        x = self.stem(self.unshuffle(rainy) * 4 - 2)
        skips = []
        for side, down in zip(self.encoder, self.down, strict=True):
            x = side(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up, side in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = side(self.shuffle(up(x)) + skips.pop())
        residual: Tensor = self.shuffle(self.head(x))
        return rainy + residual
