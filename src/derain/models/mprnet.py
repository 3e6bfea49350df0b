"""MPRNet (Zamir et al., Multi-Stage Progressive Image Restoration, CVPR 2021, arXiv 2102.02808).

Three stages. The first sees the four quarters of the image, the second its upper and lower half, the third the whole:
the features of the quarters are joined to halves before the decoder of the first stage, those of the halves before
that of the second. Stages one and two are U-Nets of channel attention blocks (CAB), whose levels are resized
bilinearly; stage three works at full resolution (ORSNet: three blocks of ``blocks`` CABs each). Between the stages, a
supervised attention module (SAM) makes an image of the features f and gates them with it, f + conv(f)·σ(conv(image)),
and cross-stage feature fusion (CSFF) adds the features of one stage to those of the next. Each stage predicts a
residual, ``x_s = rainy + r_s``.

No biases. The official checkpoints differ in size, which import detects:

| official checkpoint | settings | parameters |
|---|---|---|
| deraining, and Rain2Avoid's copy | the defaults | 3,637,249 |
| denoising (SIDD) | ``channels=80, unet_growth=48, full_growth=32`` | 15,741,025 |
| deblurring (GoPro) | ``channels=96, unet_growth=48, full_growth=32`` | 20,127,073 |

Where paper and code differ, or the code is unexpected:

- All blocks share one slope of the PReLU. Official checkpoints contain it once for each block; here it is stored once.
- The paper's loss, Charbonnier plus an edge term, is that of training; nothing of it is in this file.
- Each quarter and half is padded with zeros at its inner borders too, and channel attention averages over it. Hence
  the result depends on where an image is cut, and a tile's result differs from that of the full image.
- Halves must be multiples of four, so sides must be multiples of eight. The authors' test crops or fails otherwise;
  here images are padded.

At inference, quarters and halves are batches of one forward pass, which gives the same result.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import HasMemoryEstimate, HasOfficialCheckpoints, HasStages
from .layers import Fp32Conv2d, channel_means


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


class _ChannelGate(nn.Module):
    """``x · sigmoid(W2 relu(W1 mean(x)))``; without gradients this overwrites ``x``."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.conv_du = nn.Sequential(_conv(channels, hidden, 1), nn.ReLU(inplace=True), _conv(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.conv_du(channel_means(x)))
        return x * gate if torch.is_grad_enabled() else x.mul_(gate)


class ChannelAttentionBlock(nn.Module):
    """CAB: ``x + gate(conv(prelu(conv(x))))``; the slope of the PReLU is an argument, since all blocks share it."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.CA = _ChannelGate(channels, reduction)
        # The place of the activation in the official key names.
        self.body = nn.ModuleList([_conv(channels, channels), nn.Identity(), _conv(channels, channels)])

    def forward(self, x: Tensor, slope: Tensor) -> Tensor:
        branch: Tensor = self.CA(self.body[2](F.prelu(self.body[0](x), slope.to(x.dtype))))
        return x + branch if torch.is_grad_enabled() or branch.dtype != x.dtype else branch.add_(x)


class _Chain(nn.ModuleList):
    """Channel attention blocks one after the other."""

    def __init__(self, channels: int, reduction: int, count: int = 2) -> None:
        super().__init__(ChannelAttentionBlock(channels, reduction) for _ in range(count))

    def forward(self, x: Tensor, slope: Tensor) -> Tensor:
        for block in self:
            x = block(x, slope)
        return x


class _Down(nn.Module):
    """Bilinear resizing to half the size, which is the mean of 2×2 pixels, and a 1×1 convolution."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.AvgPool2d(2), _conv(channels, channels + growth, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(x)
        return out


