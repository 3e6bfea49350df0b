"""Image-classification networks as feature pyramids, under torchvision's key names.

Their public ImageNet weights therefore load as they are, without torchvision, which does not load
beside a CPU build of torch. AlexNet: Krizhevsky 2014 ("one weird trick"); VGG-16: Simonyan and
Zisserman 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from derain.errors import ModelError
from derain.fetch import fetch, home

Name = Literal["alexnet", "vgg16"]


@dataclass(frozen=True)
class PublicWeight:
    """A file on the net and what it must be."""

    url: str
    sha256: str

    @property
    def file(self) -> str:
        """Its file name."""
        return self.url.rsplit("/", 1)[-1]


PUBLIC: dict[Name, PublicWeight] = {
    "alexnet": PublicWeight(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "vgg16": PublicWeight(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
}
# Layers whose outputs are given: the relus that end AlexNet's five convolutions and VGG's five blocks.
_TAPS: dict[Name, tuple[int, ...]] = {"alexnet": (1, 4, 7, 9, 11), "vgg16": (3, 8, 15, 22, 29)}
CHANNELS: dict[Name, tuple[int, ...]] = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}


class FeaturePyramid(nn.Module):
    """The convolutional part of a classifier, giving its features at five depths.

    Args:
        name: ``alexnet`` or ``vgg16``.

    Shape: ``(N, 3, H, W)``, in whatever normalisation the caller wants, to five tensors of
    :data:`CHANNELS` channels at falling resolution. Random weights until loaded.
    """

    def __init__(self, name: Name) -> None:
        super().__init__()
        if name not in _TAPS:
            raise ValueError(f"features must be alexnet or vgg16, not {name!r}")
        self.name = name
        self.features = nn.Sequential(*(_alexnet() if name == "alexnet" else _vgg16()))

    def forward(self, x: Tensor) -> list[Tensor]:
        """All five feature maps, finest first."""
        found = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in _TAPS[self.name]:
                found.append(x)
        return found

    def load_public(self) -> FeaturePyramid:
        """Fill in the public ImageNet weights, fetched once; freezes the network.

        Raises:
            ModelError: they cannot be fetched.
        """
        weight = PUBLIC[self.name]
        path = fetch(f"{self.name} features", weight.url, weight.sha256, home() / "features" / weight.file)
        state = torch.load(path, map_location="cpu", weights_only=True)
        kept = {key: value for key, value in state.items() if key.startswith("features.")}
        try:
            self.load_state_dict(kept)
        except RuntimeError as error:
            raise ModelError(f"{path}: not the weights of {self.name} ({str(error).splitlines()[0]})") from None
        return self.eval().requires_grad_(False)


def _alexnet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for block, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        if block > 0:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers
