"""RESCAN (Li et al., Recurrent Squeeze-and-Excitation Context Aggregation Net for Single Image Deraining, ECCV 2018,
arXiv 1807.05698).

A plain network of dilated convolutions without normalization (dilations 1, 1, 2, 4, 8; 24 channels) predicts the rain
and is run in four stages with shared weights; each stage gets the input minus the rain found so far. Every layer is a
recurrent unit that remembers its features h from the stage before. With * a dilated convolution of the features x of
the layer below and ∘ an undilated one of h, without the biases:

- ConvGRU: z = σ(W_z*x + U_z∘h), r = σ(W_r*x + U_r∘h), n = tanh(W_n*x + U_n∘(r·h)), h ← (1 − z)·h + z·n
- ConvRNN: h ← tanh(W*x + U∘h)
- ConvLSTM: f, i, o = σ(W*x + U∘h), j = tanh(W_j*x + U_j∘h), c ← f·c + i·j, h ← o·tanh(c)

Squeeze and excitation weighs the channels of each layer. With full prediction, each stage predicts all rain; with
additive prediction, what is left of it. 149,823 parameters at the defaults, ConvGRU with full prediction. Zero
padding, any image size.

| ``unit`` and ``frame`` in the authors' ``settings.py`` | settings | parameters |
|---|---|---|
| ``GRU``, ``Full`` | the defaults | 149,823 |
| ``RNN`` | ``recurrence="rnn"`` | 54,735 |
| ``LSTM`` | ``recurrence="lstm"`` | 197,367 |
| ``Conv`` | ``recurrence="none"`` | 28,695 |
| ``Add`` | ``additive=True`` | the same |

Where paper and code differ, or the code is unexpected:

- The defaults of the authors' code are ``RNN`` and ``Add``. The unit is read from a checkpoint's keys; ``additive`` is
  not in them, so set it at import (``--set additive=true``) for a network that was trained so.
- The code reads images as BGR. Only the first layer and the last convolution depend on the channel order, so import
  reorders their weights, and the network itself takes RGB: the same function.
- Squeeze and excitation has 6 hidden units, independent of the channels; the code computes channels/6 and ignores it.
- Squeeze and excitation and the leaky ReLU (slope 0.2) are applied to the hidden state itself, so the next stage
  remembers the weighed features. Convolutions of the state are never dilated.
- In the first stage, when there is no state, ConvLSTM's output is o·c, later o·tanh(c).
- With additive prediction, no gradient flows through the sum of the earlier stages.

Squeeze and excitation averages over the whole image, so the result of a tile differs from that of the full image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import HasMemoryEstimate, HasOfficialCheckpoints, Unrolled
from .layers import Fp32Conv2d, channel_means
from .progressive import joint_convolution

Recurrence = Literal["gru", "rnn", "lstm", "none"]
_SLOPE = 0.2
_HIDDEN_UNITS = 6
_GATES: dict[Recurrence, str] = {"gru": "zrn", "rnn": "", "lstm": "fioj"}


class SqueezeExcitation(nn.Module):
    """Multiplies each channel by a gate made of the means of all; without gradients this overwrites its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, _HIDDEN_UNITS), nn.ReLU(), nn.Linear(_HIDDEN_UNITS, channels))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.fc(channel_means(x).flatten(1)))[:, :, None, None]
        return x * gate if torch.is_grad_enabled() or gate.dtype != x.dtype else x.mul_(gate)


def _excitation(channels: int, used: bool) -> nn.Module:
    return SqueezeExcitation(channels) if used else nn.Identity()


