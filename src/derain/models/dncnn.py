"""DnCNN (Zhang et al., Beyond a Gaussian Denoiser, IEEE TIP 2017) as used by Rain2Avoid.

A sequence of 3×3 convolutions with 64 channels; batch normalization after all but the first and last.
The network of the paper predicts the noise; that of Rain2Avoid predicts the image itself, and so does
this one unless ``residual`` is set. No biases. 558,336 parameters at the defaults.
"""

from __future__ import annotations

from torch import Tensor, nn

from .base import HasOfficialCheckpoints


class DnCNN(HasOfficialCheckpoints, nn.Module):
    """Plain sequence of convolutions.

    Args:
        depth: total number of convolutions.
        channels: channels of the hidden layers.
        residual: predict the residual that is subtracted from the input, as in the paper.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped; any size.
    """

    def __init__(self, depth: int = 17, channels: int = 64, residual: bool = False) -> None:
        super().__init__()
        if depth < 2 or channels < 1:
            raise ValueError("depth must be at least 2 and channels at least 1")
        self.residual = residual

        def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
            return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)

        layers: list[nn.Module] = [conv(3, channels), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [conv(channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.dncnn = nn.Sequential(*layers, conv(channels, 3))

    def forward(self, rainy: Tensor) -> Tensor:
        output: Tensor = self.dncnn(rainy)
        return rainy - output if self.residual else output

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, object] | None:
        """The settings of an official checkpoint; ``None`` if it belongs to another network."""
        first_weight = state.get("dncnn.0.weight")
        if first_weight is None or first_weight.ndim != 4 or "dncnn.3.running_mean" not in state:
            return None
        depth = 1 + sum(value.ndim == 4 for key, value in state.items() if key != "dncnn.0.weight")
        return {"depth": depth, "channels": first_weight.shape[0]}
