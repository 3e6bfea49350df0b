"""NAFNet (Chen et al., Simple Baselines for Image Restoration, ECCV 2022, arXiv 2204.04676).

A U-Net of blocks without nonlinear activation functions: where others have GELU or ReLU, half of the channels are
multiplied by the other half (SimpleGate: x₁·x₂), and channel attention multiplies by a linear map of the channel means
(SCA: x·W·mean(x)). A block consists of two residual branches with layer normalization over the channels of each pixel
and learned scales β and γ, initialized with zeros (fig. 3d). Levels are downsampled by strided 2×2 convolutions and
upsampled by pixel shuffling; skip connections add. The network predicts a residual.

| official checkpoint | settings | parameters |
|---|---|---|
| GoPro width 32 | the defaults | 17,111,907 |
| GoPro width 64, REDS width 64 | ``width=64`` | 67,888,835 |
| SIDD width 32 | ``encoder_blocks=(2, 2, 4, 8), middle_blocks=12, decoder_blocks=(2, 2, 2, 2)`` | 29,159,715 |
| SIDD width 64 | the same and ``width=64`` | 115,982,915 |

There is no official checkpoint for rain. Parameter names are the official ones, so official checkpoints load without
renaming.

Where paper and code differ, or the code is unexpected:

- For the GoPro and REDS figures the authors replace the means over the whole image by means over windows of 384
  pixels, 1.5 times the training patch (TLC, Chu et al., ECCV 2022). That is ``window=384`` here; the weights are the
  same.
- Sides that are not multiples of 2^levels are padded with zeros there, by reflection here.
- The stereo (NAFSSR) and baseline networks of the same repository are not included.

Without ``window`` the channel means cover the whole input, so the result of a tile differs from that of the full
image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import HasMemoryEstimate, HasOfficialCheckpoints
from .layers import Fp32Conv2d, autocast_off, channel_means

_EPSILON = 1e-6


class ChannelNorm(nn.Module):
    """Layer normalization over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        scale = torch.rsqrt(variance + _EPSILON)
        if torch.is_grad_enabled():
            return (x - mean) * scale * self.weight[:, None, None] + self.bias[:, None, None]
        return (x - mean).mul_(scale).mul_(self.weight[:, None, None]).add_(self.bias[:, None, None])


def simple_gate(x: Tensor) -> Tensor:
    """The product of the two halves of the channels."""
    first, second = x.chunk(2, dim=1)
    return first * second


