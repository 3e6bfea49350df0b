"""Segmenters: networks that say what is where in a picture.

SGINet looks at its coarse result through one, and SAPNet's loss through another. A segmenter takes RGB
in [0, 1] and gives logits at its own, coarser resolution; :func:`enlarge` brings them to the picture's.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from derain.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


@runtime_checkable
class Segmenter(Protocol):
    """What every segmenter offers beside being an ``nn.Module``.

    Attributes:
        classes: how many classes it tells apart.
    """

    classes: int

    def __call__(self, picture: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` RGB in [0, 1] to logits ``(N, classes, h, w)``, h ≤ H and w ≤ W."""

    @staticmethod
    def rename_public(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a published checkpoint under this segmenter's names."""


#: name -> ``module:callable`` below ``derain.segmentation``.
SEGMENTERS: dict[str, str] = {
    "compact": "compact:CompactSegmenter",
    "compact-half": "compact:compact_half",
    "pspnet101": "pspnet:PSPNet",
    "ubs": "ubs:UBS",
}


def create_segmenter(name: str, classes: int | None = None, **settings: Any) -> nn.Module:
    """A segmenter with fresh random weights.

    Args:
        name: a key of :data:`SEGMENTERS`.
        classes: number of classes; the segmenter's own usual number if ``None``.
        settings: the segmenter's own settings; see its class.

    Returns:
        An ``nn.Module`` that is a :class:`Segmenter`.

    Raises:
        ModelError: unknown name, unknown setting or impossible value.
    """
    if name not in SEGMENTERS:
        raise ModelError(f"unknown segmenter {name!r}; choose one of {', '.join(SEGMENTERS)}")
    module, _, attribute = SEGMENTERS[name].partition(":")
    kind = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    if classes is not None:
        settings["classes"] = classes
    try:
        made: nn.Module = kind(**settings)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name}: {error}") from None
    return made


def enlarge(logits: Tensor, height: int, width: int) -> Tensor:
    """``(N, C, h, w)`` to ``(N, C, height, width)``, bilinearly, corners on corners, as PSPNet and FPN do."""
    import torch.nn.functional as F

    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=True)


__all__ = ["SEGMENTERS", "Segmenter", "create_segmenter", "enlarge"]
