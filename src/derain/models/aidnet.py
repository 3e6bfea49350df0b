"""AIDNet, the Attentive Image Deraining Network (Cui et al., "Attentive Image Deraining Network with Better
Generalization", code at github.com/cuiyixin555/AIDNet), and BRN, on which it is built (Ren et al., Single Image
Deraining Using Bilateral Recurrent Network, IEEE TIP 2020).

Two recurrent networks, one for the rain and one for the image, are unrolled eight times. Each has a stem, a
ConvLSTM, residual blocks (three for the rain, five for the image) and a head; all weights are shared by the
iterations. In iteration t, with h the hidden features of the cells (initially zero):

- rain: r_t = head(blocks(h'_t)), h'_t = LSTM(stem(input, r_{t−1}), h'_{t−1}, h_{t−1}), r_0 = input
- image: x_t = head(blocks(h_t)), h_t = LSTM(stem(input, x_{t−1}, r_t), h_{t−1}, h'_t), x_0 = input

so that the gates of each cell see the other one's features (BRN's bilateral LSTM). AIDNet adds a residual attention
block: the features f of the image after its blocks 1, 3 and 5 become f + A(g)·f, with g the features of the rain after
its blocks 1, 2 and 3, and A one attention module that all places share. The outputs are images, not residuals.
Zero padding, any image size.

| published as | settings | parameters |
|---|---|---|
| AIDNet, as in the code and the Rain100H checkpoint | the defaults: CBAM (Woo et al., ECCV 2018) | 375,788 |
| AIDNet, Rain100L checkpoint | ``attention="se"``: squeeze and excitation (Hu et al., CVPR 2018) | 376,598 |
| BRN | ``attention="none"`` | 375,526 |

Where paper and code differ, or the code is unexpected:

- The published count of 0.42 million (412,780 with CBAM) includes two more residual blocks of the rain that the code
  creates and never runs. In the published checkpoints they still have their initial values; import drops them.
- The module that the public code names (``aid_module``) is not the one it calls (``cbam_module``), so it does not run
  as it is; which wiring is right was decided with the checkpoints. The Rain100H checkpoint has 31.31 dB on the Y
  channel of pairs 1–20 of Rain100H (published for all 100: 31.21). On two crops, applying the attention otherwise
  (gates alone, a sum, from the image's own features, not at all) costs 1 to 5 dB; other blocks change up to 0.4 dB.
- The Rain100L checkpoint has 38.85 dB on pairs 1–20 of Rain100L, the published figure for all 100 is 40.41. Its
  attention, squeeze and excitation, is not the one of the public code, its gates are nearly closed (means of 0.02 to
  0.03), and without attention the result changes by less than 0.05 dB on four crops, so that its wiring hardly explains
  the difference; the file may not be the one of the published figure.
- The rain r is not trained to be the rain that was added, only the image is; ``x`` is not ``input − r``.
- The authors truncate to 8 bits: ``--quantizer truncate``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .base import HasOfficialCheckpoints, Unrolled
from .layers import Fp32Conv2d, channel_means
from .prenet import ResidualBlock
from .progressive import ConvLSTM

Attention = Literal["cbam", "se", "none"]
_IMAGE_BLOCKS = 5
_RAIN_BLOCKS = 3


class RainAttention(nn.Module):
    """Multiplies features by channel gates and, for ``cbam``, by gates of the pixels; maps to the same shape."""

    def __init__(self, channels: int, kind: Attention) -> None:
        super().__init__()
        hidden = max(1, channels // (16 if kind == "cbam" else 2))
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial: nn.Sequential | None = None
        if kind == "cbam":
            self.spatial = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))

    def forward(self, features: Tensor) -> Tensor:
        logits = self.mlp(channel_means(features).flatten(1))
        if self.spatial is not None:
            logits = logits + self.mlp(features.amax(dim=(2, 3)))
        attended = features * torch.sigmoid(logits)[:, :, None, None]
        if self.spatial is None:
            return attended
        pooled = torch.cat([attended.amax(dim=1, keepdim=True), attended.mean(dim=1, keepdim=True)], dim=1)
        gate = torch.sigmoid(self.spatial(pooled))
        return attended * gate if torch.is_grad_enabled() else attended.mul_(gate)


class Branch(nn.Module):
    """One of the two recurrent networks, without its loop."""

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.stem = Fp32Conv2d(inputs, channels, 3, padding=1)
        self.lstm = ConvLSTM(channels, coupled=True)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        self.head = Fp32Conv2d(channels, 3, 3, padding=1)


class AIDNet(Unrolled, HasOfficialCheckpoints, nn.Module):
    """Attentive bilateral recurrent network.

    Args:
        iterations: how often both branches are unrolled (8).
        channels: channels of every layer (32).
        attention: from rain to image features: ``cbam``, ``se`` or ``none`` (BRN).

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped.
    """

    def __init__(self, iterations: int = 8, channels: int = 32, attention: Attention = "cbam") -> None:
        super().__init__()
        if iterations < 1 or channels < 1:
            raise ValueError("iterations and channels must be at least 1")
        if attention not in ("cbam", "se", "none"):
            raise ValueError(f"attention must be cbam, se or none, not {attention!r}")
        self.iterations = iterations
        self.rain = Branch(6, channels, _RAIN_BLOCKS)
        self.image = Branch(9, channels, _IMAGE_BLOCKS)
        self.attention = None if attention == "none" else RainAttention(channels, attention)

    def _unroll(self, rainy: Tensor) -> Iterator[Tensor]:
        derained = rain = rainy
        rain_state: tuple[Tensor, ...] | None = None
        image_state: tuple[Tensor, ...] | None = None
        for _ in range(self.iterations):
            x = self.rain.stem(torch.cat([rainy, rain], dim=1)).relu_()
            rain_state = self.rain.lstm(x, rain_state, None if image_state is None else image_state[0])
            x = rain_state[0]
            attended = []
            for block in self.rain.blocks:
                x = block(x)
                if self.attention is not None:
                    attended.append(self.attention(x))
            rain = self.rain.head(x)
            x = self.image.stem(torch.cat([rainy, derained, rain], dim=1)).relu_()
            image_state = self.image.lstm(x, image_state, rain_state[0])
            x = image_state[0]
            for number, block in enumerate(self.image.blocks):
                x = block(x)
                if attended and number % 2 == 0:
                    x = _modulate(x, attended.pop(0))
            derained = self.image.head(x)
            yield derained

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint of AIDNet or BRN; ``None`` if it belongs to another network.

        The iterations cannot be read from a checkpoint; the authors' 8 are assumed.
        """
        gate = state.get("conv_i_r.0.weight")
        if gate is None or "conv0_r.0.weight" not in state or "conv_i.0.weight" not in state:
            return None
        channels = gate.shape[0]
        if gate.shape[1] != 3 * channels or state["conv_i.0.weight"].shape[1] != 3 * channels:
            return None  # BRN's ablations, whose cells are coupled in one direction or not at all
        settings: dict[str, Any] = {} if channels == 32 else {"channels": channels}
        if any(key.startswith("seblock.") for key in state):
            settings["attention"] = "se"
        elif not any(key.startswith("cbam_module.") for key in state):
            settings["attention"] = "none"
        return settings

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert an official checkpoint (``module.`` removed) to derain's key names, without the unused blocks.

        Raises:
            KeyError: the state has a key that official checkpoints do not have.
        """
        renamed = {}
        for key, value in state.items():
            layer, _, parameter = key.rpartition(".")
            outer, _, inner = layer.partition(".")
            name = outer.removesuffix("_r")
            branch = "rain" if name != outer else "image"
            if layer in _ATTENTION_NAMES:
                renamed[f"attention.{_ATTENTION_NAMES[layer]}.{parameter}"] = value
            elif name in _BRANCH_NAMES and inner == "0":
                renamed[f"{branch}.{_BRANCH_NAMES[name]}.{parameter}"] = value
            elif name.startswith("res_conv") and name[8:].isdigit():
                if branch == "image" or int(name[8:]) <= _RAIN_BLOCKS:
                    renamed[f"{branch}.blocks.{int(name[8:]) - 1}.body.{inner}.{parameter}"] = value
            else:
                raise KeyError(key)
        return renamed


def _modulate(features: Tensor, attended: Tensor) -> Tensor:
    """``features + attended · features``; without gradients this overwrites ``attended``."""
    if torch.is_grad_enabled() or attended.dtype != features.dtype:
        return torch.addcmul(features, attended, features)
    return attended.mul_(features).add_(features)


_BRANCH_NAMES = {
    "conv0": "stem",
    "conv": "head",
    "conv_i": "lstm.input_gate",
    "conv_f": "lstm.forget_gate",
    "conv_g": "lstm.candidate",
    "conv_o": "lstm.output_gate",
}
_ATTENTION_NAMES = {
    "seblock.fc.0": "mlp.0",
    "seblock.fc.2": "mlp.2",
    "cbam_module.ChannelGate.mlp.1": "mlp.0",
    "cbam_module.ChannelGate.mlp.3": "mlp.2",
    "cbam_module.SpatialGate.spatial.conv": "spatial.0",
    "cbam_module.SpatialGate.spatial.bn": "spatial.1",
}
