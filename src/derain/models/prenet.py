"""PReNet, the Progressive Recurrent Network (Ren et al., CVPR 2019, arXiv 1901.09221).

Six iterations share one residual network with a ConvLSTM (eq. 3–5: f_in, f_recurrent, f_res, f_out).
168,963 parameters at the defaults. Zero padding, any picture size.

Paper and code differ in one thing that matters here: the paper writes the output of a stage as
f_out(x); the released code adds the rainy picture to it, and its weights need that. This file does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import ProgressiveNet, rename_progressive


class ResidualBlock(nn.Module):
    """``relu(x + relu(conv(relu(conv(x)))))``, 3×3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class PReNet(ProgressiveNet):
    """Progressive recurrent network.

    Args:
        iterations: stages T of the recurrence (6 in the paper).
        channels: features of every layer (32 in the paper).

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped.
    """

    def __init__(self, iterations: int = 6, channels: int = 32) -> None:
        super().__init__([ResidualBlock(channels) for _ in range(5)], channels, iterations)

    rename_official_key = staticmethod(rename_progressive)
