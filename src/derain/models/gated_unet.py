"""Gated U-Net: derain's own compact network.

A U-Net over a pixel-unshuffled picture (Shi et al. 2016), so that even its finest level works at half
resolution, made of residual blocks with gated linear units: a 3×3 convolution yields values and
gates (Dauphin et al. 2017; as gated convolution Yu et al. 2019), a 1×1 convolution projects their
product, a learned weight for each channel scales the branch. No normalization and no pooling over the
picture: every output pixel depends on a bounded neighborhood only, so tiles agree with the whole.
Instead of normalizing, the weights start with variance-preserving noise, without which the network
hardly learns (tried: after 200 steps its loss had not moved).

The network predicts the residual, ``derained = rainy + f(rainy)``, and starts next to the identity.
4,274,916 parameters at the defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Fp32Conv2d, gated

Kind = TypeVar("Kind", bound=nn.Module)


class GatedBlock(nn.Module):
    """``x + scale · project(2 · values · sigmoid(gates))``, channels unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.full((1, channels, 1, 1), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        # Both factors go into the projection, which spares two passes over memory; twice, so that a gate at
        # rest passes its value unchanged.
        assert self.project.bias is not None
        weight = 2 * self.scale.view(-1, 1, 1, 1) * self.project.weight
        branch = F.conv2d(gated(self.expand(x)), weight, self.scale.flatten() * self.project.bias)
        return branch.add_(x) if branch.dtype == x.dtype else x + branch

    def start_from(self, larger: GatedBlock, channels: Tensor) -> None:
        """Take over some channels of a block that is as wide or wider; inside, the strongest of its own."""
        values, _ = larger.expand.weight.flatten(1).chunk(2)
        inner = _strongest(values.norm(dim=1) * larger.project.weight.flatten(1).norm(dim=0), len(channels))
        _cut(self.expand, larger.expand, torch.cat([inner, inner + len(values)]), channels)
        _cut(self.project, larger.project, channels, inner)
        self.scale.copy_(larger.scale[:, channels])


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
        self.channels, self.blocks = tuple(channels), tuple(blocks)
        self.unshuffle = nn.PixelUnshuffle(2)
        self.shuffle = nn.PixelShuffle(2)
        self.stem = Fp32Conv2d(12, channels[0], 3, padding=1)
        *sides, bottom = [_stack(c, n) for c, n in zip(channels, blocks, strict=True)]
        self.encoder = nn.ModuleList(sides)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(channels))
        self.bottom = bottom
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in pairwise(channels))
        self.decoder = nn.ModuleList(_stack(c, n) for c, n in zip(channels[:-1], blocks[:-1], strict=True))
        self.head = Fp32Conv2d(channels[0], 12, 3, padding=1)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=0.002)

    def forward(self, rainy: Tensor) -> Tensor:
        """Derain a batch."""
        # Centered and spread to about unit variance, which the initialization counts on.
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

    @torch.no_grad()
    def start_from(self, larger: GatedUNet) -> None:
        """Take over the weights of a network with as many channels and blocks, or more.

        Of more blocks the first ones stay, of more channels those that are written and read with the largest
        weights (magnitude pruning; Li et al., ICLR 2017). What came out must be trained again.

        Raises:
            ValueError: a network that is smaller somewhere.
        """
        have, want = (*larger.channels, *larger.blocks), (*self.channels, *self.blocks)
        if len(have) != len(want) or any(a < b for a, b in zip(have, want, strict=True)):
            raise ValueError(f"levels of {larger.channels} channels and {larger.blocks} blocks cannot fill these")
        kept = [_strongest(larger._uses(level), count) for level, count in enumerate(self.channels)]
        _cut(self.stem, larger.stem, kept[0], None)
        _cut(self.head, larger.head, None, kept[0])
        moves = zip(*(_all(nn.Conv2d, part) for part in (self.down, larger.down, self.up, larger.up)), strict=True)
        for (fine, coarse), (down, larger_down, up, larger_up) in zip(pairwise(kept), moves, strict=True):
            _cut(down, larger_down, coarse, fine)
            fours = (4 * fine[:, None] + torch.arange(4)).flatten()  # what becomes four pixels of one channel
            _cut(up, larger_up, fours, coarse)
        for level, channels in enumerate(kept):
            for mine, theirs in zip(self._stacks(level), larger._stacks(level), strict=True):
                for block, source in zip(_all(GatedBlock, mine), _all(GatedBlock, theirs), strict=False):
                    block.start_from(source, channels)

    def _stacks(self, level: int) -> list[nn.Module]:
        """The stacks that work at a level: one on the way down and one up, or the bottom."""
        return [self.bottom] if level == len(self.encoder) else [self.encoder[level], self.decoder[level]]

    def _uses(self, level: int) -> Tensor:
        """How strongly each channel of a level is written, times how strongly it is read."""
        blocks = [block for stack in self._stacks(level) for block in _all(GatedBlock, stack)]
        written = [block.scale.view(-1, 1) * block.project.weight.flatten(1) for block in blocks]
        read = [block.expand.weight for block in blocks]
        downs, ups = _all(nn.Conv2d, self.down), _all(nn.Conv2d, self.up)
        written.append((downs[level - 1] if level else self.stem).weight.flatten(1))
        read.append((ups[level - 1] if level else self.head).weight)
        if level < len(downs):
            written.append(ups[level].weight.view(self.channels[level], -1))
            read.append(downs[level].weight)
        columns = [kernel.transpose(0, 1).flatten(1) for kernel in read]
        strength: Tensor = torch.cat(written, dim=1).norm(dim=1) * torch.cat(columns, dim=1).norm(dim=1)
        return strength


def _all(kind: type[Kind], part: nn.Module) -> list[Kind]:
    """The modules of a kind in a part."""
    return [module for module in part.modules() if isinstance(module, kind)]


def _strongest(strength: Tensor, count: int) -> Tensor:
    return strength.topk(count).indices.sort().values


def _cut(mine: nn.Conv2d, theirs: nn.Conv2d, outputs: Tensor | None, inputs: Tensor | None) -> None:
    """Some outputs and inputs of a convolution; ``None`` for all."""
    weight, bias = theirs.weight, theirs.bias
    assert mine.bias is not None
    assert bias is not None
    if outputs is not None:
        weight, bias = weight[outputs], bias[outputs]
    mine.weight.copy_(weight if inputs is None else weight[:, inputs])
    mine.bias.copy_(bias)
