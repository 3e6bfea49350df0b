"""SSIM as a loss."""

from __future__ import annotations

from torch import Tensor, nn

from derain.metrics.full_reference import gaussian_window, ssim_map


class SSIM(nn.Module):
    """``-SSIM`` over RGB: 11×11 Gaussian of σ 1.5, zero border, range 1, mean over all positions.

    The loss of PReNet, SAPNet and JDNet; between -1 (equal images) and 1. SGINet's code uses the
    constants of range 1 with images of range 255; ``peak=255`` reproduces that.
    """

    window: Tensor

    def __init__(self, peak: float = 1.0) -> None:
        super().__init__()
        self.peak = peak
        self.register_buffer("window", gaussian_window(11, 1.5))

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        return -ssim_map(derained * self.peak, clean * self.peak, self.window, 1.0, zero_border=True).mean()
