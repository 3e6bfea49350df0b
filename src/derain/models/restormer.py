"""Restormer (Zamir et al., Efficient Transformer for High-Resolution Image Restoration, CVPR 2022).

A four-level U-Net of transformer blocks. Attention is computed between channels, not pixels (MDTA, eq. 1):
with queries and keys normalized over the pixels, softmax(Q·Kᵀ·α) is a small matrix per head, so the cost
is linear in the number of pixels. The feed-forward network gates one half of its features with the GELU of
the other (GDFN, eq. 2–3). Levels are downsampled by pixel unshuffling; the finest decoder level does not
reduce the concatenated features, hence twice the channels. The network predicts a residual. 26,126,644
parameters.

Where code and paper differ: in the paper α divides the product, the code multiplies by a learned
temperature. Only in the denoising checkpoints, normalization does not subtract the mean (``norm_bias``).

Parameter names are the official ones, so official checkpoints load without renaming. Attention averages
over the whole input, so a tiled result differs slightly from that of the full image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import HasOfficialCheckpoints
from .layers import Fp32Conv2d

EXPANSION = 2.66  # hidden channels of the feed-forward network, relative to those of the block


class _NormBody(nn.Module):
    """Normalization over the channels of each pixel; ``bias`` adds mean subtraction and a bias."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        weight = self.weight[:, None, None]
        if self.bias is None:
            return x * torch.rsqrt(variance + 1e-5) * weight
        return (x - mean) * torch.rsqrt(variance + 1e-5) * weight + self.bias[:, None, None]


class PixelNorm(nn.Module):
    """Layer normalization over channels; the submodule ``body`` matches the official key names."""

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.body = _NormBody(channels, bias)

    def forward(self, x: Tensor) -> Tensor:
        normalized: Tensor = self.body(x)
        return normalized


