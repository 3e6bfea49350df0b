"""What the recurrent networks share: the progressive core of PReNet, which SAPNet extends."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class ConvLSTM(nn.Module):
    """Convolutional LSTM cell without peepholes (PReNet, eq. 4; Shi et al. 2015).

    Maps a feature ``(N, C, H, W)`` and a state of two tensors of that shape to the next state.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.forget_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.output_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([x, hidden], dim=1)
        keep = torch.sigmoid(self.forget_gate(joined)) * cell
        write = torch.sigmoid(self.input_gate(joined)) * torch.tanh(self.candidate(joined))
        cell = keep + write
        return torch.sigmoid(self.output_gate(joined)) * torch.tanh(cell), cell


class ProgressiveNet(nn.Module):
    """The recurrence: stem, ConvLSTM, residual blocks, head; its weights serve every iteration.

    Args:
        blocks: the residual blocks; each maps ``(N, channels, H, W)`` to the same shape.
        channels: features of every layer.
        iterations: number of unrolled stages.
    """

    def __init__(self, blocks: list[nn.Module], channels: int, iterations: int) -> None:
        super().__init__()
        if iterations < 1 or channels < 1:
            raise ValueError("iterations and channels must be at least 1")
        self.channels = channels
        self.iterations = iterations
        self.stem = nn.Conv2d(6, channels, 3, padding=1)
        self.lstm = ConvLSTM(channels)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(channels, 3, 3, padding=1)

    def _unroll(self, rainy: Tensor) -> Iterator[Tensor]:
        derained = rainy
        hidden = rainy.new_zeros(rainy.shape[0], self.channels, *rainy.shape[2:])
        cell = hidden
        for _ in range(self.iterations):
            x = torch.relu(self.stem(torch.cat([rainy, derained], dim=1)))
            hidden, cell = self.lstm(x, hidden, cell)
            x = hidden
            for block in self.blocks:
                x = block(x)
            derained = self.head(x) + rainy
            yield derained

    def forward(self, rainy: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to the last stage's output, same shape, not clamped."""
        return self.stages(rainy)[-1]

    def stages(self, rainy: Tensor) -> list[Tensor]:
        """The outputs of all iterations, first to last."""
        return list(self._unroll(rainy))


def rename_progressive(key: str) -> str:
    """One key of an official PReNet or SAPNet checkpoint (``module.`` removed) in derain's names."""
    outer, _, rest = key.partition(".")
    fixed = {
        "conv0": "stem",
        "conv": "head",
        "conv_i": "lstm.input_gate",
        "conv_f": "lstm.forget_gate",
        "conv_g": "lstm.candidate",
        "conv_o": "lstm.output_gate",
    }
    if outer in fixed and rest.startswith("0."):
        return f"{fixed[outer]}.{rest[2:]}"
    if outer.startswith("res_conv") and outer[8:].isdigit():
        return f"blocks.{int(outer[8:]) - 1}.body.{rest}"
    raise KeyError(key)
