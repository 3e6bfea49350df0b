"""Losses in the feature space of a classifier: SAPNet's PCL and LPISL, SGINet's PER.

Where their features come from is one choice for all of them:

- ``vgg16``: the public ImageNet weights (fetched once), as the papers use;
- ``alexnet``: likewise, for LPIPS as in SAPNet's code;
- ``vgg19-partial:PATH``: a file of VGG-19's conv1_1 to conv3_4 that wants BGR 0..255 minus the mean;
- ``random``: VGG-16 with random weights, for trying things out; it never happens unasked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from derain.features import IMAGENET_DEVIATION, IMAGENET_MEAN, FeaturePyramid, Name
from derain.metrics.perceptual import LPIPS

_CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB
# Layers by the papers' names; relu3_3 and others are the same place in VGG-16 and VGG-19 up to conv3_3.
_LAYERS: dict[str, int] = {
    "relu1_1": 1, "relu1_2": 3, "relu2_1": 6, "relu2_2": 8, "relu3_1": 11, "relu3_3": 15,
    "relu4_1": 18, "relu4_3": 22, "relu5_1": 25,
}  # fmt: skip
_LAST_OF_PARTIAL = 17


class FeatureSpace(nn.Module):
    """A frozen pyramid together with the normalization it wants.

    Args:
        features: see the module's description.
        layers: names such as ``relu1_2``; those that ``vgg19-partial`` does not reach are left out.
        normalize: ImageNet's mean and deviation (or what the partial file wants); without it pictures
            enter in [0, 1] as SAPNet's code gives them.
        peak: range of the picture when it is not normalized; SGINet's code gives 0..255.

    Shape: ``(N, 3, H, W)`` RGB in [0, 1] to a list of feature maps.

    Raises:
        ModelError: the weights cannot be had.
        ValueError: unknown features or layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: str, layers: Sequence[str], normalize: bool = True, peak: float = 1.0) -> None:
        super().__init__()
        kind, _, path = features.partition(":")
        if kind not in ("vgg16", "random", "vgg19-partial") or (kind == "vgg19-partial") != bool(path):
            raise ValueError(f"features must be vgg16, vgg19-partial:PATH or random, not {features!r}")
        unknown = [name for name in layers if name not in _LAYERS]
        if unknown or not layers:
            raise ValueError(f"unknown layers {unknown}; choose from {', '.join(_LAYERS)}")
        places = tuple(_LAYERS[name] for name in layers)
        name: Name = "vgg16"
        mean: tuple[float, ...]
        std: tuple[float, ...]
        mean, std = (IMAGENET_MEAN, IMAGENET_DEVIATION) if normalize else ((0.0,) * 3, (1 / peak,) * 3)
        if kind == "vgg19-partial":
            name = "vgg19-partial"
            places = tuple(p for p in places if p <= _LAST_OF_PARTIAL)
            mean, std = tuple(m / 255 for m in _CAFFE_MEAN), (1 / 255,) * 3
        self.flipped = kind == "vgg19-partial"
        if kind == "random":
            # A seed of its own: the draw must not move the network's initialization.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.pyramid = FeaturePyramid(name, places).eval().requires_grad_(False)
        elif kind == "vgg19-partial":
            self.pyramid = FeaturePyramid(name, places).load_file(Path(path))
        else:
            self.pyramid = FeaturePyramid(name, places).load_public()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, picture: Tensor) -> list[Tensor]:
        ready = (picture - self.mean) / self.std
        found: list[Tensor] = self.pyramid(ready.flip(1) if self.flipped else ready)
        return found


class PerceptualContrastive(nn.Module):
    """PCL of SAPNet: ``Σ wᵢ |Vᵢ(D) - Vᵢ(G)| / |Vᵢ(D) - Vᵢ(R)|`` (after Wu et al., AECR-Net, CVPR 2021).

    The derained picture D is drawn to the truth G and pushed from the rainy R, layer by layer. 0 when
    D = G. Gradients flow through numerator and denominator.

    Args:
        features: see the module's description.
        weights: of relu1_2, relu2_2, relu3_3, relu4_3; a partial pyramid takes the first ones.
        normalize: SAPNet's code does not.
        epsilon: in the denominator.
    """

    def __init__(
        self,
        features: str = "vgg16",
        weights: Sequence[float] = (1 / 32, 1 / 16, 1 / 8, 1 / 4),
        normalize: bool = True,
        epsilon: float = 1e-7,
    ) -> None:
        super().__init__()
        if len(weights) != 4:
            raise ValueError(f"weights are four, one a layer, not {len(weights)}")
        self.space = FeatureSpace(features, ("relu1_2", "relu2_2", "relu3_3", "relu4_3"), normalize)
        self.weights = list(weights)
        self.epsilon = epsilon

    def forward(self, derained: Tensor, clean: Tensor, rainy: Tensor) -> Tensor:
        ours = self.space(derained)
        with torch.no_grad():
            truth, input_ = self.space(clean), self.space(rainy)
        total = derained.new_zeros(())
        for weight, d, g, r in zip(self.weights, ours, truth, input_, strict=False):
            total = total + weight * (d - g).abs().mean() / ((d - r).abs().mean() + self.epsilon)
        return total


class Perceptual(nn.Module):
    """PER of SGINet: the sum of L1 distances at relu1_1 to relu5_1 (Johnson et al., ECCV 2016).

    Args:
        features, normalize: see the module's description; SGINet's code gives raw 0..255, which is
            ``normalize=False, peak=255``.
        peak: range of the picture when it is not normalized.
    """

    def __init__(self, features: str = "vgg16", normalize: bool = True, peak: float = 1.0) -> None:
        super().__init__()
        layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
        self.space = FeatureSpace(features, layers, normalize, peak)

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        with torch.no_grad():
            truth = self.space(clean)
        distances = [(d - g).abs().mean() for d, g in zip(self.space(derained), truth, strict=True)]
        return torch.stack(distances).sum()


class LearnedSimilarity(nn.Module):
    """LPISL of SAPNet: ``Σ mean(w · (V(D) - V(G))²)`` over layers, on features of unit length (LPIPS).

    Args:
        features: ``vgg16`` and ``alexnet`` take LPIPS' published channel weights; with
            ``vgg19-partial:PATH`` and ``random`` every channel weighs alike (LPIPS' unweighted form).
        as_coded: SAPNet's code: pictures stretched to [0, 1] upside down over the batch, resized to
            256×256, the first of the batch alone, and a number without gradient. It teaches nothing.
    """

    def __init__(self, features: str = "vgg16", as_coded: bool = False) -> None:
        super().__init__()
        self.as_coded = as_coded
        self.metric: nn.Module
        if features in ("vgg16", "alexnet"):
            net: Literal["vgg", "alex"] = "vgg" if features == "vgg16" else "alex"
            self.metric = LPIPS(net).load_public()
        else:
            layers = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
            self.metric = _UnweightedSimilarity(FeatureSpace(features, layers))

    def forward(self, derained: Tensor, clean: Tensor, _rainy: Tensor) -> Tensor:
        if self.as_coded:
            with torch.no_grad():
                # The metric expects [0, 1] and maps it to [-1, 1]; undo that, for the code gave [0, 1] there.
                ours, truth = ((_upside_down(p)[:1] + 1) / 2 for p in (derained, clean))
                return self._distance(ours, truth)
        return self._distance(derained, clean)

    def _distance(self, ours: Tensor, truth: Tensor) -> Tensor:
        distance: Tensor = self.metric(ours, truth)
        return distance.mean()


class _UnweightedSimilarity(nn.Module):
    def __init__(self, space: FeatureSpace) -> None:
        super().__init__()
        self.space = space

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        total = first.new_zeros(first.shape[0])
        for a, b in zip(self.space(first), self.space(second), strict=True):
            difference = F.normalize(a, dim=1, eps=1e-10) - F.normalize(b, dim=1, eps=1e-10)
            total = total + difference.square().sum(dim=1).mean(dim=(1, 2))
        return total


def _upside_down(picture: Tensor) -> Tensor:
    low, high = picture.min(), picture.max()
    return F.interpolate((high - picture) / (high - low), size=(256, 256), mode="bilinear", align_corners=False)