class ChannelAttention(nn.Module):
    """Multi-head channel attention (MDTA)."""

    def __init__(self, channels: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def attend(self, scores: Tensor) -> Tensor:
        """Map scores ``(N, heads, C, C)`` to attention weights."""
        return scores.softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        heads = self.temperature.shape[0]
        q, k, v = self.qkv_dwconv(self.qkv(x)).view(batch, 3, heads, channels // heads, -1).unbind(1)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        mixed = (self.attend(scores) @ v).view(batch, channels, height, width)
        projected: Tensor = self.project_out(mixed)
        return projected


class GatedFeedForward(nn.Module):
    """Gated feed-forward network (GDFN)."""

    def __init__(self, channels: int, expansion: float, bias: bool) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gates, values = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        projected: Tensor = self.project_out(F.gelu(gates) * values)
        return projected


class Block(nn.Module):
    """Pre-norm transformer block: attention, then the feed-forward network, each with a residual connection."""

    def __init__(self, channels: int, attention: nn.Module, feed_forward: nn.Module, norm_bias: bool) -> None:
        super().__init__()
        self.norm1 = PixelNorm(channels, norm_bias)
        self.attn = attention
        self.norm2 = PixelNorm(channels, norm_bias)
        self.ffn = feed_forward

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class _PatchEmbed(nn.Module):
    """The first convolution."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.proj = Fp32Conv2d(3, channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        embedded: Tensor = self.proj(x)
        return embedded


class _Resize(nn.Module):
    """Downsample to half the size and twice the channels, or the reverse."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        out_channels = 2 * channels if up else channels // 2
        shuffle: nn.Module = nn.PixelShuffle(2) if up else nn.PixelUnshuffle(2)
        self.body = nn.Sequential(nn.Conv2d(channels, out_channels, 3, padding=1, bias=False), shuffle)

    def forward(self, x: Tensor) -> Tensor:
        resized: Tensor = self.body(x)
        return resized


class TransformerU(nn.Module):
    """The U-Net that Restormer and DRSformer share, except for their blocks.

    Args:
        block: creates a block for (channels, heads).
        dim: channels of the finest level; each further level has twice as many.
        num_blocks: blocks of each level, finest first.
        heads: attention heads of each level.
        encoder_level0: additional layers after the first convolution.
        refinement: additional layers before the last convolution.
        bias: convolutions have biases.
    """

    def __init__(
        self,
        block: Callable[[int, int], nn.Module],
        dim: int,
        num_blocks: Sequence[int],
        heads: Sequence[int],
        encoder_level0: nn.Module | None,
        refinement: nn.Module | None,
        bias: bool,
    ) -> None:
        super().__init__()
        if len(num_blocks) != 4 or len(heads) != 4 or dim < 1 or any(dim * 2**i % h for i, h in enumerate(heads)):
            raise ValueError(
                f"num_blocks {num_blocks} and heads {heads} must have four entries each, dim {dim} must be at least 1, "
                "and the heads of level i must divide its dim * 2**i channels"
            )

        def level(channels: int, index: int) -> nn.Sequential:
            return nn.Sequential(*(block(channels, heads[index]) for _ in range(num_blocks[index])))

        self.patch_embed = _PatchEmbed(dim, bias)
        self.encoder_level0 = encoder_level0 if encoder_level0 is not None else nn.Identity()
        self.encoder_level1 = level(dim, 0)
        self.down1_2 = _Resize(dim, up=False)
        self.encoder_level2 = level(2 * dim, 1)
        self.down2_3 = _Resize(2 * dim, up=False)
        self.encoder_level3 = level(4 * dim, 2)
        self.down3_4 = _Resize(4 * dim, up=False)
        self.latent = level(8 * dim, 3)
        self.up4_3 = _Resize(8 * dim, up=True)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = level(4 * dim, 2)
        self.up3_2 = _Resize(4 * dim, up=True)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = level(2 * dim, 1)
        self.up2_1 = _Resize(2 * dim, up=True)
        self.decoder_level1 = level(2 * dim, 0)
        self.refinement = refinement if refinement is not None else nn.Identity()
        self.output = Fp32Conv2d(2 * dim, 3, 3, padding=1, bias=bias)

    def forward(self, rainy: Tensor) -> Tensor:
        """Derain a batch."""
        fine = self.encoder_level1(self.encoder_level0(self.patch_embed(rainy)))
        middle = self.encoder_level2(self.down1_2(fine))
        coarse = self.encoder_level3(self.down2_3(middle))
        x = self.up4_3(self.latent(self.down3_4(coarse)))
        x = self.up3_2(self.decoder_level3(self.reduce_chan_level3(torch.cat([x, coarse], dim=1))))
        x = self.up2_1(self.decoder_level2(self.reduce_chan_level2(torch.cat([x, middle], dim=1))))
        x = self.refinement(self.decoder_level1(torch.cat([x, fine], dim=1)))
        derained: Tensor = self.output(x) + rainy
        return derained


class Restormer(HasOfficialCheckpoints, TransformerU):
    """Restoration transformer.

    Args:
        dim: channels of the finest level.
        num_blocks: blocks of each of the four levels, finest first.
        heads: attention heads of each level.
        refinement_blocks: blocks after the decoder.
        bias: convolutions have biases.
        norm_bias: normalization subtracts the mean and has a bias; off in the official denoising checkpoints.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped. H and W must be multiples of 8.
    """

    def __init__(
        self,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        heads: Sequence[int] = (1, 2, 4, 8),
        refinement_blocks: int = 4,
        bias: bool = False,
        norm_bias: bool = True,
    ) -> None:
        def block(channels: int, num_heads: int) -> Block:
            attention = ChannelAttention(channels, num_heads, bias)
            return Block(channels, attention, GatedFeedForward(channels, EXPANSION, bias), norm_bias)

        refinement = nn.Sequential(*(block(2 * dim, heads[0]) for _ in range(refinement_blocks)))
        super().__init__(block, dim, num_blocks, heads, None, refinement, bias)

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network."""
        if "encoder_level1.0.ffn.dwconv.weight" not in state or "skip_conv.weight" in state:
            return None  # ``skip_conv`` marks the six-channel network for dual-pixel cameras
        settings = u_settings(state)
        refinement_blocks = _count_blocks(state, "refinement")
        return {**settings, **({"refinement_blocks": refinement_blocks} if refinement_blocks != 4 else {})}


def _count_blocks(state: dict[str, Tensor], level: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(f"{level}.")})


def u_settings(state: dict[str, Tensor]) -> dict[str, Any]:
    """The settings of a :class:`TransformerU`, from an official checkpoint; Restormer's defaults are left out."""
    levels = [f"encoder_level{i}" for i in (1, 2, 3)] + ["latent"]
    settings = {
        "dim": state["patch_embed.proj.weight"].shape[0] if "patch_embed.proj.weight" in state else 48,
        "num_blocks": tuple(_count_blocks(state, level) for level in levels),
        "heads": tuple(
            state[key].shape[0] if (key := f"{level}.0.attn.temperature") in state else 1 for level in levels
        ),
        "bias": "encoder_level1.0.attn.qkv.bias" in state,
        "norm_bias": "encoder_level1.0.norm1.body.bias" in state,
    }
    defaults = {"dim": 48, "num_blocks": (4, 6, 6, 8), "heads": (1, 2, 4, 8), "bias": False, "norm_bias": True}
    return {key: value for key, value in settings.items() if value != defaults[key]}