class _Up(nn.Module):
    """Bilinear resizing to twice the size and a 1×1 convolution, from ``channels + growth`` to ``channels``.

    The convolution comes first, on a quarter of the pixels: the same result, since interpolation is linear and its
    weights sum to 1. In the official key names it is the second.
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.up = nn.Sequential(OrderedDict({"1": _conv(channels + growth, channels, 1), "0": upsample}))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(x)
        return out


class _Encoder(nn.Module):
    """Features of three levels, finest first; those of the previous stage are added to them if ``fused``."""

    def __init__(self, channels: int, growth: int, reduction: int, fused: bool) -> None:
        super().__init__()
        widths = [channels + level * growth for level in range(3)]
        self.encoder_level1, self.encoder_level2, self.encoder_level3 = (_Chain(width, reduction) for width in widths)
        self.down12, self.down23 = _Down(widths[0], growth), _Down(widths[1], growth)
        if fused:
            self.csff_enc1, self.csff_enc2, self.csff_enc3 = (_conv(width, width, 1) for width in widths)
            self.csff_dec1, self.csff_dec2, self.csff_dec3 = (_conv(width, width, 1) for width in widths)

    def forward(
        self, x: Tensor, slope: Tensor, previous: tuple[list[Tensor], list[Tensor]] | None = None
    ) -> list[Tensor]:
        if previous is None:
            fine = self.encoder_level1(x, slope)
            middle = self.encoder_level2(self.down12(fine), slope)
            return [fine, middle, self.encoder_level3(self.down23(middle), slope)]
        encoded, decoded = previous
        fine = self.encoder_level1(x, slope) + self.csff_enc1(encoded[0]) + self.csff_dec1(decoded[0])
        middle = self.encoder_level2(self.down12(fine), slope)
        middle = middle + self.csff_enc2(encoded[1]) + self.csff_dec2(decoded[1])
        coarse = self.encoder_level3(self.down23(middle), slope)
        return [fine, middle, coarse + self.csff_enc3(encoded[2]) + self.csff_dec3(decoded[2])]


class _Decoder(nn.Module):
    """Decoded features of the same three levels."""

    def __init__(self, channels: int, growth: int, reduction: int) -> None:
        super().__init__()
        self.decoder_level1 = _Chain(channels, reduction)
        self.decoder_level2 = _Chain(channels + growth, reduction)
        self.decoder_level3 = _Chain(channels + 2 * growth, reduction)
        self.skip_attn1 = ChannelAttentionBlock(channels, reduction)
        self.skip_attn2 = ChannelAttentionBlock(channels + growth, reduction)
        self.up21, self.up32 = _Up(channels, growth), _Up(channels + growth, growth)

    def forward(self, encoded: list[Tensor], slope: Tensor) -> list[Tensor]:
        coarse = self.decoder_level3(encoded[2], slope)
        middle = self.decoder_level2(self.up32(coarse) + self.skip_attn2(encoded[1], slope), slope)
        fine = self.decoder_level1(self.up21(middle) + self.skip_attn1(encoded[0], slope), slope)
        return [fine, middle, coarse]


class _FullResolutionBlock(nn.Module):
    """ORB: a residual chain of CABs and a convolution."""

    def __init__(self, channels: int, reduction: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.ModuleList([*_Chain(channels, reduction, blocks), _conv(channels, channels)])

    def forward(self, x: Tensor, slope: Tensor) -> Tensor:
        *blocks, last = self.body
        branch = x
        for block in blocks:
            branch = block(branch, slope)
        out: Tensor = x + last(branch)
        return out


class _FullResolutionNet(nn.Module):
    """ORSNet: after each block, the features of one level of the second stage are added at full resolution."""

    def __init__(self, channels: int, growth: int, wide: int, reduction: int, blocks: int) -> None:
        super().__init__()
        self.orb1, self.orb2, self.orb3 = (_FullResolutionBlock(wide, reduction, blocks) for _ in range(3))
        self.up_enc1, self.up_dec1 = _Up(channels, growth), _Up(channels, growth)
        self.up_enc2, self.up_dec2 = (
            nn.Sequential(_Up(channels + growth, growth), _Up(channels, growth)) for _ in range(2)
        )
        self.conv_enc1, self.conv_enc2, self.conv_enc3 = (_conv(channels, wide, 1) for _ in range(3))
        self.conv_dec1, self.conv_dec2, self.conv_dec3 = (_conv(channels, wide, 1) for _ in range(3))

    def forward(self, x: Tensor, slope: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        x = self.orb1(x, slope) + self.conv_enc1(encoded[0]) + self.conv_dec1(decoded[0])
        x = self.orb2(x, slope) + self.conv_enc2(self.up_enc1(encoded[1])) + self.conv_dec2(self.up_dec1(decoded[1]))
        x = self.orb3(x, slope)
        out: Tensor = x + self.conv_enc3(self.up_enc2(encoded[2])) + self.conv_dec3(self.up_dec2(decoded[2]))
        return out


class _SupervisedAttention(nn.Module):
    """SAM: an image from features, and the features gated by it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv3 = _conv(channels, channels, 1), _conv(3, channels, 1)
        self.conv2 = Fp32Conv2d(channels, 3, 1, bias=False)

    def forward(self, features: Tensor, rainy: Tensor) -> tuple[Tensor, Tensor]:
        image = self.conv2(features) + rainy
        return features + self.conv1(features) * torch.sigmoid(self.conv3(image)), image


class _Stem(nn.ModuleList):
    """The first convolution and a CAB."""

    def __init__(self, channels: int, reduction: int) -> None:
        first = Fp32Conv2d(3, channels, 3, padding=1, bias=False)
        super().__init__([first, ChannelAttentionBlock(channels, reduction)])

    def forward(self, rainy: Tensor, slope: Tensor) -> Tensor:
        convolution, block = self
        x: Tensor = block(convolution(rainy), slope)
        return x


class MPRNet(HasStages, HasOfficialCheckpoints, HasMemoryEstimate, nn.Module):
    """Multi-stage progressive restoration network.

    Args:
        channels: channels of the finest level (40).
        unet_growth: additional channels of each coarser level of the U-Nets (20).
        full_growth: additional channels of the third stage (16).
        blocks: channel attention blocks in each of the third stage's three chains (8).
        reduction: the hidden channels of channel attention are this many times fewer (4).

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped. H and W must be multiples of 8.
    """

    def __init__(
        self, channels: int = 40, unet_growth: int = 20, full_growth: int = 16, blocks: int = 8, reduction: int = 4
    ) -> None:
        super().__init__()
        if min(channels, blocks, reduction) < 1 or min(unet_growth, full_growth) < 0:
            raise ValueError("channels, blocks and reduction must be at least 1, unet_growth and full_growth 0")
        wide = channels + full_growth
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.shallow_feat1, self.shallow_feat2, self.shallow_feat3 = (_Stem(channels, reduction) for _ in range(3))
        self.stage1_encoder = _Encoder(channels, unet_growth, reduction, fused=False)
        self.stage1_decoder = _Decoder(channels, unet_growth, reduction)
        self.stage2_encoder = _Encoder(channels, unet_growth, reduction, fused=True)
        self.stage2_decoder = _Decoder(channels, unet_growth, reduction)
        self.stage3_orsnet = _FullResolutionNet(channels, unet_growth, wide, reduction, blocks)
        self.sam12, self.sam23 = _SupervisedAttention(channels), _SupervisedAttention(channels)
        self.concat12, self.concat23 = _conv(2 * channels, channels), _conv(2 * channels, wide)
        self.tail = Fp32Conv2d(wide, 3, 3, padding=1, bias=False)
        #: Bytes of working memory per pixel, without gradients, in fp32 (measured).
        self.memory_per_pixel = 60 * channels

    @property
    def stage_names(self) -> tuple[str, ...]:
        """``stage1`` to ``stage3``."""
        return "stage1", "stage2", "stage3"

    def stages(self, rainy: Tensor) -> dict[str, Tensor]:
        """The images of the three stages."""
        slope = self.slope
        halves = _split(rainy, 2)
        stem = self.shallow_feat1(_split(halves, 3), slope)
        encoded = [_join(level, 3) for level in self.stage1_encoder(stem, slope)]
        decoded = self.stage1_decoder(encoded, slope)
        gated, first = self.sam12(decoded[0], halves)

        joined = self.concat12(torch.cat([self.shallow_feat2(halves, slope), gated], dim=1))
        encoded = [_join(level, 2) for level in self.stage2_encoder(joined, slope, (encoded, decoded))]
        decoded = self.stage2_decoder(encoded, slope)
        gated, second = self.sam23(decoded[0], rainy)

        joined = self.concat23(torch.cat([self.shallow_feat3(rainy, slope), gated], dim=1))
        third = rainy + self.tail(self.stage3_orsnet(joined, slope, encoded, decoded))
        return dict(zip(self.stage_names, (_join(first, 2), second, third), strict=True))

    def forward(self, rainy: Tensor) -> Tensor:
        """Derain a batch: the image of the third stage."""
        return self.stages(rainy)["stage3"]

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network."""
        first = state.get("shallow_feat1.0.weight")
        if first is None or "stage3_orsnet.conv_enc1.weight" not in state or "sam12.conv1.weight" not in state:
            return None
        channels = first.shape[0]
        chain = {key.split(".")[3] for key in state if key.startswith("stage3_orsnet.orb1.body.")}
        settings = {
            "channels": channels,
            "unet_growth": state["stage1_encoder.down12.down.1.weight"].shape[0] - channels,
            "full_growth": state["stage3_orsnet.conv_enc1.weight"].shape[0] - channels,
            "blocks": len(chain) - 1,
            "reduction": channels // state["shallow_feat1.1.CA.conv_du.0.weight"].shape[0],
        }
        defaults = {"channels": 40, "unet_growth": 20, "full_growth": 16, "blocks": 8, "reduction": 4}
        return {key: value for key, value in settings.items() if value != defaults[key]}

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert an official state dictionary: the slope that all blocks share is kept once.

        Raises:
            KeyError: the blocks have different slopes.
        """
        renamed: dict[str, Tensor] = {}
        for key, value in state.items():
            if not key.endswith(".body.1.weight") or value.ndim != 1:
                renamed[key] = value
            elif not torch.equal(renamed.setdefault("slope", value), value):
                raise KeyError(f"{key} (a slope of its own)")
        return renamed


def _split(x: Tensor, dim: int) -> Tensor:
    """The two halves along a dimension, as batch: all first halves, then all second ones."""
    half = x.shape[dim] // 2
    return torch.cat([x.narrow(dim, 0, half), x.narrow(dim, half, half)])


def _join(x: Tensor, dim: int) -> Tensor:
    """The reverse of :func:`_split`."""
    half = x.shape[0] // 2
    return torch.cat([x[:half], x[half:]], dim=dim)