def window_means(x: Tensor, side: int) -> Tensor:
    """The mean of each channel over the window of ``side × side`` pixels around each pixel, same shape.

    Windows are clipped to the image's size and moved inside it: pixels near a border have the mean of the window at
    the border (TLC).
    """
    height, width = (min(side, length) for length in x.shape[-2:])
    with autocast_off(x):
        # Summed-area table; in double precision, since differences of large sums follow.
        sums = F.pad(x.double().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
        rows = sums[..., height:, :] - sums[..., :-height, :]
        means = ((rows[..., width:] - rows[..., :-width]) / (height * width)).to(x.dtype)
    missing = [whole - part for whole, part in zip(x.shape[-2:], means.shape[-2:], strict=True)]
    left, top = missing[1] // 2, missing[0] // 2
    return F.pad(means, (left, missing[1] - left, top, missing[0] - top), mode="replicate")


class _ChannelAttention(nn.Sequential):
    """SCA: ``x`` times a linear map of its channel means, over the image or over windows."""

    def __init__(self, channels: int, window: int | None) -> None:
        super().__init__(nn.Identity(), nn.Conv2d(channels, channels, 1))  # the pooling is 0 in the official names
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        means = channel_means(x) if self.window is None else window_means(x, self.window)
        gate: Tensor = self[1](means)
        return x * gate if torch.is_grad_enabled() or gate.dtype != x.dtype else x.mul_(gate)


class NAFBlock(nn.Module):
    """``y = x + β·mix(norm(x))``, then ``y + γ·feed_forward(norm(y))``."""

    def __init__(self, channels: int, window: int | None) -> None:
        super().__init__()
        wide = 2 * channels
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.sca = _ChannelAttention(channels, window)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, wide, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.conv3(self.sca(simple_gate(self.conv2(self.conv1(self.norm1(x))))))
        x = torch.addcmul(x, mixed.to(x.dtype), self.beta)
        fed = self.conv5(simple_gate(self.conv4(self.norm2(x))))
        return torch.addcmul(x, fed.to(x.dtype), self.gamma)


class NAFNet(HasOfficialCheckpoints, HasMemoryEstimate, nn.Module):
    """Nonlinear activation free network.

    Args:
        width: channels of the finest level; each further level has twice as many.
        encoder_blocks: blocks of each level of the encoder, finest first.
        middle_blocks: blocks at the coarsest size.
        decoder_blocks: blocks of each level of the decoder, coarsest first; as many levels as in the encoder.
        window: side in pixels of the windows for channel means; ``None`` for the whole image.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped. H and W must be multiples of 2 to the number of levels.
    """

    def __init__(
        self,
        width: int = 32,
        encoder_blocks: Sequence[int] = (1, 1, 1, 28),
        middle_blocks: int = 1,
        decoder_blocks: Sequence[int] = (1, 1, 1, 1),
        window: int | None = None,
    ) -> None:
        super().__init__()
        levels = len(encoder_blocks)
        if len(decoder_blocks) != levels or not 1 <= levels <= 4 or min(*encoder_blocks, *decoder_blocks) < 0:
            raise ValueError(
                f"encoder_blocks {encoder_blocks} and decoder_blocks {decoder_blocks} must have the same length, "
                "1 to 4, and no negative entries"
            )
        if width < 1 or middle_blocks < 0 or (window is not None and window < 1):
            raise ValueError("width and window must be at least 1, middle_blocks at least 0")

        def stack(level: int, count: int) -> nn.Sequential:
            side = None if window is None else max(1, window >> level)
            return nn.Sequential(*(NAFBlock(width << level, side) for _ in range(count)))

        self.intro = Fp32Conv2d(3, width, 3, padding=1)
        self.encoders = nn.ModuleList(stack(level, count) for level, count in enumerate(encoder_blocks))
        self.downs = nn.ModuleList(nn.Conv2d(width << i, width << i + 1, 2, stride=2) for i in range(levels))
        self.middle_blks = stack(levels, middle_blocks)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width << i, width << i + 1, 1, bias=False), nn.PixelShuffle(2))
            for i in range(levels, 0, -1)
        )
        self.decoders = nn.ModuleList(stack(levels - 1 - i, count) for i, count in enumerate(decoder_blocks))
        self.ending = Fp32Conv2d(width, 3, 3, padding=1)
        #: Bytes of working memory per pixel, without gradients, in fp32 (measured).
        self.memory_per_pixel = 40 * width

    def forward(self, rainy: Tensor) -> Tensor:
        """Derain a batch."""
        x = self.intro(rainy)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        residual: Tensor = self.ending(x)
        return rainy + residual

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network.

        The authors' test with windows leaves no trace in a checkpoint; means over the image are assumed.
        """
        first = state.get("intro.weight")
        if first is None or first.shape[1] != 3 or "middle_blks.0.sca.1.weight" not in state:
            return None

        def count(prefix: str) -> int:
            position = prefix.count(".")
            return len({key.split(".")[position] for key in state if key.startswith(prefix)})

        levels = count("downs.")
        settings = {
            "width": first.shape[0],
            "encoder_blocks": tuple(count(f"encoders.{level}.") for level in range(levels)),
            "middle_blocks": count("middle_blks."),
            "decoder_blocks": tuple(count(f"decoders.{level}.") for level in range(levels)),
        }
        defaults: dict[str, Any] = {
            "width": 32,
            "encoder_blocks": (1, 1, 1, 28),
            "middle_blocks": 1,
            "decoder_blocks": (1, 1, 1, 1),
        }
        return {key: value for key, value in settings.items() if value != defaults[key]}
