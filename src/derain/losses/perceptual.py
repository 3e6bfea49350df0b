"""Losses in the feature space of a classifier: SAPNet's PCL and LPISL, SGINet's PER.

All of them share the choice of features:

- ``vgg16``: the public ImageNet weights (downloaded once), as in the papers;
- ``alexnet``: likewise, for LPIPS as in SAPNet's code;
- ``vgg19-partial:PATH``: a file of VGG-19's conv1_1 to conv3_4 that expects BGR 0..255 minus the mean;
- ``random``: VGG-16 with random weights, for experiments; never a fallback.
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
# Indices of the layers by the names in the papers; VGG-16 and VGG-19 agree up to conv3_3.
_LAYERS: dict[str, int] = {
    "relu1_1": 1, "relu1_2": 3, "relu2_1": 6, "relu2_2": 8, "relu3_1": 11, "relu3_3": 15,
    "relu4_1": 18, "relu4_3": 22, "relu5_1": 25,
}  # fmt: skip
_LAST_PARTIAL_LAYER = 17


class FeatureSpace(nn.Module):
    """A frozen feature pyramid together with its input normalization.

    Args:
        features: see the module docstring.
        layers: names such as ``relu1_2``; those beyond the end of ``vgg19-partial`` are omitted.
        normalize: by ImageNet's mean and deviation (``vgg19-partial`` always has its own); without it the
            input is in [0, 1], as in SAPNet's code.
        peak: range of the input without normalization; 255 in SGINet's code.

    Shape: ``(N, 3, H, W)`` RGB in [0, 1] to a list of feature maps.

    Raises:
        ModelError: the weights cannot be loaded.
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
        indices = tuple(_LAYERS[name] for name in layers)
        name: Name = "vgg16"
        mean: tuple[float, ...]
        std: tuple[float, ...]
        mean, std = (IMAGENET_MEAN, IMAGENET_DEVIATION) if normalize else ((0.0,) * 3, (1 / peak,) * 3)
        if kind == "vgg19-partial":
            name = "vgg19-partial"
            indices = tuple(p for p in indices if p <= _LAST_PARTIAL_LAYER)
            mean, std = tuple(m / 255 for m in _CAFFE_MEAN), (1 / 255,) * 3
        self.bgr = kind == "vgg19-partial"
        if kind == "random":
            # A separate seed, because the draw must not change the initialization of the network.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.pyramid = FeaturePyramid(name, indices).eval().requires_grad_(False)
        elif kind == "vgg19-partial":
            self.pyramid = FeaturePyramid(name, indices).load_file(Path(path))
        else:
            self.pyramid = FeaturePyramid(name, indices).load_public()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        normalized = (image - self.mean) / self.std
        maps: list[Tensor] = self.pyramid(normalized.flip(1) if self.bgr else normalized)
        return maps


class PerceptualContrastive(nn.Module):
    """PCL of SAPNet: ``Σ wᵢ |Vᵢ(D) - Vᵢ(G)| / |Vᵢ(D) - Vᵢ(R)|`` (after Wu et al., AECR-Net, CVPR 2021).

    The derained image D is attracted to the ground truth G and repelled from the rainy image R in each layer.
    0 if D = G. Gradients flow through numerator and denominator.

    Args:
        features: see the module docstring.
        weights: of relu1_2, relu2_2, relu3_3, relu4_3; a partial pyramid uses the first ones.
        normalize: ``False`` in SAPNet's code.
        epsilon: added to the denominator.
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
            raise ValueError(f"weights must be four, one per layer, not {len(weights)}")
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
        features, normalize, peak: as for :class:`FeatureSpace`; SGINet's code has ``normalize=False, peak=255``.
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
        features: ``vgg16`` and ``alexnet`` use LPIPS' published channel weights; with
            ``vgg19-partial:PATH`` and ``random`` all channels have equal weight.
        as_coded: as in SAPNet's code: images inverted and stretched to [0, 1] over the batch, resized to
            256×256, only the first one of the batch, and without gradient, so that it has no effect.
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
                # The metric maps [0, 1] to [-1, 1]; compensate for that, because the code passes [0, 1] there.
                ours, truth = ((_inverted(p)[:1] + 1) / 2 for p in (derained, clean))
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


def _inverted(image: Tensor) -> Tensor:
    low, high = image.min(), image.max()
    return F.interpolate((high - image) / (high - low), size=(256, 256), mode="bilinear", align_corners=False)