class RecurrentUnit(nn.Module):
    """A dilated convolution with memory.

    Maps ``(N, inputs, H, W)`` and the unit's state, ``None`` in the first stage, to the next state. The first entry
    of the state is the output, ``(N, channels, H, W)``.
    """

    def __init__(
        self, inputs: int, channels: int, dilation: int, recurrence: Recurrence, squeeze_excitation: bool
    ) -> None:
        super().__init__()

        def of_input() -> nn.Conv2d:
            return nn.Conv2d(inputs, channels, 3, padding=dilation, dilation=dilation)

        self.recurrence = recurrence
        if recurrence == "none":
            self.conv = of_input()
        elif recurrence == "rnn":
            self.conv_x, self.conv_h = of_input(), nn.Conv2d(channels, channels, 3, padding=1)
        else:
            for gate in _GATES[recurrence]:
                self.add_module(f"conv_x{gate}", of_input())
                self.add_module(f"conv_h{gate}", nn.Conv2d(channels, channels, 3, padding=1))
        self.se = _excitation(channels, squeeze_excitation)

    def forward(self, x: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
        memory: tuple[Tensor, ...] = ()
        if self.recurrence == "none":
            hidden = self.conv(x)
        elif self.recurrence == "rnn":
            hidden = torch.tanh(self.conv_x(x) if state is None else self.conv_x(x) + self.conv_h(state[0]))
        elif self.recurrence == "gru":
            hidden = self._gru(x, None if state is None else state[0])
        else:
            hidden, cell = self._lstm(x, state)
            memory = (cell,)
        hidden = self.se(hidden)
        return F.leaky_relu(hidden, _SLOPE, inplace=not torch.is_grad_enabled()), *memory

    def _convolve(self, source: str, x: Tensor, gates: str) -> Tensor:
        """The convolutions ``conv_{source}{gate}`` of the input or the state, concatenated."""
        convolutions = [self.get_submodule(f"conv_{source}{gate}") for gate in gates]
        return joint_convolution(x, [conv for conv in convolutions if isinstance(conv, nn.Conv2d)])

    def _gru(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        if hidden is None:
            update, candidate = self._convolve("x", x, "zn").chunk(2, dim=1)
            return torch.sigmoid(update) * torch.tanh(candidate)
        from_input, channels = self._convolve("x", x, "nzr"), hidden.shape[1]
        candidate, gates = from_input[:, :channels], from_input[:, channels:]
        update, reset = torch.sigmoid(_add(gates, self._convolve("h", hidden, "zr"))).chunk(2, dim=1)
        candidate = torch.tanh(_add(candidate, self._convolve("h", reset * hidden, "n")))
        return (1 - update) * hidden + update * candidate

    def _lstm(self, x: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, Tensor]:
        if state is None:
            i, o, j = self._convolve("x", x, "ioj").chunk(3, dim=1)
            cell = torch.sigmoid(i) * torch.tanh(j)
            return torch.sigmoid(o) * cell, cell
        hidden, cell = state
        joint = _add(self._convolve("x", x, "fioj"), self._convolve("h", hidden, "fioj"))
        f, i, o, j = joint.chunk(4, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(j)
        return torch.sigmoid(o) * torch.tanh(cell), cell


def _add(first: Tensor, second: Tensor) -> Tensor:
    """The sum; without gradients this overwrites ``first``."""
    return first + second if torch.is_grad_enabled() or first.dtype != second.dtype else first.add_(second)


class RESCAN(Unrolled, HasOfficialCheckpoints, HasMemoryEstimate, nn.Module):
    """Recurrent context aggregation network.

    Args:
        iterations: stages (4).
        channels: channels of every layer (24).
        depth: layers, including two that do not remember (7); at least 3.
        recurrence: ``gru``, ``rnn``, ``lstm`` or ``none``.
        squeeze_excitation: weigh the channels of each layer.
        additive: each stage predicts what is left of the rain instead of all of it.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped.
    """

    def __init__(
        self,
        iterations: int = 4,
        channels: int = 24,
        depth: int = 7,
        recurrence: Recurrence = "gru",
        squeeze_excitation: bool = True,
        additive: bool = False,
    ) -> None:
        super().__init__()
        if iterations < 1 or channels < 1 or depth < 3:
            raise ValueError("iterations and channels must be at least 1, depth at least 3")
        if recurrence not in ("gru", "rnn", "lstm", "none"):
            raise ValueError(f"recurrence must be gru, rnn, lstm or none, not {recurrence!r}")
        self.iterations, self.additive = iterations, additive
        #: Bytes of working memory per pixel, without gradients, in fp32 (measured).
        self.memory_per_pixel = {"gru": 100, "lstm": 130}.get(recurrence, 40) * channels

        def unit(inputs: int, dilation: int) -> RecurrentUnit:
            return RecurrentUnit(inputs, channels, dilation, recurrence, squeeze_excitation)

        self.rnns = nn.ModuleList([unit(3, 1), *(unit(channels, 2**i) for i in range(depth - 3))])
        self.dec = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            _excitation(channels, squeeze_excitation),
            nn.LeakyReLU(_SLOPE),
            Fp32Conv2d(channels, 3, 1),
        )

    def _unroll(self, rainy: Tensor) -> Iterator[Tensor]:
        states: list[tuple[Tensor, ...] | None] = [None] * len(self.rnns)
        derained, rain = rainy, None
        for _ in range(self.iterations):
            x = derained
            for index, layer in enumerate(self.rnns):
                state = layer(x, states[index])
                states[index], x = state, state[0]
            found: Tensor = self.dec(x)
            rain = found if rain is None or not self.additive else found + rain.detach()
            derained = rainy - rain
            yield derained

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network.

        Stages and additive prediction cannot be read from a checkpoint; 4 and full prediction are assumed.
        """
        last = state.get("dec.3.weight")
        marks: dict[str, Recurrence] = {"conv_xz": "gru", "conv_x": "rnn", "conv_xj": "lstm", "conv": "none"}
        found = [unit for mark, unit in marks.items() if f"rnns.0.{mark}.weight" in state]
        if last is None or not found:
            return None
        settings = {
            "channels": last.shape[1],
            "depth": 2 + len({key.split(".")[1] for key in state if key.startswith("rnns.")}),
            "recurrence": found[0],
            "squeeze_excitation": "dec.1.fc.0.weight" in state,
        }
        defaults = {"channels": 24, "depth": 7, "recurrence": "gru", "squeeze_excitation": True}
        return {key: value for key, value in settings.items() if value != defaults[key]}

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert an official checkpoint (``module.`` removed) from BGR to RGB; its key names are kept."""
        converted = {}
        for key, value in state.items():
            if key.startswith("rnns.0.conv") and not key.startswith("rnns.0.conv_h") and value.ndim == 4:
                converted[key] = value.flip(1)
            else:
                converted[key] = value.flip(0) if key.startswith("dec.3.") else value
        return converted
