"""DnCNN (Zhang et al., Beyond a Gaussian Denoiser, IEEE TIP 2017) as Rain2Avoid uses it.

A chain of 3×3 convolutions with 64 features; batch normalization in all but the first and last. The
paper predicts the noise; Rain2Avoid's copy gives the picture itself, and so does this one unless
``residual`` is set. No biases. 558,336 parameters at the defaults.
"""

from __future__ import annotations

from torch import Tensor, nn


class DnCNN(nn.Module):
    """The plain chain.

    Args:
        depth: convolutions in all.
        channels: features between them.
        residual: the chain gives what is to be subtracted, as in the paper.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same, not clamped; any size.
    """

    def __init__(self, depth: int = 17, channels: int = 64, residual: bool = False) -> None:
        super().__init__()
        if depth < 2 or channels < 1:
            raise ValueError("depth must be at least 2 and channels at least 1")
        self.residual = residual

        def conv(before: int, after: int) -> nn.Conv2d:
            return nn.Conv2d(before, after, 3, padding=1, bias=False)

        layers: list[nn.Module] = [conv(3, channels), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [conv(channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.dncnn = nn.Sequential(*layers, conv(channels, 3))

    def forward(self, rainy: Tensor) -> Tensor:
        chained: Tensor = self.dncnn(rainy)
        return rainy - chained if self.residual else chained

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The authors' checkpoints use the same names."""
        return state

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, object] | None:
        """The settings of an official checkpoint; ``None`` if it is of another network."""
        first = state.get("dncnn.0.weight")
        if first is None or first.ndim != 4 or "dncnn.3.running_mean" not in state:
            return None
        depth = 1 + sum(value.ndim == 4 for key, value in state.items() if key != "dncnn.0.weight")
        return {"depth": depth, "channels": first.shape[0]}
