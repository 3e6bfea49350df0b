"""What benchmarks compare with: parts as their authors wrote them."""

from __future__ import annotations

import torch

from derain.models.layers import ConvLSTM


class PlainLSTM(ConvLSTM):
    """The cell as published: a convolution a gate, from a state of zeros."""

    def forward(self, x, state):
        hidden, cell = state if state is not None else (torch.zeros_like(x), torch.zeros_like(x))
        joined = torch.cat([x, hidden], dim=1)
        keep, write = torch.sigmoid(self.forget_gate(joined)), torch.sigmoid(self.input_gate(joined))
        cell = keep * cell + write * torch.tanh(self.candidate(joined))
        return torch.sigmoid(self.output_gate(joined)) * torch.tanh(cell), cell
