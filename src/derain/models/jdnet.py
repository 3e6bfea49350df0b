"""JDNet (Wang et al., "Joint Self-Attention and Scale-Aggregation for Self-Calibrated Deraining Network",
ACM MM 2020, arXiv 2008.02763).

A dense chain of joint units predicts the rain layer, ``derained = rainy − rain``. A unit consists of window
self-attention (SAN, see :mod:`derain.models.window_attention`), a pyramid of strided residual blocks
whose scales are upsampled and fused (scale aggregation), and a self-calibrated convolution (Liu et
al., CVPR 2020). 4,681,859 parameters at the defaults; with 8, 16 or 24 units 1.07, 2.21 or 3.41
million. Zero padding, except in the attention, which uses reflection padding; any image of at least 4×4.
At 480×320 a forward pass on a CPU takes 1.2 GB of process memory, 0.7 GB with 8 units. For gradients, the
concatenations of the dense chain and the differences of the attention are recomputed instead of stored.

The published variants are settings:

| published as | settings |
|---|---|
| base | the defaults |
| r1 (ablation: pyramid only, 4,292,323) | ``attention="none", self_calibration=False`` |
| r2 (ablation: pyramid and self-calibration, 4,656,867) | ``attention="none"`` |
| ``scale_attention = True`` (+135,168) | ``scale_attention=True`` |
| ``sa_type = 1``, never used | ``attention="patchwise"`` |

Where paper and code differ, or the code is unexpected:

- The code reads images as BGR. Only the first and the last convolution depend on the channel order, so
  import reorders their weights, and the network itself takes RGB: the same function.
- SAN normalizes and rectifies twice inside the map from relation to weight; JDNet's code has one leaky
  ReLU and two consecutive linear layers. These are equivalent to one matrix; they stay two sets of
  parameters here, so that official weights fit and training starts as theirs does, and are multiplied
  with each other first.
- Patchwise weights are not normalized by a softmax, in SAN and here.
- The position grid spans −1 to 1 over any input, so that neighbors lie closer together in a large image
  than in a training patch, and a tile's result differs from that of the full image. The official weights
  require this.
- Images smaller than a pooling window of ``scale_attention`` crash the authors' code; here the window
  is clipped to the image.
- The rain layer is the output of a leaky ReLU with slope 0.2: negative rain, which would brighten the
  result, is scaled to a fifth.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .base import HasMemoryEstimate, HasOfficialCheckpoints, PrefersContiguous
from .layers import Fp32Conv2d, autocast_off
from .window_attention import SLOPE, aggregation, pairwise_logits, patchwise_weights

Attention = Literal["pairwise", "patchwise", "none"]
_CHANNELS_PER_PLANE = 8  # channels that share one plane of attention weights
_CALIBRATION_POOL = 4  # pooling of the self-calibration's context


def _leaky_relu() -> nn.Module:
    return nn.LeakyReLU(SLOPE, inplace=True)


class WindowAttention(nn.Module):
    """SAM: attention of each pixel to its ``window × window`` neighbors, from ``channels`` to ``values`` channels."""

    def __init__(self, channels: int, relation: int, values: int, window: int, patchwise: bool) -> None:
        super().__init__()
        self.window, self.patchwise = window, patchwise
        planes = max(1, values // _CHANNELS_PER_PLANE)
        self.query = nn.Conv2d(channels, relation, 1)
        self.key = nn.Conv2d(channels, relation, 1)
        self.value = nn.Conv2d(channels, values, 1)
        if patchwise:
            self.relate = nn.Conv2d(relation * (window**2 + 1), planes, 1, bias=False)
            self.weigh = nn.Conv2d(planes, planes * window**2, 1)
        else:
            self.relate = nn.Conv2d(relation + 2, relation, 1, bias=False)
            self.weigh = nn.Conv2d(relation, planes, 1)
            self.position = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        # The positions of neighbors differ by less than bfloat16 resolves, so the relation stays in full precision.
        with autocast_off(x):
            dtype = self.relate.weight.dtype
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
            if self.patchwise:
                related = patchwise_weights(query, key, self.relate.weight.flatten(1), self.window)
                weights = self.weigh(related).view(len(x), -1, self.window**2, *x.shape[-2:])
            else:
                position = self.position(_grid(query)).expand(len(x), -1, -1, -1)
                mixing = self.weigh.weight.flatten(1) @ self.relate.weight.flatten(1)
                query, key = torch.cat([query, position], 1), torch.cat([key, position], 1)
                # The bias of `weigh` is the same for all neighbors and cancels in the softmax.
                weights = torch.softmax(pairwise_logits(query, key, mixing, self.window), dim=2)
            return aggregation(value, weights, self.window)


def _grid(like: Tensor) -> Tensor:
    """The x and y coordinates of each pixel, from −1 to 1, as ``(1, 2, H, W)``."""
    # linspace and len() would fix the traced size in an exported graph.
    height, width = like.shape[-2:]
    y, x = (torch.arange(n, device=like.device).to(like.dtype) * (2 / (n - 1)) - 1 for n in (height, width))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]


class AttentionBottleneck(nn.Module):
    """``x + expand(lrelu(norm(attend(lrelu(norm(x))))))``."""

    def __init__(self, channels: int, window: int, patchwise: bool) -> None:
        super().__init__()
        reduced = channels // 4
        self.norm_in = nn.BatchNorm2d(channels)
        self.attend = WindowAttention(channels, channels // 16, reduced, window, patchwise)
        self.norm_out = nn.BatchNorm2d(reduced)
        self.expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.attend(F.leaky_relu_(self.norm_in(x), SLOPE))
        out: Tensor = self.expand(F.leaky_relu_(self.norm_out(inner), SLOPE))
        return x + out


class DownBlock(nn.Module):
    """Strided convolution to half the resolution, then a residual block of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convert = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), _leaky_relu(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu_(self.convert(x), SLOPE)
        residual: Tensor = self.body(x)
        return x + residual


class ScaleGate(nn.Module):
    """Scale attention: gates a coarser level by the max-pooled finest level."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, finest: Tensor, level: Tensor) -> Tensor:
        kernel = [min(self.window, side) for side in finest.shape[-2:]]
        gate = torch.sigmoid(self.conv(F.max_pool2d(finest, kernel)))
        return level * F.interpolate(gate, level.shape[-2:])


class ScaleAggregation(nn.Module):
    """``x`` plus the fusion of its pyramid of ``scales`` levels, of which the first has full resolution."""

    def __init__(self, channels: int, scales: int, scale_attention: bool) -> None:
        super().__init__()
        coarser = range(1, scales)
        self.down = nn.ModuleList(DownBlock(channels) for _ in coarser)
        self.gates = nn.ModuleList(ScaleGate(channels, 2**k) for k in coarser) if scale_attention else None
        self.fusion = nn.Conv2d(scales * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # A 1×1 convolution and nearest upsampling commute: each level is projected at its own resolution,
        # so the concatenation at full resolution is never materialized.
        projections = self.fusion.weight.chunk(len(self.down) + 1, dim=1)
        projected = [F.conv2d(x, projections[0], self.fusion.bias)]
        level = x
        for index, (down, projection) in enumerate(zip(self.down, projections[1:], strict=True)):
            level = down(level)
            if self.gates is not None:
                level = self.gates[index](x, level)
            projected.append(F.conv2d(level, projection))
        # If every level is exactly half the size of the previous one, upsampling level by level gives the same pixels.
        halved = not torch.onnx.is_in_onnx_export() and all(side % 2 ** len(self.down) == 0 for side in x.shape[-2:])
        while len(projected) > 1:
            coarse = projected.pop()
            finer = projected[-1 if halved else 0]
            finer += F.interpolate(coarse, finer.shape[-2:])
        return x + F.leaky_relu_(projected[0], SLOPE)


class SelfCalibration(nn.Module):
    """Two half-width branches, one gated by its own coarse context, then a residual connection and leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2

        def conv() -> nn.Module:
            return nn.Conv2d(half, half, 3, padding=1)

        self.enter_plain, self.enter_gated = nn.Conv2d(channels, half, 1), nn.Conv2d(channels, half, 1)
        self.plain, self.context, self.content, self.gated = conv(), conv(), conv(), conv()
        self.join = nn.Conv2d(2 * half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        plain = F.leaky_relu_(self.plain(F.leaky_relu_(self.enter_plain(x), SLOPE)), SLOPE)
        gated = F.leaky_relu_(self.enter_gated(x), SLOPE)
        context = F.interpolate(self.context(F.avg_pool2d(gated, _CALIBRATION_POOL)), gated.shape[-2:])
        gated = F.leaky_relu_(self.gated(self.content(gated) * torch.sigmoid(gated + context)), SLOPE)
        return F.leaky_relu_(x + self.join(torch.cat([plain, gated], dim=1)), SLOPE)


class JDNet(HasOfficialCheckpoints, HasMemoryEstimate, PrefersContiguous, nn.Module):
    """Joint self-attention and scale-aggregation network.

    Args:
        channels: channels of every layer (32); even, at least 16.
        units: joint units in the dense chain (32).
        scales: levels of the pyramid, including full resolution (5: the authors' ``num_scale_attention`` + 1).
        scale_attention: gate each coarser level.
        attention: ``pairwise``, ``patchwise`` or ``none``.
        self_calibration: end each unit with a self-calibrated convolution.
        window: side of the attention window (7), odd.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped; H and W at least 4 and more than half
    the window. The contiguous layout is faster (measured), because the attention reads shifted planes.
    """

    def __init__(
        self,
        channels: int = 32,
        units: int = 32,
        scales: int = 5,
        scale_attention: bool = False,
        attention: Attention = "pairwise",
        self_calibration: bool = True,
        window: int = 7,
    ) -> None:
        super().__init__()
        if units < 1 or scales < 1 or channels < 16 or channels % 2:
            raise ValueError("units and scales must be at least 1, channels at least 16 and even")
        if attention not in ("pairwise", "patchwise", "none"):
            raise ValueError(f"attention must be pairwise, patchwise or none, not {attention!r}")
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window must be odd, not {window}")

        def unit() -> nn.Module:
            parts: dict[str, nn.Module] = {}
            if attention != "none":
                parts["attention"] = AttentionBottleneck(channels, window, attention == "patchwise")
            parts["pyramid"] = ScaleAggregation(channels, scales, scale_attention)
            if self_calibration:
                parts["calibration"] = SelfCalibration(channels)
            sequence = nn.Sequential()
            for name, part in parts.items():
                sequence.add_module(name, part)
            return sequence

        self.enter = Fp32Conv2d(3, channels, 3, padding=1)
        self.units = nn.ModuleList(unit() for _ in range(units))
        self.fusions = nn.ModuleList(nn.Conv2d((i + 2) * channels, channels, 1) for i in range(units))
        self.exit = Fp32Conv2d(channels, 3, 3, padding=1)
        #: Bytes of working memory per pixel, without gradients, in fp32: the dense chain and one unit (measured).
        self.memory_per_pixel = 4 * channels * (units + 1) + 60 * channels

    def forward(self, rainy: Tensor) -> Tensor:
        """Derain a batch."""
        return rainy - self.rain(rainy)

    def rain(self, rainy: Tensor) -> Tensor:
        """The rain layer that :meth:`forward` subtracts, same shape."""
        x = F.leaky_relu_(self.enter(rainy), SLOPE)
        x = self._chain_with_gradients(x) if torch.is_grad_enabled() else self._chain_without_gradients(x)
        return F.leaky_relu_(self.exit(x), SLOPE)

    def _chain_with_gradients(self, x: Tensor) -> Tensor:
        """The dense chain for training; concatenations are recomputed in the backward pass.

        Stored, they would take memory quadratic in the number of units.
        """

        def fuse(fusion: nn.Module, *features: Tensor) -> Tensor:
            return F.leaky_relu_(fusion(torch.cat(features, dim=1)), SLOPE)

        features, out = [x], x
        for unit, fusion in zip(self.units, self.fusions, strict=True):
            features.append(unit(out))
            out = checkpoint(fuse, fusion, *features, use_reentrant=False, preserve_rng_state=False)
        return out

    def _chain_without_gradients(self, x: Tensor) -> Tensor:
        """The dense chain for inference; features are written into one preallocated tensor, without concatenation."""
        joined, out, channels = None, x, x.shape[1]
        for i, (unit, fusion) in enumerate(zip(self.units, self.fusions, strict=True), start=1):
            feature = unit(out)
            if joined is None:
                joined = feature.new_empty(len(x), channels * (len(self.units) + 1), *x.shape[-2:])
                joined[:, :channels] = x
            joined[:, i * channels : (i + 1) * channels] = feature
            # A matrix product, because oneDNN's 1×1 convolution would copy the growing chain to its own layout.
            features = joined[:, : (i + 1) * channels].flatten(2)
            weight, bias = (p.view(channels, -1) for p in fusion.parameters())
            product = torch.baddbmm(bias, weight.expand(len(x), -1, -1), features)
            out = F.leaky_relu_(product.view_as(x), SLOPE)
        return out

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert an official checkpoint (``module.`` removed) to derain's key names and from BGR to RGB.

        Raises:
            KeyError: the state has a key that official checkpoints do not have.
        """
        renamed = {}
        for key, value in state.items():
            name, count = _OFFICIAL_KEY.subn(_derain_name, key)
            if not count:
                raise KeyError(key)
            if key == "enterBlock.0.weight":
                value = value.flip(1)  # noqa: PLW2901
            elif key.startswith("exitBlock."):
                value = value.flip(0)  # noqa: PLW2901
            renamed[name] = value
        return renamed

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network.

        The window of pairwise attention cannot be read from a checkpoint; the authors' 7 is assumed.
        """
        if "enterBlock.0.weight" not in state or "derain_net.conv1x1.0.0.weight" not in state:
            return None
        unit = "derain_net.units.0"
        channels = state["enterBlock.0.weight"].shape[0]
        settings: dict[str, Any] = {
            "channels": channels,
            "units": sum(re.fullmatch(r"derain_net\.conv1x1\.\d+\.0\.weight", key) is not None for key in state),
            "scales": state[f"{unit}.conv11.0.weight"].shape[1] // channels,
            "scale_attention": f"{unit}.scale_attention.0.1.weight" in state,
            "self_calibration": f"{unit}.scn.conv3.weight" in state,
        }
        if f"{unit}.san.bn1.weight" not in state:
            settings["attention"] = "none"
        elif f"{unit}.san.sam.conv_p.weight" not in state:
            settings["attention"] = "patchwise"
            relation = state[f"{unit}.san.sam.conv1.weight"].shape[0]
            settings["window"] = round((state[f"{unit}.san.sam.conv_w.1.weight"].shape[1] / relation - 1) ** 0.5)
        defaults = {"channels": 32, "units": 32, "scales": 5, "scale_attention": False, "self_calibration": True}
        return {key: value for key, value in settings.items() if defaults.get(key) != value}


# Official names to ours, inside a unit; `#` stands for an index, which is kept.
_UNIT_NAMES = {
    "san.bn1": "attention.norm_in",
    "san.sam.conv1": "attention.attend.query",
    "san.sam.conv2": "attention.attend.key",
    "san.sam.conv3": "attention.attend.value",
    "san.sam.conv_w.1": "attention.attend.relate",
    "san.sam.conv_w.2": "attention.attend.weigh",
    "san.sam.conv_p": "attention.attend.position",
    "san.bn2": "attention.norm_out",
    "san.conv": "attention.expand",
    "scale_attention.#.1": "pyramid.gates.#.conv",
    "res_list.#.convert.0": "pyramid.down.#.convert",
    "res_list.#.res.0": "pyramid.down.#.body.0",
    "res_list.#.res.2": "pyramid.down.#.body.2",
    "conv11.0": "pyramid.fusion",
    "scn.conv1_a": "calibration.enter_plain",
    "scn.conv1_b": "calibration.enter_gated",
    "scn.k1.0": "calibration.plain",
    "scn.scconv.k2.1": "calibration.context",
    "scn.scconv.k3.0": "calibration.content",
    "scn.scconv.k4.0": "calibration.gated",
    "scn.conv3": "calibration.join",
}
_TOP_LEVEL_NAMES = {"enterBlock.0": "enter", "exitBlock.0": "exit", "derain_net.conv1x1.#.0": "fusions.#"}
_NAMES = _TOP_LEVEL_NAMES | {f"derain_net.units.#.{old}": f"units.#.{new}" for old, new in _UNIT_NAMES.items()}
_OFFICIAL_KEY = re.compile(r"^(.+)\.(weight|bias|running_mean|running_var|num_batches_tracked)$")


def _derain_name(match: re.Match[str]) -> str:
    """Derain's name for an official key.

    Raises:
        KeyError: the key is unknown.
    """
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", match[1] + ".")
    pattern = re.sub(r"(units|conv1x1|res_list|scale_attention)\.\d+", r"\1.#", match[1])
    if pattern not in _NAMES:
        raise KeyError(match[0])
    name = _NAMES[pattern]
    for number in numbers[: name.count("#")]:
        name = name.replace("#", number, 1)
    return f"{name}.{match[2]}"
