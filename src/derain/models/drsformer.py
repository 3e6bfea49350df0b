"""DRSformer (Chen et al., Learning a Sparse Transformer Network for Effective Image Deraining, CVPR 2023).

Restormer's U with other blocks. Attention between channels keeps only the largest scores of each row:
four shares (1/2, 2/3, 3/4, 4/5) each give a softmax, and a learned weight for each adds them up (TKSA,
eq. 3–5). The feed-forward part mixes 3×3 and 5×5 depthwise convolutions (MSFN, eq. 6). At the two ends of
the U a mixture of eight small operations, weighted by the picture's mean feature, makes up for what is
lost (MEFC).

15,609,136 parameters at the defaults, Rain2Avoid's width of 32. The authors' own checkpoints are of width
48, those for Rain200L and SPA-Data without the mixture; an import tells both from the keys.

Where code and paper differ: the feed-forward part of the code has no gates, as here. Parameter names
are the official ones. Attention and mixture average over the whole input: a tiled result differs
slightly from the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .layers import channel_means
from .restormer import EXPANSION, Block, ChannelAttention, TransformerU, u_settings

# As multiplier and divisor, so that the numbers kept are those of the authors' int(C * 2 / 3).
_SHARES = ((1, 2), (2, 3), (3, 4), (4, 5))
_OPERATIONS = 8


class SparseAttention(ChannelAttention):
    """Attention between channels over the largest scores only (TKSA)."""

    def __init__(self, channels: int, heads: int, bias: bool) -> None:
        super().__init__(channels, heads, bias)
        for number in range(1, len(_SHARES) + 1):
            self.register_parameter(f"attn{number}", nn.Parameter(torch.tensor([0.2])))

    def attend(self, scores: Tensor) -> Tensor:
        """The softmaxes over each share of the scores, weighted and added."""
        channels = scores.shape[-1]
        order = scores.detach().argsort(dim=-1, descending=True)
        rank = torch.empty_like(order).scatter_(-1, order, torch.arange(channels, device=order.device).expand_as(order))
        total = torch.zeros_like(scores)
        for number, (part, whole) in enumerate(_SHARES, start=1):
            kept = scores.masked_fill(rank >= channels * part // whole, float("-inf"))
            total = total + kept.softmax(dim=-1) * getattr(self, f"attn{number}")
        return total


class MixedFeedForward(nn.Module):
    """Two scales of depthwise convolutions, exchanged halfway (MSFN)."""

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
        fine = torch.relu(self.dwconv3x3(x)).chunk(2, dim=1)
        wide = torch.relu(self.dwconv5x5(x)).chunk(2, dim=1)
        first = torch.relu(self.dwconv3x3_1(torch.cat([fine[0], wide[0]], dim=1)))
        second = torch.relu(self.dwconv5x5_1(torch.cat([fine[1], wide[1]], dim=1)))
        projected: Tensor = self.project_out(torch.cat([first, second], dim=1))
        return projected


class _Operation(nn.Module):
    """A depthwise convolution and a 1×1 one; separable ones do it twice, dilated ones once."""

    def __init__(self, channels: int, side: int, dilated: bool) -> None:
        super().__init__()
        dilation = 2 if dilated else 1
        padding = side // 2 * dilation

        def pair() -> list[nn.Module]:
            deep = nn.Conv2d(channels, channels, side, padding=padding, dilation=dilation, groups=channels, bias=False)
            return [deep, nn.Conv2d(channels, channels, 1, bias=False)]

        self.op = nn.Sequential(*pair(), *([] if dilated else [nn.ReLU(), *pair()]))

    def forward(self, x: Tensor) -> Tensor:
        operated: Tensor = self.op(x)
        return operated


class _WeightedOperations(nn.Module):
    """All operations side by side, each times its weight, mixed by a 1×1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        separable = [_Operation(channels, side, dilated=False) for side in (1, 3, 5, 7)]
        dilated = [_Operation(channels, side, dilated=True) for side in (3, 5, 7)]
        mean = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self._ops = nn.ModuleList([*separable, *dilated, mean])
        self._out = nn.Sequential(nn.Conv2d(_OPERATIONS * channels, channels, 1, bias=False), nn.ReLU())

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        parts = [operation(x) * weights[:, i, None, None, None] for i, operation in enumerate(self._ops)]
        mixed: Tensor = self._out(torch.cat(parts, dim=1))
        return mixed


class _Weights(nn.Module):
    """The operations' weights from the mean feature: ``(N, steps, 8)``, each step summing to 1."""

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        count = steps * _OPERATIONS
        self.ca_fc = nn.Sequential(nn.Linear(channels, 2 * count), nn.ReLU(), nn.Linear(2 * count, count))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.ca_fc(channel_means(x).flatten(1))
        return scores.view(len(x), -1, _OPERATIONS).softmax(dim=-1)


class _Stem(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        prepared: Tensor = self.op(x)
        return prepared


class _Steps(nn.Module):
    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.preprocess = _Stem(channels)
        self._ops = nn.ModuleList(_WeightedOperations(channels) for _ in range(steps))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        x = self.preprocess(x)
        for number, step in enumerate(self._ops):
            x = torch.relu(step(x, weights[:, number]) + x)
        return x


class Mixture(nn.Module):
    """Mixture of experts feature compensator (MEFC) of four steps."""

    def __init__(self, channels: int, steps: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Weights(channels, steps), _Steps(channels, steps)])

    def forward(self, x: Tensor) -> Tensor:
        weights, steps = self.layers
        mixed: Tensor = steps(x, weights(x))
        return mixed


class DRSformer(TransformerU):
    """DRSformer.

    Args:
        dim: channels of the finest level; 48 in the authors' checkpoints.
        num_blocks, heads: of the four levels, finest first.
        mixture: with MEFC.
        bias: convolutions have biases.
        norm_bias: normalization centers and shifts.

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
        def block(channels: int, count: int) -> Block:
            attention = SparseAttention(channels, count, bias)
            return Block(channels, attention, MixedFeedForward(channels, EXPANSION, bias), norm_bias)

        before, refinement = (Mixture(dim), Mixture(2 * dim)) if mixture else (None, None)
        super().__init__(block, dim, num_blocks, heads, before, refinement, bias)

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Official checkpoints use the same names."""
        return state

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint; ``None`` if it is of another network."""
        if "encoder_level1.0.ffn.dwconv3x3.weight" not in state:
            return None
        mixture = any(key.startswith("encoder_level0.") for key in state)
        return {"dim": 48, **u_settings(state), **({} if mixture else {"mixture": False})}
