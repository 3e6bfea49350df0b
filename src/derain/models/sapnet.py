"""SAPNet's deraining network (Zheng et al., WACV 2022 workshops, pp. 52–62, arXiv 2111.08892).

PReNet's recurrence, whose five residual blocks use dilations 1, 2, 4, 8, 16 (the progressive dilated
unit) and channel residual attention after each convolution. 180,483 parameters at the defaults;
the depthwise-separable variant has 101,763, the split one 134,403. Zero padding, any image size.

Paper and code differ: according to the slides each unrolled unit has its own dilation; in the code the
dilation varies over the blocks inside a unit and all units are identical. The published weights belong
to the code, so this implementation follows it. Dilation does not change tensor shapes: official weights
also load with ``dilation=False``, but silently lose 1 to 10 dB, so keep it enabled for them.

Channel residual attention averages over the whole image, so the result of a tile differs from that of the
full image; ``tests/test_inference.py`` bounds the difference.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from .layers import channel_means
from .progressive import ProgressiveNet, add_and_rectify

Convolution = Literal["full", "separable", "split"]
DILATIONS = (1, 2, 4, 8, 16)


class ChannelResidualAttention(nn.Module):
    """CRA: ``x · sigmoid(W2 relu(W1 p) + W3 p)`` with p the mean of each channel; no biases.

    Without gradients this overwrites ``x``.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        reduced = max(1, channels // reduction)
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, reduced, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(reduced, channels, 1, bias=False),
        )
        self.conv_1_1 = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = channel_means(x)
        gate = torch.sigmoid(self.conv_du(pooled) + self.conv_1_1(pooled))
        return x * gate if torch.is_grad_enabled() else x.mul_(gate)


class SeparableConv(nn.Module):
    """Depthwise 3×3 convolution, then a pointwise one."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.depth_conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels)
        self.point_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.point_conv(self.depth_conv(x))
        return out


class SplitConv(nn.Module):
    """Two 3×3 convolutions, each on half of the channels."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.custom_conv1 = nn.Conv2d(half, half, 3, padding=dilation, dilation=dilation)
        self.custom_conv2 = nn.Conv2d(half, half, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return torch.cat([self.custom_conv1(first), self.custom_conv2(second)], dim=1)


def _convolution(kind: Convolution, channels: int, dilation: int) -> nn.Module:
    if kind == "full":
        return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
    if kind == "separable":
        return SeparableConv(channels, dilation)
    if kind == "split":
        return SplitConv(channels, dilation)
    raise ValueError(f"convolution must be full, separable or split, not {kind!r}")


class DilatedAttentionBlock(nn.Module):
    """``relu(x + body(x))``; the body applies convolution, attention and ReLU twice."""

    def __init__(self, channels: int, dilation: int, convolution: Convolution, attention: bool) -> None:
        super().__init__()

        def cra() -> nn.Module:
            return ChannelResidualAttention(channels) if attention else nn.Identity()

        self.body = nn.Sequential(
            _convolution(convolution, channels, dilation),
            cra(),
            nn.ReLU(inplace=True),
            _convolution(convolution, channels, dilation),
            cra(),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return add_and_rectify(x, self.body(x))


class SAPNet(ProgressiveNet):
    """Segmentation-aware progressive network: the deraining part, the only one used at test time.

    Args:
        iterations: stages of the recurrence (6).
        channels: channels of every layer (32); must be even for ``split``.
        dilation: use dilations 1, 2, 4, 8, 16 in the blocks; ``False`` for 1 in all of them.
        attention: channel residual attention after each convolution; ``False`` for the ablation.
        convolution: ``full``, ``separable`` (``use_DSC``) or ``split`` (``use_split``).

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped.
    """

    def __init__(
        self,
        iterations: int = 6,
        channels: int = 32,
        dilation: bool = True,
        attention: bool = True,
        convolution: Convolution = "full",
    ) -> None:
        blocks: list[nn.Module] = [
            DilatedAttentionBlock(channels, d if dilation else 1, convolution, attention) for d in DILATIONS
        ]
        super().__init__(blocks, channels, iterations)

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network.

        Dilation and iterations cannot be read from a checkpoint; the authors' defaults are assumed.
        """
        if "res_conv1.1.conv_1_1.weight" not in state or "conv0.0.weight" not in state:
            return None
        if "res_conv1.0.depth_conv.weight" in state:
            return {"convolution": "separable"}
        return {"convolution": "split"} if "res_conv1.0.custom_conv1.weight" in state else {}
