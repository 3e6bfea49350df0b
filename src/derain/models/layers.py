"""What several networks share: exact border convolutions, and the progressive core of PReNet and SAPNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Recurrence = Literal["lstm", "gru", "none"]
_STRIP_BYTES = 2**22


def autocast_off(x: Tensor) -> AbstractContextManager[object]:
    """Without autocast on the device of ``x``; it knows nothing of the meta device, on which operations are counted."""
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)


class Fp32Conv2d(nn.Conv2d):
    """A convolution that autocast leaves in full precision.

    For the first and the last of a network: they carry the picture itself, and bfloat16's 8 bits shift
    its colors. Measured on a heavy-rain crop with the gated U-Net: bf16 throughout loses 0.08 dB, with
    stem and head exact nothing (72 dB PSNR to the fp32 result).
    """

    def forward(self, input: Tensor) -> Tensor:
        with autocast_off(input):
            return super().forward(input.to(self.weight.dtype))


def joint_convolution(x: Tensor, parts: Sequence[nn.Conv2d]) -> Tensor:
    """The outputs of alike convolutions of one input, one after the other along the channels.

    One wide convolution instead of four narrow ones reads its input once: 2.4 times as fast, forward
    and backward, for PReNet's gates (2 threads, fp32).
    """
    weight = torch.cat([part.weight for part in parts])
    biases = [part.bias for part in parts if part.bias is not None]
    return F.conv2d(x, weight, torch.cat(biases), parts[0].stride, parts[0].padding, parts[0].dilation)


class ConvLSTM(nn.Module):
    """Convolutional LSTM cell without peepholes (PReNet, eq. 4; Shi et al. 2015).

    Maps a feature and the last state (hidden, cell), or ``None`` at first, to the next state; all are
    ``(N, C, H, W)``. The state's first entry is the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.forget_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.output_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, state: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
        gates = (self.forget_gate, self.input_gate, self.output_gate, self.candidate)
        if not torch.is_grad_enabled() and not torch.onnx.is_in_onnx_export():
            return self._infer(x, state, gates)
        hidden, cell = state if state is not None else (torch.zeros_like(x), torch.zeros_like(x))
        keep, write, show, fresh = joint_convolution(torch.cat([x, hidden], dim=1), gates).chunk(4, dim=1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(write) * torch.tanh(fresh)
        return torch.sigmoid(show) * torch.tanh(cell), cell

    @staticmethod
    def _infer(x: Tensor, state: Sequence[Tensor] | None, gates: Sequence[nn.Conv2d]) -> tuple[Tensor, ...]:
        """The same without gradients, some rows at a time; the given cell's memory becomes the next cell's.

        The gates of a whole picture are four features, new memory at every stage, which the system maps
        page by page: 1.2 of 6.7 s of PReNet at 480×320. Those of some rows stay in the cache and are used
        again. Nothing is computed from an empty state.
        """
        used = gates[1:] if state is None else gates
        sources = [x] if state is None else [x, state[0]]
        weight = torch.cat([gate.weight[:, : len(sources) * x.shape[1]] for gate in used])
        bias = torch.cat([gate.bias for gate in used if gate.bias is not None])
        low = torch.is_autocast_enabled(x.device.type) if x.device.type != "meta" else False
        exact = torch.float32 if low else x.dtype
        hidden = torch.empty_like(x, dtype=torch.get_autocast_dtype(x.device.type) if low else x.dtype)
        cell = torch.empty_like(x, dtype=exact) if state is None else state[1]
        height, rows = x.shape[2], _strip(x)
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            above, below = max(start - 1, 0), min(stop + 1, height)
            joined = torch.cat([source[:, :, above:below] for source in sources], dim=1)
            if below - above < stop - start + 2:
                joined = F.pad(joined, (0, 0, above - start + 1, stop + 1 - below))
            # Sigmoid and tanh of bf16 take several times as long on a CPU, so gates and cell are fp32.
            joined = F.conv2d(joined, weight, bias, padding=(0, 1)).to(exact)
            *keep, write, show, fresh = joined.chunk(len(used), dim=1)
            here = cell[:, :, start:stop]
            write.sigmoid_().mul_(_tanh_(fresh))
            if keep:
                here.mul_(keep[0].sigmoid_()).add_(write)
            else:
                here.copy_(write)
            hidden[:, :, start:stop] = show.sigmoid_().mul_(_tanh_(fresh.copy_(here)))
        return hidden, cell


def _strip(x: Tensor) -> int:
    """Rows whose four gates take about 4 MB for each thread of a CPU: in the cache, and work for all."""
    if x.device.type != "cpu":
        return x.shape[2]
    return max(8, torch.get_num_threads() * _STRIP_BYTES // (16 * len(x) * x.shape[1] * x.shape[3]))


def _tanh_(x: Tensor) -> Tensor:
    """tanh in place; as 2 σ(2x) − 1 where torch's takes three times as long, and is no more exact in [−1, 1]."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return x.tanh_()
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class _Gated(torch.autograd.Function):
    """See :func:`gated`. Both gradients go into one tensor: half the time of autograd's for a CPU's bf16."""

    @staticmethod
    def forward(ctx: Any, joint: Tensor) -> Tensor:
        values, gates = joint.chunk(2, dim=1)
        gates = sigmoid(gates)
        ctx.save_for_backward(values, gates)
        ctx.size, ctx.stride = joint.size(), joint.stride()
        return values * gates

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        values, gates = ctx.saved_tensors
        joint = torch.empty_strided(ctx.size, ctx.stride, dtype=gradient.dtype, device=gradient.device)
        to_values, to_gates = joint.chunk(2, dim=1)
        torch.mul(gradient, gates, out=to_values)
        torch.mul(to_values, values, out=to_gates)
        to_gates.addcmul_(to_gates, gates, value=-1)
        return joint


def gated(joint: Tensor) -> Tensor:
    """``values · sigmoid(gates)`` of ``(N, 2C, H, W)``, values first: a gated linear unit (Dauphin et al. 2017)."""
    if torch.is_grad_enabled():
        return _Gated.apply(joint)  # type: ignore[no-untyped-call, no-any-return]
    values, gates = joint.chunk(2, dim=1)
    return sigmoid(gates).mul_(values)


def sigmoid(x: Tensor) -> Tensor:
    """Of a CPU's bf16 by way of fp32, which takes a quarter of the time."""
    if x.dtype != torch.bfloat16 or x.device.type != "cpu":
        return torch.sigmoid(x)
    return x.float().sigmoid_().to(x.dtype)


def channel_means(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` to the mean of each channel, ``(N, C, 1, 1)``.

    Autocast would copy a bf16 feature to fp32 before it sums it, which takes six times as long.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.is_grad_enabled():
        return x.mean(dim=(2, 3), keepdim=True)
    with autocast_off(x):
        rows = x.permute(0, 2, 3, 1).sum(dim=2).float()
        return (rows.mean(dim=1) / x.shape[3])[..., None, None].to(x.dtype)


def add_and_rectify(x: Tensor, branch: Tensor) -> Tensor:
    """``relu(x + branch)``; without gradients in the memory of ``branch``, which must be nobody else's."""
    if torch.is_grad_enabled() or branch.dtype != x.dtype:
        return torch.relu(x + branch)
    return branch.add_(x).relu_()


class ConvGRU(nn.Module):
    """Convolutional GRU cell as in PReNet's ablation; its state is the hidden feature alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.update_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.reset_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, state: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
        hidden = state[0] if state is not None else torch.zeros_like(x)
        joined = torch.cat([x, hidden], dim=1)
        update, reset = torch.sigmoid(joint_convolution(joined, (self.update_gate, self.reset_gate))).chunk(2, dim=1)
        kept = reset * hidden
        fresh = torch.tanh(self.candidate(torch.cat([kept, x], dim=1)))
        return ((1 - update) * hidden + update * fresh,)


class ProgressiveNet(nn.Module):
    """The recurrence: stem, recurrent cell, residual blocks, head; its weights serve every iteration.

    Args:
        blocks: the residual blocks; each maps ``(N, channels, H, W)`` to the same shape.
        channels: features of every layer.
        iterations: number of unrolled stages.
        recurrence: the cell that carries features from stage to stage; ``none`` leaves it out.
        repeats: how often the blocks run in a stage, sharing their weights.
        residual: add the rainy picture to what the head gives.
        sees_rainy: the stem reads the rainy picture beside the last stage's output.
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

    def forward(self, rainy: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to the last stage's output, same shape, not clamped."""
        return self.stages(rainy)[-1]

    def stages(self, rainy: Tensor) -> list[Tensor]:
        """The outputs of all iterations, first to last."""
        return list(self._unroll(rainy))


_OFFICIAL = {
    "conv0": "stem",
    "conv": "head",
    "conv_i": "lstm.input_gate",
    "conv_f": "lstm.forget_gate",
    "conv_o": "lstm.output_gate",
    "conv_z": "gru.update_gate",
    "conv_b": "gru.reset_gate",
}


def rename_progressive(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official PReNet or SAPNet checkpoint (``module.`` removed) under derain's names.

    Raises:
        KeyError: a key that such checkpoints do not have.
    """
    candidate = "gru.candidate" if "conv_z.0.weight" in state else "lstm.candidate"
    names = {**_OFFICIAL, "conv_g": candidate}
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
