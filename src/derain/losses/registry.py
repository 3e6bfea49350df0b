"""The losses by name. The class of a name is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from derain.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

LOSSES: dict[str, str] = {
    "l1": "pixel:L1",
    "log-l1": "pixel:LogL1",
    "mse": "pixel:MSE",
    "psnr": "pixel:PSNR",
    "charbonnier": "pixel:Charbonnier",
    "frequency": "pixel:Frequency",
    "ssim": "ssim:SSIM",
    "pcl": "perceptual:PerceptualContrastive",
    "lpisl": "perceptual:LearnedSimilarity",
    "perceptual": "perceptual:Perceptual",
    "csd": "segmentation:ContrastiveSemantic",
    "segmentation-focal": "segmentation:SelfTrainedFocal",
}


def create_loss(name: str, **options: Any) -> nn.Module:
    """Create a loss, called as ``loss(derained, clean, rainy)``.

    Args:
        name: a key of :data:`LOSSES`.
        options: of the loss; see its class.

    Raises:
        ModelError: unknown name or option, invalid value, or weights that cannot be loaded.
    """
    if name not in LOSSES:
        raise ModelError(f"unknown loss {name!r}; choose one of {', '.join(LOSSES)}")
    module, _, attribute = LOSSES[name].partition(":")
    try:
        loss: nn.Module = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)(**options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"loss {name}: {error}") from None
    return loss
