"""The interface of segmenters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


@runtime_checkable
class Segmenter(Protocol):
    """The interface of a segmenter, which is also an ``nn.Module``.

    Attributes:
        classes: number of classes.
    """

    classes: int

    def __call__(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` RGB in [0, 1] to logits ``(N, classes, h, w)``, h ≤ H and w ≤ W."""

    @staticmethod
    def rename_public(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a published checkpoint under the key names of this segmenter."""


def enlarge(logits: Tensor, height: int, width: int) -> Tensor:
    """``(N, C, h, w)`` to ``(N, C, height, width)``, bilinearly with aligned corners, as PSPNet and FPN do."""
    import torch.nn.functional as F

    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=True)
