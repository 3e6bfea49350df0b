"""ResNet trunks (He et al., CVPR 2016) under torchvision's key names, and ImageNet's normalization.

The public ImageNet weights therefore load as they are. Two stems: ``v1`` is the paper's 7×7
convolution; ``deep`` is three 3×3 ones, as in hszhao/semseg's PSPNet (its keys conv1, bn1, conv2, …).
Dilation instead of stride in the last two stages keeps 1/8 of the resolution (Yu et al., CVPR 2017).
As in torchvision and semseg, a bottleneck strides in its 3×3 convolution, not, as in the paper, in its
first 1×1. Without a classifier ResNet-101 has 42,500,160 parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from derain.errors import ModelError
from derain.features import IMAGENET_DEVIATION, IMAGENET_MEAN, PublicFile
from derain.fetch import fetch, home

Name = Literal["resnet18", "resnet101"]
Stem = Literal["v1", "deep"]

PUBLIC: dict[Name, PublicFile] = {
    "resnet18": PublicFile(
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    "resnet101": PublicFile(
        "https://download.pytorch.org/models/resnet101-63fe2227.pth",
        "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    ),
}
_BLOCKS: dict[Name, tuple[int, ...]] = {"resnet18": (2, 2, 2, 2), "resnet101": (3, 4, 23, 3)}


def normalized(image: Tensor) -> Tensor:
    """``(N, 3, H, W)`` RGB in [0, 1], normalized by ImageNet's mean and deviation."""
    mean, deviation = (image.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (image - mean) / deviation


def _conv(inner: int, outer: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inner, outer, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inner: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv(inner, channels, 3, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, 1, dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(inner, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inner, H, W)`` to ``(N, channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut; outputs four times ``channels``."""

    expansion = 4

    def __init__(self, inner: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv(inner, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride, dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, 4 * channels, 1)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.downsample = _shortcut(inner, 4 * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inner, H, W)`` to ``(N, 4 * channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inner: int, outer: int, stride: int) -> nn.Module | None:
    if inner == outer and stride == 1:
        return None
    return nn.Sequential(_conv(inner, outer, 1, stride), nn.BatchNorm2d(outer))


class ResNet(nn.Module):
    """A trunk that returns its four stages.

    Args:
        name: ``resnet18`` or ``resnet101``.
        stem: ``v1`` or ``deep``; see the module docstring.
        dilated: stages 3 and 4 dilate by 2 and 4 instead of striding.

    Shape: ``(N, 3, H, W)``, normalized by the caller, to four tensors of
    :attr:`channels` channels at 1/4, 1/8, 1/16 and 1/32 of the resolution, rounded up (1/4, 1/8, 1/8,
    1/8 if dilated). Initialized as by He et al. (2015).
    """

    def __init__(self, name: Name, stem: Stem = "v1", dilated: bool = False) -> None:
        super().__init__()
        if name not in _BLOCKS:
            raise ValueError(f"a trunk is resnet18 or resnet101, not {name!r}")
        if stem not in ("v1", "deep"):
            raise ValueError(f"stem must be v1 or deep, not {stem!r}")
        self.name = name
        block: type[BasicBlock | Bottleneck] = BasicBlock if name == "resnet18" else Bottleneck
        self.channels = tuple(width * block.expansion for width in (64, 128, 256, 512))
        inner = 64 if stem == "v1" else 128
        if stem == "v1":
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64)
        else:
            self.conv1, self.bn1 = _conv(3, 64, 3, 2), nn.BatchNorm2d(64)
            self.conv2, self.bn2 = _conv(64, 64, 3), nn.BatchNorm2d(64)
            self.conv3, self.bn3 = _conv(64, 128, 3), nn.BatchNorm2d(128)
        self.stem = stem
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for stage, count in enumerate(_BLOCKS[name]):
            width = 64 * 2**stage
            dilation = 2 ** (stage - 1) if dilated and stage > 1 else 1
            blocks = []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 and dilation == 1 else 1
                blocks.append(block(inner, width, stride, dilation))
                inner = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem_layers(self) -> list[nn.Module]:
        """The stem's layers in order, from the image to the first stage."""
        layers: list[nn.Module] = [self.conv1, self.bn1, nn.ReLU()]
        if self.stem == "deep":
            layers += [self.conv2, self.bn2, nn.ReLU(), self.conv3, self.bn3, nn.ReLU()]
        return [*layers, self.maxpool]

    def forward(self, x: Tensor) -> list[Tensor]:
        """All four stages, finest first."""
        for layer in self.stem_layers():
            x = layer(x)
        stages = []
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
            stages.append(x)
        return stages

    def load_public(self) -> ResNet:
        """Load torchvision's ImageNet weights (version 1), downloaded once; the trunk stays trainable.

        Raises:
            ModelError: the download failed, or they do not fit (a deep stem has no public weights).
        """
        public = PUBLIC[self.name]
        path = fetch(f"{self.name} trunk", public.url, public.sha256, home() / "features" / public.file)
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        try:
            self.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
        except RuntimeError as error:
            raise ModelError(f"{path}: not the weights of this trunk ({str(error).splitlines()[0]})") from None
        return self
