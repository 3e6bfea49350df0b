"""DRSformer (Chen et al., Learning a Sparse Transformer Network for Effective Image Deraining, CVPR 2023).

The U-shaped architecture of Restormer with other blocks. Channel attention uses only the largest scores of
each row: one softmax each over the top 1/2, 2/3, 3/4 and 4/5 of the scores, summed with learned weights
(TKSA, eq. 3–5). The feed-forward network mixes 3×3 and 5×5 depthwise convolutions (MSFN, eq. 6). At both
ends of the U, a mixture of eight small operations, weighted by the mean features of the image, compensates
for lost features (MEFC).

15,609,136 parameters at the defaults, which are Rain2Avoid's (width 32). The authors' own checkpoints have
width 48; those for Rain200L and SPA-Data have no mixture. Import detects both from the keys.

Where code and paper differ: the feed-forward network of the code has no gates, and neither does this one.
Parameter names are the official ones. Attention and mixture average over the whole input, so a tiled result
differs slightly from that of the full image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .base import HasOfficialCheckpoints
from .layers import channel_means
from .restormer import EXPANSION, Block, ChannelAttention, TransformerU, u_settings

# Numerator and denominator: integer division gives the same counts as the authors' int(C * 2 / 3).
_TOP_FRACTIONS = ((1, 2), (2, 3), (3, 4), (4, 5))
_OPERATIONS = 8


class SparseAttention(ChannelAttention):
    """Top-k sparse channel attention (TKSA)."""

    def __init__(self, channels: int, heads: int, bias: bool) -> None:
        super().__init__(channels, heads, bias)
        for number in range(1, len(_TOP_FRACTIONS) + 1):
            self.register_parameter(f"attn{number}", nn.Parameter(torch.tensor([0.2])))

    def attend(self, scores: Tensor) -> Tensor:
        """Weighted sum of the softmaxes over each top fraction of the scores."""
        channels = scores.shape[-1]
        order = scores.detach().argsort(dim=-1, descending=True)
        rank = torch.empty_like(order).scatter_(-1, order, torch.arange(channels, device=order.device).expand_as(order))
        total = torch.zeros_like(scores)
        for number, (numerator, denominator) in enumerate(_TOP_FRACTIONS, start=1):
            masked = scores.masked_fill(rank >= channels * numerator // denominator, float("-inf"))
            total = total + masked.softmax(dim=-1) * getattr(self, f"attn{number}")
        return total


class MixedFeedForward(nn.Module):
    """Mixed-scale feed-forward network (MSFN): two depthwise scales, which exchange features halfway."""

    def __init__(self, channels: int, expansion: float, bias: bool) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv3x3 = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.dwconv5x5 = nn.Conv2d(2 * hidden, 2 * hidden, 5, padding=2, groups=2 * hidden, bias=bias)
        self.dwconv3x3_1 = nn.Conv2d(2 * hidden, hidden, 3, padding=1, groups=hidden, bias=bias)
        self.dwconv5x5_1 = nn.Conv2d(2 * hidden, hidden, 5, padding=2, groups=hidden, bias=bias)
        self.project_out = nn.Conv2d(2 * hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project_in(x)
        small = torch.relu(self.dwconv3x3(x)).chunk(2, dim=1)
        large = torch.relu(self.dwconv5x5(x)).chunk(2, dim=1)
        first = torch.relu(self.dwconv3x3_1(torch.cat([small[0], large[0]], dim=1)))
        second = torch.relu(self.dwconv5x5_1(torch.cat([small[1], large[1]], dim=1)))
        projected: Tensor = self.project_out(torch.cat([first, second], dim=1))
        return projected


class _Operation(nn.Module):
    """A depthwise and a 1×1 convolution, once if dilated, otherwise twice (separable)."""

    def __init__(self, channels: int, kernel_size: int, dilated: bool) -> None:
        super().__init__()
        dilation = 2 if dilated else 1
        padding = kernel_size // 2 * dilation

        def pair() -> list[nn.Module]:
            depthwise = nn.Conv2d(
                channels, channels, kernel_size, padding=padding, dilation=dilation, groups=channels, bias=False
            )
            return [depthwise, nn.Conv2d(channels, channels, 1, bias=False)]

        self.op = nn.Sequential(*pair(), *([] if dilated else [nn.ReLU(), *pair()]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class _OperationLayer(nn.Module):
    """All operations in parallel, each multiplied by its weight, fused by a 1×1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        separable = [_Operation(channels, kernel_size, dilated=False) for kernel_size in (1, 3, 5, 7)]
        dilated = [_Operation(channels, kernel_size, dilated=True) for kernel_size in (3, 5, 7)]
        average = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self._ops = nn.ModuleList([*separable, *dilated, average])
        self._out = nn.Sequential(nn.Conv2d(_OPERATIONS * channels, channels, 1, bias=False), nn.ReLU())

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        outputs = [operation(x) * weights[:, i, None, None, None] for i, operation in enumerate(self._ops)]
        fused: Tensor = self._out(torch.cat(outputs, dim=1))
        return fused


class _OperationAttention(nn.Module):
    """Weights of the operations, computed from the mean features: ``(N, steps, 8)``, summing to 1 per step."""

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        count = steps * _OPERATIONS
        self.ca_fc = nn.Sequential(nn.Linear(channels, 2 * count), nn.ReLU(), nn.Linear(2 * count, count))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.ca_fc(channel_means(x).flatten(1))
        return scores.view(len(x), -1, _OPERATIONS).softmax(dim=-1)


class _Preprocess(nn.Module):
    """1×1 convolution and ReLU ahead of the operation layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class _OperationLayers(nn.Module):
    """Sequence of residual operation layers."""

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.preprocess = _Preprocess(channels)
        self._ops = nn.ModuleList(_OperationLayer(channels) for _ in range(steps))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        x = self.preprocess(x)
        for number, layer in enumerate(self._ops):
            x = torch.relu(layer(x, weights[:, number]) + x)
        return x


class Mixture(nn.Module):
    """Mixture of experts feature compensator (MEFC), by default of four steps."""

    def __init__(self, channels: int, steps: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_OperationAttention(channels, steps), _OperationLayers(channels, steps)])

    def forward(self, x: Tensor) -> Tensor:
        attention, operations = self.layers
        out: Tensor = operations(x, attention(x))
        return out


class DRSformer(HasOfficialCheckpoints, TransformerU):
    """Deraining sparse transformer.

    Args:
        dim: channels of the finest level; 48 in the authors' checkpoints.
        num_blocks: blocks of each of the four levels, finest first.
        heads: attention heads of each level.
        mixture: include the mixtures (MEFC).
        bias: convolutions have biases.
        norm_bias: normalization subtracts the mean and has a bias.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped. H and W must be multiples of 8.
    """

    def __init__(
        self,
        dim: int = 32,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        heads: Sequence[int] = (1, 2, 4, 8),
        mixture: bool = True,
        bias: bool = False,
        norm_bias: bool = True,
    ) -> None:
        def block(channels: int, num_heads: int) -> Block:
            attention = SparseAttention(channels, num_heads, bias)
            return Block(channels, attention, MixedFeedForward(channels, EXPANSION, bias), norm_bias)

        encoder_level0, refinement = (Mixture(dim), Mixture(2 * dim)) if mixture else (None, None)
        super().__init__(block, dim, num_blocks, heads, encoder_level0, refinement, bias)

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network."""
        if "encoder_level1.0.ffn.dwconv3x3.weight" not in state:
            return None
        mixture = any(key.startswith("encoder_level0.") for key in state)
        return {"dim": 48, **u_settings(state), **({} if mixture else {"mixture": False})}
