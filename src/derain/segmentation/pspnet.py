"""PSPNet (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105) on a dilated ResNet-101.

Layers and key names are those of hszhao/semseg, so that its published checkpoints load: SGINet
uses the Cityscapes one, ``train_epoch_200.pth``. 65,707,475 parameters for 19 classes.

Its weights come from a file: semseg publishes them in a Google Drive folder and SGINet's authors on
Baidu, neither with a checksum or a URL for direct download, so there is no URL here. The auxiliary
head, which only training uses, is omitted from the network and dropped from checkpoints.
semseg requires sides of 8k + 1; any size works, as in SGINet.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .resnet import ResNet, normalized

_BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """PPM: the features and their means over 1×1, 2×2, 3×3 and 6×6 bins, each projected to a quarter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // len(_BINS)
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(side),
                nn.Conv2d(channels, narrow, 1, bias=False),
                nn.BatchNorm2d(narrow),
                nn.ReLU(),
            )
            for side in _BINS
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, h, w)`` to ``(N, 2C, h, w)``."""
        pooled = [
            F.interpolate(branch(x), x.shape[-2:], mode="bilinear", align_corners=True) for branch in self.features
        ]
        return torch.cat([x, *pooled], dim=1)


class PSPNet(nn.Module):
    """PSPNet-101.

    Args:
        classes: number of classes (Cityscapes has 19).
        normalize: by ImageNet's mean and deviation, as in semseg's training; ``False`` for inputs of 0 to
            255, as in SGINet's code with the same weights.

    Shape: ``(N, 3, H, W)`` RGB in [0, 1] to logits ``(N, classes, ⌈H/8⌉, ⌈W/8⌉)``.
    """

    def __init__(self, classes: int = 19, normalize: bool = True) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError("classes must be at least 2")
        self.classes, self.normalize = classes, normalize
        trunk = ResNet("resnet101", stem="deep", dilated=True)
        self.layer0 = nn.Sequential(*trunk.stem_layers())
        self.layer1, self.layer2 = trunk.get_submodule("layer1"), trunk.get_submodule("layer2")
        self.layer3, self.layer4 = trunk.get_submodule("layer3"), trunk.get_submodule("layer4")
        wide = trunk.channels[-1]
        self.ppm = PyramidPooling(wide)
        self.cls = nn.Sequential(
            nn.Conv2d(2 * wide, 512, 3, padding=1, bias=False),
            nn.BatchNorm2d(512),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(512, classes, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch."""
        x = normalized(image) if self.normalize else image * 255
        for stage in (self.layer0, self.layer1, self.layer2, self.layer3, self.layer4, self.ppm, self.cls):
            x = stage(x)
        return x

    @staticmethod
    def public_classes(state: Mapping[str, Tensor]) -> int | None:
        """Number of classes of a semseg or SGINet checkpoint; ``None`` if it is of another network."""
        stripped = {key.removeprefix("module.") for key in state}
        last = next((value for key, value in state.items() if key.removeprefix("module.") == "cls.4.weight"), None)
        if last is None or last.ndim != 4 or not {"layer0.0.weight", "ppm.features.0.1.weight"} <= stripped:
            return None
        return len(last)

    @staticmethod
    def rename_public(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a semseg or SGINet checkpoint under the key names of this network.

        ``module.`` and the auxiliary head are removed; the other names are the same.
        """
        stripped = {key.removeprefix("module."): value for key, value in state.items()}
        return {key: value for key, value in stripped.items() if not key.startswith("aux.")}
