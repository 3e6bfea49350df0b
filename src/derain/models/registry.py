"""Registry of the networks by name: plain data; a network's class is imported on first use."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from derain.errors import ModelError

from .sizes import SizeRule

if TYPE_CHECKING:
    from torch import nn


_ANY_SIZE = SizeRule()


@dataclass(frozen=True)
class ModelInfo:
    """Registry entry of a network.

    Attributes:
        target: ``module:Class`` below ``derain.models``.
        paper: publication.
        size: image sizes that the network accepts.
        overlap: minimum overlap of tiles in pixels; about the radius of the effective receptive field.
        memory_per_pixel: bytes of working memory per pixel in fp32, measured at the default settings;
            determines the tile size. Networks whose settings change it much are
            :class:`~derain.models.base.HasMemoryEstimate`.
        global_pooling: the network averages over its input or normalizes positions by its size, so that
            the result of a tile differs from that of the full image.
        align: tiles start at multiples of this; for networks that accept any size but downsample internally.
        whole_budget: bytes of working memory up to which an image is processed without tiling; larger
            than the default for networks whose tile borders would be visible.
    """

    target: str
    paper: str
    size: SizeRule = _ANY_SIZE
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
    "aidnet": ModelInfo(
        target="aidnet:AIDNet",
        paper="Cui et al., AIDNet, on BRN (Ren et al., IEEE TIP 2020)",
        overlap=64,
        memory_per_pixel=2000,
        global_pooling=True,
    ),
    "mprnet": ModelInfo(
        target="mprnet:MPRNet",
        paper="Zamir et al., Multi-Stage Progressive Image Restoration, CVPR 2021",
        size=SizeRule(multiple_of=8, minimum=8),
        overlap=64,
        memory_per_pixel=2400,
        global_pooling=True,
    ),
    "rescan": ModelInfo(
        target="rescan:RESCAN",
        paper="Li et al., RESCAN, ECCV 2018",
        overlap=64,
        memory_per_pixel=2400,
        global_pooling=True,
    ),
    "nafnet": ModelInfo(
        target="nafnet:NAFNet",
        paper="Chen et al., Simple Baselines for Image Restoration, ECCV 2022",
        size=SizeRule(multiple_of=16, minimum=16),
        overlap=96,
        memory_per_pixel=1300,
        global_pooling=True,
    ),
}


def model_info(name: str) -> ModelInfo:
    """The registry entry of a network.

    Raises:
        ModelError: unknown name.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise ModelError(f"unknown network {name!r}; choose one of {', '.join(MODELS)}") from None


def model_class(name: str) -> type[nn.Module]:
    """The class of a network; imports torch."""
    module, _, attribute = model_info(name).target.partition(":")
    network_class: type[nn.Module] = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
    return network_class


def create_model(name: str, **settings: Any) -> nn.Module:
    """Create a randomly initialized network.

    Args:
        name: a key of :data:`MODELS`.
        settings: constructor arguments of the network; see its class.

    Raises:
        ModelError: unknown name, unknown setting or invalid value.
    """
    try:
        return model_class(name)(**settings)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name}: {error}") from None


def describe_network(name: str, network: nn.Module) -> ModelInfo:
    """The registry entry of a network, with the memory estimate for the settings of this instance."""
    from .base import HasMemoryEstimate

    info = model_info(name)
    return replace(info, memory_per_pixel=network.memory_per_pixel) if isinstance(network, HasMemoryEstimate) else info
