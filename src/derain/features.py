"""Image-classification networks as feature pyramids, under torchvision's key names.

Their public ImageNet weights therefore load unchanged, without torchvision, whose wheel does not load
with a CPU build of torch. AlexNet: Krizhevsky 2014 ("one weird trick"); VGG-16 and VGG-19: Simonyan
and Zisserman 2015. VGG-19 has only conv1_1 to conv3_4, because files of that part are in use.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from derain.errors import ModelError
from derain.fetch import fetch, home

#: Of RGB in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

Name = Literal["alexnet", "vgg16", "vgg19-partial"]


@dataclass(frozen=True)
class PublicFile:
    """A file to download, with its checksum."""

    url: str
    sha256: str

    @property
    def file(self) -> str:
        """Its file name."""
        return self.url.rsplit("/", 1)[-1]


PUBLIC: dict[Name, PublicFile] = {
    "alexnet": PublicFile(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "vgg16": PublicFile(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
}
# Indices of the layers that are returned by default: the ReLUs after AlexNet's convolutions and VGG's blocks.
_TAPS: dict[Name, tuple[int, ...]] = {
    "alexnet": (1, 4, 7, 9, 11),
    "vgg16": (3, 8, 15, 22, 29),
    "vgg19-partial": (3, 8, 17),
}
CHANNELS: dict[Name, tuple[int, ...]] = {
    "alexnet": (64, 192, 384, 256, 256),
    "vgg16": (64, 128, 256, 512, 512),
    "vgg19-partial": (64, 128, 256),
}


class FeaturePyramid(nn.Module):
    """The convolutional part of a classifier; returns its features at several depths.

    Args:
        name: ``alexnet``, ``vgg16`` or ``vgg19-partial``.
        taps: ascending indices of the layers whose outputs are returned; by default the ReLUs after
            AlexNet's convolutions and VGG's blocks, whose widths are in :data:`CHANNELS`. Layers after
            the last one are omitted.

    Shape: ``(N, 3, H, W)``, normalized by the caller, to one tensor per tap at decreasing resolution.
    Randomly initialized until weights are loaded.
    """

    def __init__(self, name: Name, taps: tuple[int, ...] | None = None) -> None:
        super().__init__()
        if name not in _TAPS:
            raise ValueError(f"features must be one of {', '.join(_TAPS)}, not {name!r}")
        layers = _alexnet() if name == "alexnet" else _vgg(_VGG[name])
        self.name = name
        self.taps = taps if taps is not None else _TAPS[name]
        if self.taps[-1] >= len(layers):
            raise ValueError(f"{name} has {len(layers)} layers; there is no layer {self.taps[-1]}")
        self.features = nn.Sequential(*layers[: self.taps[-1] + 1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """All tapped feature maps, finest first."""
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                maps.append(x)
        return maps

    def load_file(self, path: Path) -> FeaturePyramid:
        """Load weights under torchvision's key names and freeze the network.

        Raises:
            ModelError: the file does not contain them.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            expected = self.state_dict()
            self.load_state_dict({key: value for key, value in state.items() if key in expected})
        except (RuntimeError, OSError, pickle.UnpicklingError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{path}: not the weights of {self.name} ({reason}); check the file") from None
        return self.eval().requires_grad_(False)

    def load_public(self) -> FeaturePyramid:
        """Load the public ImageNet weights, downloaded once, and freeze the network.

        Raises:
            ModelError: the download failed, or there are no public weights.
        """
        if self.name not in PUBLIC:
            raise ModelError(f"{self.name}: no public weights; give a file")
        public = PUBLIC[self.name]
        return self.load_file(
            fetch(f"{self.name} features", public.url, public.sha256, home() / "features" / public.file)
        )


# Blocks of (width, convolutions).
_VGG: dict[Name, tuple[tuple[int, int], ...]] = {
    "vgg16": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
    "vgg19-partial": ((64, 2), (128, 2), (256, 4)),
}


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


def _vgg(blocks: tuple[tuple[int, int], ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for block, (width, count) in enumerate(blocks):
        if block > 0:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers
