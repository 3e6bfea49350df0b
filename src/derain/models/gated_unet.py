"""Gated U-Net: derain's own compact network.

A U-Net on a pixel-unshuffled image (Shi et al. 2016), so that even its finest level works at half
resolution. It consists of residual blocks with gated linear units: a 3×3 convolution produces values and
gates (Dauphin et al. 2017; as gated convolution in Yu et al. 2019), a 1×1 convolution projects their
product, and a learned per-channel weight scales the branch. There is no normalization and no global
pooling: every output pixel depends on a bounded neighborhood only, so a tiled result agrees with that of
the full image. Variance-preserving random initialization takes the place of normalization; without it the
network hardly learns (in a trial, the loss had not changed after 200 steps).

The network predicts the residual, ``derained = rainy + f(rainy)``, and is initialized close to the identity.
4,274,916 parameters at the defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import InitializesFromOther
from .layers import Fp32Conv2d, gated

ModuleType = TypeVar("ModuleType", bound=nn.Module)


class GatedBlock(nn.Module):
    """``x + scale · project(2 · values · sigmoid(gates))``, channels unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.full((1, channels, 1, 1), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        # The factor 2 and the scale are folded into the projection, which saves two passes over memory. The
        # factor 2 lets a gate with logit 0 (sigmoid 1/2) pass its value unchanged.
        assert self.project.bias is not None
        weight = 2 * self.scale.view(-1, 1, 1, 1) * self.project.weight
        branch = F.conv2d(gated(self.expand(x)), weight, self.scale.flatten() * self.project.bias)
        return branch.add_(x) if branch.dtype == x.dtype else x + branch

    def init_from_smaller(self, smaller: GatedBlock) -> None:
        """Copy a narrower block into the first channels, which then ignore the others."""
        hidden = torch.arange(smaller.scale.shape[1])
        gates = hidden + self.scale.shape[1]
        _embed(self.expand, smaller.expand, torch.cat([hidden, gates]), hidden)
        _embed(self.project, smaller.project, hidden, hidden)
        self.scale[:, hidden] = smaller.scale

    def init_identity(self) -> None:
        """Let the block return its input."""
        assert self.project.bias is not None
        self.project.weight.zero_()
        self.project.bias.zero_()

    def init_from_larger(self, larger: GatedBlock, channels: Tensor) -> None:
        """Copy the given channels, and the strongest hidden channels, of a block at least as wide as this one."""
        values, _ = larger.expand.weight.flatten(1).chunk(2)
        hidden = _strongest(values.norm(dim=1) * larger.project.weight.flatten(1).norm(dim=0), len(channels))
        _copy_channels(self.expand, larger.expand, torch.cat([hidden, hidden + len(values)]), channels)
        _copy_channels(self.project, larger.project, channels, hidden)
        self.scale.copy_(larger.scale[:, channels])


def _stack(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(GatedBlock(channels) for _ in range(count)))


class GatedUNet(InitializesFromOther, nn.Module):
    """Residual U-Net of gated blocks.

    Args:
        channels: channels of each level, finest first.
        blocks: blocks of each level, once in the encoder and once in the decoder; the last level, the
            bottleneck, has them only once.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped. H and W must be multiples of
    ``2 ** len(channels)``.
    """

    def __init__(self, channels: Sequence[int] = (40, 80, 128, 192), blocks: Sequence[int] = (2, 2, 2, 3)) -> None:
        super().__init__()
        if len(channels) != len(blocks) or not channels or min(channels) < 1 or min(blocks) < 0:
            raise ValueError(
                f"channels {channels} and blocks {blocks} must have the same length, "
                "channels at least 1 and blocks at least 0"
            )
        self.channels, self.blocks = tuple(channels), tuple(blocks)
        self.unshuffle = nn.PixelUnshuffle(2)
        self.shuffle = nn.PixelShuffle(2)
        self.stem = Fp32Conv2d(12, channels[0], 3, padding=1)
        *encoder, bottom = [_stack(c, n) for c, n in zip(channels, blocks, strict=True)]
        self.encoder = nn.ModuleList(encoder)
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
        # Centered and scaled to about unit variance, which the initialization assumes.
        x = self.stem(self.unshuffle(rainy) * 4 - 2)
        skips = []
        for stack, down in zip(self.encoder, self.down, strict=True):
            x = stack(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up, stack in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = stack(self.shuffle(up(x)) + skips.pop())
        residual: Tensor = self.shuffle(self.head(x))
        return rainy + residual

    @torch.no_grad()
    def init_from(self, other: nn.Module) -> None:
        """Start from the weights of a gated U-Net of another size.

        Of a larger network (no dimension smaller) the first blocks of each stack are kept, and the channels that
        are written and read with the largest weights (magnitude pruning; Li et al., ICLR 2017); the result must be
        trained further. A smaller network is embedded: this network then computes the same function; the
        additional channels are random and not read yet, and the additional blocks return their input.

        Raises:
            ValueError: not a gated U-Net, or larger in one dimension and smaller in another.
        """
        if not isinstance(other, GatedUNet):
            raise ValueError(f"a {type(other).__name__} cannot initialize a gated U-Net")
        theirs, ours = (*other.channels, *other.blocks), (*self.channels, *self.blocks)
        if len(other.channels) == len(self.channels):
            if all(a >= b for a, b in zip(theirs, ours, strict=True)):
                return self._init_from_larger(other)
            if all(a <= b for a, b in zip(theirs, ours, strict=True)):
                return self._init_from_smaller(other)
        raise ValueError(
            f"a gated U-Net with channels {other.channels} and blocks {other.blocks} cannot initialize one with "
            f"channels {self.channels} and blocks {self.blocks}: no dimension may be larger while another is smaller"
        )

    def _init_from_smaller(self, smaller: GatedUNet) -> None:
        channels = [torch.arange(count) for count in smaller.channels]
        _embed(self.stem, smaller.stem, channels[0], None)
        _embed(self.head, smaller.head, None, channels[0])
        resizing = (_submodules(nn.Conv2d, part) for part in (self.down, smaller.down, self.up, smaller.up))
        levels = zip(pairwise(channels), zip(*resizing, strict=True), strict=True)
        for (fine, coarse), (down, smaller_down, up, smaller_up) in levels:
            _embed(down, smaller_down, coarse, fine)
            _embed(up, smaller_up, torch.arange(4 * len(fine)), coarse)  # pixel shuffle: four channels become one
        for level in range(len(channels)):
            for stack, smaller_stack in zip(self._stacks(level), smaller._stacks(level), strict=True):
                blocks, copied = _submodules(GatedBlock, stack), _submodules(GatedBlock, smaller_stack)
                for block, smaller_block in zip(blocks, copied, strict=False):
                    block.init_from_smaller(smaller_block)
                for block in blocks[len(copied) :]:
                    block.init_identity()

    def _init_from_larger(self, larger: GatedUNet) -> None:
        selected = [_strongest(larger._channel_strength(level), count) for level, count in enumerate(self.channels)]
        _copy_channels(self.stem, larger.stem, selected[0], None)
        _copy_channels(self.head, larger.head, None, selected[0])
        resizing = (_submodules(nn.Conv2d, part) for part in (self.down, larger.down, self.up, larger.up))
        levels = zip(pairwise(selected), zip(*resizing, strict=True), strict=True)
        for (fine, coarse), (down, larger_down, up, larger_up) in levels:
            _copy_channels(down, larger_down, coarse, fine)
            shuffled = (4 * fine[:, None] + torch.arange(4)).flatten()  # pixel shuffle: four channels become one
            _copy_channels(up, larger_up, shuffled, coarse)
        for level, channels in enumerate(selected):
            for stack, larger_stack in zip(self._stacks(level), larger._stacks(level), strict=True):
                blocks = zip(_submodules(GatedBlock, stack), _submodules(GatedBlock, larger_stack), strict=False)
                for block, larger_block in blocks:
                    block.init_from_larger(larger_block, channels)

    def _stacks(self, level: int) -> list[nn.Module]:
        """The stacks of a level: that of the encoder and that of the decoder, or the bottleneck."""
        return [self.bottom] if level == len(self.encoder) else [self.encoder[level], self.decoder[level]]

    def _channel_strength(self, level: int) -> Tensor:
        """For each channel of a level, the norm of the weights that write it times that of those that read it."""
        blocks = [block for stack in self._stacks(level) for block in _submodules(GatedBlock, stack)]
        written = [block.scale.view(-1, 1) * block.project.weight.flatten(1) for block in blocks]
        read = [block.expand.weight for block in blocks]
        downs, ups = _submodules(nn.Conv2d, self.down), _submodules(nn.Conv2d, self.up)
        written.append((downs[level - 1] if level else self.stem).weight.flatten(1))
        read.append((ups[level - 1] if level else self.head).weight)
        if level < len(downs):
            written.append(ups[level].weight.view(self.channels[level], -1))
            read.append(downs[level].weight)
        columns = [kernel.transpose(0, 1).flatten(1) for kernel in read]
        strength: Tensor = torch.cat(written, dim=1).norm(dim=1) * torch.cat(columns, dim=1).norm(dim=1)
        return strength


def _submodules(kind: type[ModuleType], parent: nn.Module) -> list[ModuleType]:
    """All modules of a class inside ``parent``."""
    return [module for module in parent.modules() if isinstance(module, kind)]


def _strongest(strength: Tensor, count: int) -> Tensor:
    """The indices of the ``count`` largest values, in ascending order."""
    return strength.topk(count).indices.sort().values


def _embed(target: nn.Conv2d, source: nn.Conv2d, outputs: Tensor | None, inputs: Tensor | None) -> None:
    """Copy a convolution into some output channels, which then read the given inputs only; ``None`` for all."""
    assert target.bias is not None
    assert source.bias is not None
    outputs = torch.arange(len(target.weight)) if outputs is None else outputs
    inputs = torch.arange(target.weight.shape[1]) if inputs is None else inputs
    rows = torch.zeros_like(target.weight[outputs])
    rows[:, inputs] = source.weight
    target.weight[outputs] = rows
    target.bias[outputs] = source.bias


def _copy_channels(target: nn.Conv2d, source: nn.Conv2d, outputs: Tensor | None, inputs: Tensor | None) -> None:
    """Copy a convolution, restricted to some output and input channels; ``None`` for all."""
    weight, bias = source.weight, source.bias
    assert target.bias is not None
    assert bias is not None
    if outputs is not None:
        weight, bias = weight[outputs], bias[outputs]
    target.weight.copy_(weight if inputs is None else weight[:, inputs])
    target.bias.copy_(bias)
