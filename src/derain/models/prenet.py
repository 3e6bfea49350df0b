"""PReNet, the Progressive Recurrent Network (Ren et al., CVPR 2019, arXiv 1901.09221).

Six iterations share one residual network with a ConvLSTM (eq. 3–5: f_in, f_recurrent, f_res, f_out).
168,963 parameters at the defaults. Zero padding, any image size.

Paper and code differ in one relevant point: the paper defines the output of a stage as f_out(x); the
released code of its main networks adds the rainy image to it, and their weights require that. The
published variants are settings:

| published as | settings |
|---|---|
| PReNet | the defaults |
| PReNet_r | ``shared=True``: one residual block, run five times |
| PRN, PRN_r | ``recurrence="none"``, without and with ``shared=True`` |
| PReNet_LSTM (ablation) | ``residual=False``; its checkpoints have the same keys as PReNet's, so set this at import |
| PReNet_GRU (ablation) | ``recurrence="gru", residual=False`` |
| PReNet_x (ablation) | ``sees_rainy=False, residual=False`` |
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .progressive import ProgressiveNet, Recurrence, add_and_rectify

_BLOCKS = 5


class ResidualBlock(nn.Module):
    """``relu(x + relu(conv(relu(conv(x)))))``, 3×3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return add_and_rectify(x, self.body(x))


class PReNet(ProgressiveNet):
    """Progressive recurrent network.

    Args:
        iterations: stages T of the recurrence (6 in the paper).
        channels: channels of every layer (32 in the paper).
        recurrence: ``lstm``, ``gru`` or ``none``.
        shared: run one residual block five times instead of five blocks.
        residual: add the rainy image to the output of each stage.
        sees_rainy: each stage takes the rainy image in addition to the previous output.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped.
    """

    def __init__(
        self,
        iterations: int = 6,
        channels: int = 32,
        recurrence: Recurrence = "lstm",
        shared: bool = False,
        residual: bool = True,
        sees_rainy: bool = True,
    ) -> None:
        blocks: list[nn.Module] = [ResidualBlock(channels) for _ in range(1 if shared else _BLOCKS)]
        repeats = _BLOCKS if shared else 1
        super().__init__(blocks, channels, iterations, recurrence, repeats, residual, sees_rainy)

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network."""
        if "res_conv1.2.weight" not in state or "conv0.0.weight" not in state or "conv0_r.0.weight" in state:
            return None  # ``conv0_r`` marks the second branch of AIDNet and BRN
        settings: dict[str, Any] = {}
        if "conv_z.0.weight" in state:
            settings.update(recurrence="gru", residual=False)
        elif "conv_i.0.weight" not in state:
            settings["recurrence"] = "none"
        if "res_conv2.0.weight" not in state:
            settings["shared"] = True
        if state["conv0.0.weight"].shape[1] == 3:
            settings.update(sees_rainy=False, residual=False)
        if (channels := state["conv0.0.weight"].shape[0]) != 32:
            settings["channels"] = channels
        return settings
