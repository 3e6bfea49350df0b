"""JDNet (Wang et al., "Joint Self-Attention and Scale-Aggregation for Self-Calibrated Deraining Network",
ACM MM 2020, arXiv 2008.02763).

A dense chain of joint units predicts the rain layer, ``derained = rainy − rain``. A unit is window
self-attention (SAN, see :mod:`derain.models.neighborhood`), a pyramid of strided residual blocks
whose scales are brought back and fused (scale aggregation), and a self-calibrated convolution (Liu et
al., CVPR 2020). 4,681,859 parameters at the defaults; 8, 16 or 24 units have 1.07, 2.21 or 3.41
million. Zero padding but for the attention, which mirrors; any picture of at least 4×4.
At 480×320 a forward on a CPU takes 1.2 GB of process memory, 0.7 with 8 units; with gradients the
concatenations of the dense chain and the attention's differences are made again, not kept.

The published variants are settings:

| published as | settings |
|---|---|
| base | the defaults |
| r1 (ablation: pyramid only, 4,292,323) | ``attention="none", self_calibration=False`` |
| r2 (ablation: pyramid and self-calibration, 4,656,867) | ``attention="none"`` |
| ``scale_attention = True`` (+135,168) | ``scale_attention=True`` |
| ``sa_type = 1``, never used | ``attention="patchwise"`` |

Where paper and code differ, or the code surprises:

- The code reads pictures as BGR. Only the first and the last convolution know of colors, so an import
  reorders their weights, and the network itself is RGB: the same function.
- SAN normalizes and rectifies twice inside the map from relation to weight; JDNet's code has one leaky
  relu and two linear layers in a row. Two linear layers are one matrix; they stay two sets of
  parameters here, so that official weights fit and training starts as theirs, and are multiplied first.
- Patchwise weights are not normalized by a softmax, in SAN and here.
- The position grid spans −1 to 1 over whatever picture comes, so that neighbors lie closer in a large
  picture than in a training patch, and a tile differs from the whole. The official weights need it.
- Pictures smaller than a pooling window of ``scale_attention`` crash the authors' code; here the window
  is clipped to the picture.
- The rain layer ends in a leaky relu: rain darkens by at most a fifth of what it may brighten.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .layers import Fp32Conv2d, autocast_off
from .neighborhood import SLOPE, aggregation, pairwise_logits, patchwise_weights

Attention = Literal["pairwise", "patchwise", "none"]
_SHARE = 8  # channels that share one plane of attention weights
_POOL = 4  # of the self-calibration


def _rectify() -> nn.Module:
    return nn.LeakyReLU(SLOPE, inplace=True)


class WindowAttention(nn.Module):
    """SAM: attention of each pixel to its ``window × window`` neighbors, ``channels`` to ``values``."""

    def __init__(self, channels: int, relation: int, values: int, window: int, patchwise: bool) -> None:
        super().__init__()
        self.window, self.patchwise = window, patchwise
        planes = max(1, values // _SHARE)
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
        # Neighbors' positions differ by less than bfloat16 can tell: the relation stays exact.
        with autocast_off(x):
            exact = self.relate.weight.dtype
            query, key, value = query.to(exact), key.to(exact), value.to(exact)
            if self.patchwise:
                related = patchwise_weights(query, key, self.relate.weight.flatten(1), self.window)
                weights = self.weigh(related).view(len(x), -1, self.window**2, *x.shape[-2:])
            else:
                place = self.position(_grid(query)).expand(len(x), -1, -1, -1)
                mixing = self.weigh.weight.flatten(1) @ self.relate.weight.flatten(1)
                query, key = torch.cat([query, place], 1), torch.cat([key, place], 1)
                # The bias of `weigh` is one number for all neighbors: the softmax takes it out.
                weights = torch.softmax(pairwise_logits(query, key, mixing, self.window), dim=2)
            return aggregation(value, weights, self.window)


def _grid(like: Tensor) -> Tensor:
    """``(1, 2, H, W)``: x and y of each pixel, from −1 to 1."""
    # With linspace and len() an exported graph would keep the size that it was traced with.
    height, width = like.shape[-2:]
    y, x = (torch.arange(n, device=like.device).to(like.dtype) * (2 / (n - 1)) - 1 for n in (height, width))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]


class AttentionBottleneck(nn.Module):
    """``x + expand(rectify(norm(attend(rectify(norm(x))))))``."""

    def __init__(self, channels: int, window: int, patchwise: bool) -> None:
        super().__init__()
        narrow = channels // 4
        self.norm_in = nn.BatchNorm2d(channels)
        self.attend = WindowAttention(channels, channels // 16, narrow, window, patchwise)
        self.norm_out = nn.BatchNorm2d(narrow)
        self.expand = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.attend(F.leaky_relu_(self.norm_in(x), SLOPE))
        out: Tensor = self.expand(F.leaky_relu_(self.norm_out(inner), SLOPE))
        return x + out


class DownBlock(nn.Module):
    """Half the resolution by a strided convolution, then a residual of two."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convert = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), _rectify(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu_(self.convert(x), SLOPE)
        residual: Tensor = self.body(x)
        return x + residual


