"""The networks by name: a plain table of data; the class behind a name is imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derain.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SizeRule:
    """What picture sizes a network takes; the runtime pads by reflection and crops."""

    multiple_of: int = 1
    minimum: int = 1


@dataclass(frozen=True)
class ModelInfo:
    """One network.

    Attributes:
        target: ``module:Class`` below ``derain.models``.
        paper: where it comes from.
        license: license of this implementation.
        size: sizes that the network takes.
        overlap: least overlap of tiles, pixels; about the radius that a pixel really depends on.
        memory_per_pixel: bytes of working memory a pixel at fp32, measured at the default settings;
            it chooses the tile. A network whose settings change it much has an attribute of that name.
        global_pooling: the network averages over its input, or measures positions by its size, so that
            a tile differs from the whole.
        align: tiles start at multiples of this; for networks that take any size but halve it inside.
        whole_budget: working memory up to which a picture runs whole, bytes; more than usual for a
            network whose tiles would be seen.
    """

    target: str
    paper: str
    license: str = "Apache-2.0"
    size: SizeRule = SizeRule()
    overlap: int = 48
    memory_per_pixel: int = 1500
    global_pooling: bool = False
    align: int = 1
    whole_budget: int = 700 * 2**20


MODELS: dict[str, ModelInfo] = {
    "gated-unet": ModelInfo(
        target="gated_unet:GatedUNet",
        paper="derain (blocks after NAFNet, Chen et al., ECCV 2022)",
        size=SizeRule(multiple_of=16, minimum=16),
        overlap=96,
        memory_per_pixel=650,
    ),
    "jdnet": ModelInfo(
        target="jdnet:JDNet",
        paper="Wang et al., JDNet, ACM MM 2020",
        size=SizeRule(minimum=4),
        overlap=64,
        memory_per_pixel=6000,
        align=16,
        global_pooling=True,
    ),
    "prenet": ModelInfo(
        target="prenet:PReNet",
        paper="Ren et al., Progressive Image Deraining Networks, CVPR 2019",
        overlap=64,
    ),
    "sapnet": ModelInfo(
        target="sapnet:SAPNet",
        paper="Zheng et al., SAPNet, WACV 2022 workshops",
        overlap=64,
        global_pooling=True,
    ),
    "sginet": ModelInfo(
        target="sginet:SGINet",
        paper="Wei et al., SGINet, ACM MM 2022",
        size=SizeRule(multiple_of=32, minimum=64),
        overlap=64,
        memory_per_pixel=3600,
        global_pooling=True,
        whole_budget=4 * 2**30,
    ),
    "unet": ModelInfo(
        target="unet:UNet",
        paper="Rain2Avoid's default backbone, ICASSP 2023, after Liu et al., ECCV 2018",
        size=SizeRule(multiple_of=16, minimum=16),
    ),
    "resnet": ModelInfo(
        target="resnet:ResNet",
        paper="Rain2Avoid's backbone on ResNet-18 (He et al., CVPR 2016)",
        size=SizeRule(multiple_of=32, minimum=32),
        overlap=96,
    ),
    "dncnn": ModelInfo(
        target="dncnn:DnCNN",
        paper="Zhang et al., Beyond a Gaussian Denoiser, IEEE TIP 2017, as in Rain2Avoid",
    ),
    "restormer": ModelInfo(
        target="restormer:Restormer",
        paper="Zamir et al., Restormer, CVPR 2022",
        size=SizeRule(multiple_of=8, minimum=8),
        overlap=64,
        memory_per_pixel=9000,
        global_pooling=True,
    ),
    "drsformer": ModelInfo(
        target="drsformer:DRSformer",
        paper="Chen et al., Learning a Sparse Transformer Network, CVPR 2023",
        size=SizeRule(multiple_of=8, minimum=8),
        overlap=64,
        memory_per_pixel=9000,
        global_pooling=True,
    ),
}


def model_info(name: str) -> ModelInfo:
    """The entry of a network.

    Raises:
        ModelError: unknown name.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise ModelError(f"unknown network {name!r}; choose one of {', '.join(MODELS)}") from None


def model_class(name: str) -> Callable[..., nn.Module]:
    """The class of a network; imports torch."""
    module, _, attribute = model_info(name).target.partition(":")
    found: Callable[..., nn.Module] = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
    return found


def create_model(name: str, **settings: Any) -> nn.Module:
    """A network with fresh random weights.

    Args:
        name: a key of :data:`MODELS`.
        settings: the network's own settings; see its class.

    Raises:
        ModelError: unknown name, unknown setting or impossible value.
    """
    try:
        return model_class(name)(**settings)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name}: {error}") from None
