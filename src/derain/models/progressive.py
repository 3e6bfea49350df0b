"""Shared parts of PReNet and SAPNet: recurrent cells and the unrolled progressive network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import HasOfficialCheckpoints, Unrolled
from .layers import Fp32Conv2d

Recurrence = Literal["lstm", "gru", "none"]
_STRIP_BYTES = 2**22
_OFFICIAL_NAMES = {
    "conv0": "stem",
    "conv": "head",
    "conv_i": "lstm.input_gate",
    "conv_f": "lstm.forget_gate",
    "conv_o": "lstm.output_gate",
    "conv_z": "gru.update_gate",
    "conv_b": "gru.reset_gate",
}


def joint_convolution(x: Tensor, convolutions: Sequence[nn.Conv2d]) -> Tensor:
    """The outputs of several convolutions with equal settings of one input, concatenated along the channels.

    One wide convolution instead of four narrow ones reads its input once: 2.4 times as fast, forward
    and backward, for PReNet's gates (2 threads, fp32).
    """
    first = convolutions[0]
    weight = torch.cat([conv.weight for conv in convolutions])
    biases = [conv.bias for conv in convolutions if conv.bias is not None]
    return F.conv2d(x, weight, torch.cat(biases), first.stride, first.padding, first.dilation)


class ConvLSTM(nn.Module):
    """Convolutional LSTM cell without peepholes (PReNet, eq. 4; Shi et al. 2015).

    Maps features and the previous state (hidden, cell), initially ``None``, to the next state; all are
    ``(N, C, H, W)``. The first entry of the state is the output.

    Args:
        channels: C.
        coupled: the gates also take the hidden features of another cell, ``None`` for zeros.
    """

    def __init__(self, channels: int, coupled: bool = False) -> None:
        super().__init__()
        self.coupled = coupled
        inputs = (3 if coupled else 2) * channels
        self.input_gate = nn.Conv2d(inputs, channels, 3, padding=1)
        self.forget_gate = nn.Conv2d(inputs, channels, 3, padding=1)
        self.candidate = nn.Conv2d(inputs, channels, 3, padding=1)
        self.output_gate = nn.Conv2d(inputs, channels, 3, padding=1)

    def forward(
        self, x: Tensor, state: Sequence[Tensor] | None, other_hidden: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        gates = (self.forget_gate, self.input_gate, self.output_gate, self.candidate)
        if not torch.is_grad_enabled() and not torch.onnx.is_in_onnx_export():
            return self._infer(x, state, other_hidden, gates)
        hidden, cell = state if state is not None else (torch.zeros_like(x), torch.zeros_like(x))
        other = [torch.zeros_like(x) if other_hidden is None else other_hidden] if self.coupled else []
        f, i, o, g = joint_convolution(torch.cat([x, hidden, *other], dim=1), gates).chunk(4, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell

    @staticmethod
    def _infer(
        x: Tensor, state: Sequence[Tensor] | None, other_hidden: Tensor | None, gates: Sequence[nn.Conv2d]
    ) -> tuple[Tensor, ...]:
        """The same without gradients, a strip of rows at a time; updates the given cell state in place.

        The gates of a full image are four feature maps, newly allocated at every stage, and the operating
        system maps that memory page by page: 1.2 of 6.7 s of PReNet at 480×320. The gates of a strip stay in
        the cache and their memory is reused. An initial empty state is skipped, not computed with zeros.
        """
        used = gates[1:] if state is None else gates
        inputs = (x, None if state is None else state[0], other_hidden)
        present = [index for index, source in enumerate(inputs) if source is not None]
        sources = [source for source in inputs if source is not None]
        # The channels of the kernels that belong to the inputs present.
        channels = x.shape[1]
        kernels = [torch.cat([g.weight[:, i * channels : (i + 1) * channels] for i in present], dim=1) for g in used]
        weight = torch.cat(kernels)
        bias = torch.cat([gate.bias for gate in used if gate.bias is not None])
        autocast = torch.is_autocast_enabled(x.device.type) if x.device.type != "meta" else False
        gate_dtype = torch.float32 if autocast else x.dtype
        hidden = torch.empty_like(x, dtype=torch.get_autocast_dtype(x.device.type) if autocast else x.dtype)
        cell = torch.empty_like(x, dtype=gate_dtype) if state is None else state[1]
        height, rows = x.shape[2], _strip_rows(x)
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            above, below = max(start - 1, 0), min(stop + 1, height)
            joined = torch.cat([source[:, :, above:below] for source in sources], dim=1)
            if below - above < stop - start + 2:
                joined = F.pad(joined, (0, 0, above - start + 1, stop + 1 - below))
            # Sigmoid and tanh of bf16 take several times as long on a CPU, so gates and cell are fp32.
            joined = F.conv2d(joined, weight, bias, padding=(0, 1)).to(gate_dtype)
            *f, i, o, g = joined.chunk(len(used), dim=1)
            cell_strip = cell[:, :, start:stop]
            i.sigmoid_().mul_(_tanh_(g))
            if f:
                cell_strip.mul_(f[0].sigmoid_()).add_(i)
            else:
                cell_strip.copy_(i)
            hidden[:, :, start:stop] = o.sigmoid_().mul_(_tanh_(g.copy_(cell_strip)))
        return hidden, cell


def _strip_rows(x: Tensor) -> int:
    """Rows per strip: all, except on a CPU, where the four gates of a strip take about 4 MB per thread.

    That fits the cache and still keeps all threads busy.
    """
    if x.device.type != "cpu":
        return x.shape[2]
    return max(8, torch.get_num_threads() * _STRIP_BYTES // (16 * len(x) * x.shape[1] * x.shape[3]))


def _tanh_(x: Tensor) -> Tensor:
    """In-place tanh; in fp32 on a CPU as 2 σ(2x) − 1, three times as fast as torch's and as accurate in [−1, 1]."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return x.tanh_()
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class ConvGRU(nn.Module):
    """Convolutional GRU cell as in PReNet's ablation; its state is only the hidden features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.update_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.reset_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, state: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
        hidden = state[0] if state is not None else torch.zeros_like(x)
        joined = torch.cat([x, hidden], dim=1)
        update, reset = torch.sigmoid(joint_convolution(joined, (self.update_gate, self.reset_gate))).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([reset * hidden, x], dim=1)))
        return ((1 - update) * hidden + update * candidate,)


def add_and_rectify(x: Tensor, branch: Tensor) -> Tensor:
    """``relu(x + branch)``; without gradients this overwrites ``branch``, which must not be used elsewhere."""
    if torch.is_grad_enabled() or branch.dtype != x.dtype:
        return torch.relu(x + branch)
    return branch.add_(x).relu_()


class ProgressiveNet(Unrolled, HasOfficialCheckpoints, nn.Module):
    """Recurrent network of stem, recurrent cell, residual blocks and head, with weights shared by all iterations.

    Args:
        blocks: the residual blocks; each maps ``(N, channels, H, W)`` to the same shape.
        channels: channels of every layer.
        iterations: number of unrolled stages.
        recurrence: the cell that carries features from stage to stage; ``none`` for no cell.
        repeats: how many times a stage runs the blocks, with shared weights.
        residual: add the rainy image to the output of the head.
        sees_rainy: the stem takes the rainy image in addition to the output of the previous stage.
    """

    def __init__(
        self,
        blocks: list[nn.Module],
        channels: int,
        iterations: int,
        recurrence: Recurrence = "lstm",
        repeats: int = 1,
        residual: bool = True,
        sees_rainy: bool = True,
    ) -> None:
        super().__init__()
        if iterations < 1 or channels < 1:
            raise ValueError("iterations and channels must be at least 1")
        if recurrence not in ("lstm", "gru", "none"):
            raise ValueError(f"recurrence must be lstm, gru or none, not {recurrence!r}")
        self.iterations = iterations
        self.repeats = repeats
        self.residual = residual
        self.sees_rainy = sees_rainy
        self.stem = Fp32Conv2d(6 if sees_rainy else 3, channels, 3, padding=1)
        if recurrence == "lstm":
            self.lstm = ConvLSTM(channels)
        elif recurrence == "gru":
            self.gru = ConvGRU(channels)
        self.cell = {"lstm": "lstm", "gru": "gru", "none": None}[recurrence]
        self.blocks = nn.ModuleList(blocks)
        self.head = Fp32Conv2d(channels, 3, 3, padding=1)

    def _unroll(self, rainy: Tensor) -> Iterator[Tensor]:
        cell = getattr(self, self.cell) if self.cell is not None else None
        derained = rainy
        state: tuple[Tensor, ...] | None = None
        for _ in range(self.iterations):
            x = self.stem(torch.cat([rainy, derained], dim=1) if self.sees_rainy else derained).relu_()
            if cell is not None:
                state = cell(x, state)
                x = state[0]
            for _ in range(self.repeats):
                for block in self.blocks:
                    x = block(x)
            derained = self.head(x)
            if self.residual:
                derained = derained + rainy
            yield derained

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert an official PReNet or SAPNet checkpoint (``module.`` removed) to derain's key names.

        Raises:
            KeyError: the state has a key that official checkpoints do not have.
        """
        candidate = "gru.candidate" if "conv_z.0.weight" in state else "lstm.candidate"
        names = {**_OFFICIAL_NAMES, "conv_g": candidate}
        renamed = {}
        for key, value in state.items():
            outer, _, rest = key.partition(".")
            if outer in names and rest.startswith("0."):
                renamed[f"{names[outer]}.{rest[2:]}"] = value
            elif outer.startswith("res_conv") and outer[8:].isdigit():
                renamed[f"blocks.{int(outer[8:]) - 1}.body.{rest}"] = value
            else:
                raise KeyError(key)
        return renamed