class ScaleGate(nn.Module):
    """Scale attention: gates for a coarser level from the maxima of the finest."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, finest: Tensor, level: Tensor) -> Tensor:
        kernel = [min(self.window, side) for side in finest.shape[-2:]]
        gate = torch.sigmoid(self.conv(F.max_pool2d(finest, kernel)))
        return level * F.interpolate(gate, level.shape[-2:])


class ScaleAggregation(nn.Module):
    """``x`` plus the fusion of its pyramid of ``scales`` levels, from full resolution downwards."""

    def __init__(self, channels: int, scales: int, scale_attention: bool) -> None:
        super().__init__()
        coarser = range(1, scales)
        self.down = nn.ModuleList(DownBlock(channels) for _ in coarser)
        self.gates = nn.ModuleList(ScaleGate(channels, 2**k) for k in coarser) if scale_attention else None
        self.fusion = nn.Conv2d(scales * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # A 1×1 convolution and nearest upsampling commute: each level is projected at its own resolution,
        # and the concatenation at full resolution never exists.
        projections = self.fusion.weight.chunk(len(self.down) + 1, dim=1)
        projected = [F.conv2d(x, projections[0], self.fusion.bias)]
        level = x
        for place, (down, projection) in enumerate(zip(self.down, projections[1:], strict=True)):
            level = down(level)
            if self.gates is not None:
                level = self.gates[place](x, level)
            projected.append(F.conv2d(level, projection))
        # Where every level is exactly half of the one above, going up level by level gives the same pixels.
        exact = not torch.onnx.is_in_onnx_export() and all(side % 2 ** len(self.down) == 0 for side in x.shape[-2:])
        while len(projected) > 1:
            coarse = projected.pop()
            finer = projected[-1 if exact else 0]
            finer += F.interpolate(coarse, finer.shape[-2:])
        return x + F.leaky_relu_(projected[0], SLOPE)


class SelfCalibration(nn.Module):
    """Two half-width branches, one of them gated by its own coarse context; residual, rectified."""

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
        context = F.interpolate(self.context(F.avg_pool2d(gated, _POOL)), gated.shape[-2:])
        gated = F.leaky_relu_(self.gated(self.content(gated) * torch.sigmoid(gated + context)), SLOPE)
        return F.leaky_relu_(x + self.join(torch.cat([plain, gated], dim=1)), SLOPE)


class JDNet(nn.Module):
    """Joint self-attention and scale-aggregation network.

    Args:
        channels: features of every layer (32); at least 16, even.
        units: joint units in the dense chain (32).
        scales: levels of the pyramid, full resolution among them (5: the authors' ``num_scale_attention`` + 1).
        scale_attention: gate each coarser level.
        attention: ``pairwise``, ``patchwise`` or ``none``.
        self_calibration: the self-calibrated convolution that ends a unit; ``False`` leaves it out.
        window: side of the attention window (7), odd.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped; H and W at least 4 and more than half
    the window.
    """

    #: Window attention reads shifted planes: in fp32 on a CPU channels_last makes it slower (measured).
    nchw_on_cpu = True

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
        #: Bytes of working memory a pixel without gradients, fp32: the dense chain, and one unit (measured).
        self.memory_per_pixel = 4 * channels * (units + 1) + 60 * channels

    def forward(self, rainy: Tensor) -> Tensor:
        """Derain a batch."""
        return rainy - self.rain(rainy)

    def rain(self, rainy: Tensor) -> Tensor:
        """The rain layer that :meth:`forward` subtracts, same shape."""
        x = F.leaky_relu_(self.enter(rainy), SLOPE)
        x = self._chain_keeping(x) if torch.is_grad_enabled() else self._chain_in_place(x)
        return F.leaky_relu_(self.exit(x), SLOPE)

    def _chain_keeping(self, x: Tensor) -> Tensor:
        """The dense chain for training: a concatenation is made again in the backward pass.

        Kept, the concatenations would take memory with the square of the units.
        """

        def fuse(fusion: nn.Module, *features: Tensor) -> Tensor:
            return F.leaky_relu_(fusion(torch.cat(features, dim=1)), SLOPE)

        features, out = [x], x
        for unit, fusion in zip(self.units, self.fusions, strict=True):
            features.append(unit(out))
            out = checkpoint(fuse, fusion, *features, use_reentrant=False, preserve_rng_state=False)
        return out

    def _chain_in_place(self, x: Tensor) -> Tensor:
        """The dense chain without gradients: features lie side by side from the start, nothing is copied."""
        joined, out, channels = None, x, x.shape[1]
        for i, (unit, fusion) in enumerate(zip(self.units, self.fusions, strict=True), start=1):
            found = unit(out)
            if joined is None:
                joined = found.new_empty(len(x), channels * (len(self.units) + 1), *x.shape[-2:])
                joined[:, :channels] = x
            joined[:, i * channels : (i + 1) * channels] = found
            # As a matrix product: oneDNN's 1×1 convolution would copy the growing chain to its own layout.
            features = joined[:, : (i + 1) * channels].flatten(2)
            weight, bias = (p.view(channels, -1) for p in fusion.parameters())
            product = torch.baddbmm(bias, weight.expand(len(x), -1, -1), features)
            out = F.leaky_relu_(product.view_as(x), SLOPE)
        return out

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of an official checkpoint (``module.`` removed) under derain's names, BGR to RGB.

        Raises:
            KeyError: a key that such checkpoints do not have.
        """
        renamed = {}
        for key, value in state.items():
            name, count = _OFFICIAL_FORM.subn(_derain_name, key)
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
        """The settings of an official checkpoint, or ``None`` if it is another network's.

        A pairwise checkpoint does not tell its window; the authors' 7 is assumed.
        """
        if "enterBlock.0.weight" not in state or "derain_net.conv1x1.0.0.weight" not in state:
            return None
        unit = "derain_net.units.0"
        channels = state["enterBlock.0.weight"].shape[0]
        found: dict[str, Any] = {
            "channels": channels,
            "units": sum(re.fullmatch(r"derain_net\.conv1x1\.\d+\.0\.weight", key) is not None for key in state),
            "scales": state[f"{unit}.conv11.0.weight"].shape[1] // channels,
            "scale_attention": f"{unit}.scale_attention.0.1.weight" in state,
            "self_calibration": f"{unit}.scn.conv3.weight" in state,
        }
        if f"{unit}.san.bn1.weight" not in state:
            found["attention"] = "none"
        elif f"{unit}.san.sam.conv_p.weight" not in state:
            found["attention"] = "patchwise"
            relation = state[f"{unit}.san.sam.conv1.weight"].shape[0]
            found["window"] = round((state[f"{unit}.san.sam.conv_w.1.weight"].shape[1] / relation - 1) ** 0.5)
        usual = {"channels": 32, "units": 32, "scales": 5, "scale_attention": False, "self_calibration": True}
        return {key: value for key, value in found.items() if usual.get(key) != value}


# Names inside a unit, official to ours; `#` is a number that stays as it is.
_INSIDE = {
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
_OUTSIDE = {"enterBlock.0": "enter", "exitBlock.0": "exit", "derain_net.conv1x1.#.0": "fusions.#"}
_RENAMED = _OUTSIDE | {f"derain_net.units.#.{old}": f"units.#.{new}" for old, new in _INSIDE.items()}
_OFFICIAL_FORM = re.compile(r"^(.+)\.(weight|bias|running_mean|running_var|num_batches_tracked)$")


def _derain_name(match: re.Match[str]) -> str:
    """Our name of an official key.

    Raises:
        KeyError: there is none.
    """
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", match[1] + ".")
    form = re.sub(r"(units|conv1x1|res_list|scale_attention)\.\d+", r"\1.#", match[1])
    if form not in _RENAMED:
        raise KeyError(match[0])
    name = _RENAMED[form]
    for number in numbers[: name.count("#")]:
        name = name.replace("#", number, 1)
    return f"{name}.{match[2]}"
