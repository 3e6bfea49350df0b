"""The segmenters by name. The class of a name is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from derain.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

#: name -> ``module:callable`` below ``derain.segmentation``.
SEGMENTERS: dict[str, str] = {
    "compact": "compact:CompactSegmenter",
    "compact-half": "compact:compact_half",
    "pspnet101": "pspnet:PSPNet",
    "ubs": "ubs:UBS",
}


def create_segmenter(name: str, classes: int | None = None, **settings: Any) -> nn.Module:
    """Create a randomly initialized segmenter.

    Args:
        name: a key of :data:`SEGMENTERS`.
        classes: number of classes; ``None`` for the default of the segmenter.
        settings: of the segmenter; see its class.

    Returns:
        An ``nn.Module`` that is a :class:`~derain.segmentation.Segmenter`.

    Raises:
        ModelError: unknown name, unknown setting or invalid value.
    """
    if name not in SEGMENTERS:
        raise ModelError(f"unknown segmenter {name!r}; choose one of {', '.join(SEGMENTERS)}")
    module, _, attribute = SEGMENTERS[name].partition(":")
    factory = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
    if classes is not None:
        settings["classes"] = classes
    try:
        segmenter: nn.Module = factory(**settings)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name}: {error}") from None
    return segmenter
