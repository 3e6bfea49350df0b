"""UBS, SAPNet's unsupervised background segmentation network (Zheng et al., WACV 2022 workshops).

A feature pyramid (Lin et al., CVPR 2017; its panoptic form, Kirillov et al., CVPR 2019) on ResNet-101.
Its logits on derained images are part of SAPNet's training loss, without labels; it is not used at test time.
47,121,493 parameters at the defaults: trunk 42,500,160, head 4,621,333.

- The trunk has ImageNet weights (:meth:`UBS.load_public`); the head is random with deviation 0.01
  and is never trained, in the paper and in the code.
- The authors create a new network in each training step, so that the head changes from step to step.
  Here it is one network; :meth:`UBS.reset_head` reproduces that.
- The code does not normalize images for its ImageNet trunk; here it is a setting, off by default as in the code.
- There is no activation between the two 3×3 convolutions of a level.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .base import enlarge
from .resnet import Name, ResNet, normalized

_WIDE, _NARROW = 256, 128


class UBS(nn.Module):
    """Feature pyramid segmenter.

    Args:
        classes: number of classes (21).
        trunk: ``resnet101``, or ``resnet18`` for small machines.
        normalize: by ImageNet's mean and deviation; ``False`` in the authors' code.

    Shape: ``(N, 3, H, W)`` RGB in [0, 1] to logits ``(N, classes, ⌈H/4⌉, ⌈W/4⌉)``.
    """

    def __init__(self, classes: int = 21, trunk: Name = "resnet101", normalize: bool = False) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError("classes must be at least 2")
        self.classes, self.normalize = classes, normalize
        self.trunk = ResNet(trunk)
        self.lateral = nn.ModuleList(nn.Conv2d(c, _WIDE, 1) for c in self.trunk.channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(_WIDE, _WIDE, 3, padding=1), nn.Conv2d(_WIDE, _NARROW, 3, padding=1))
            for _ in self.trunk.channels
        )
        self.classify = nn.Conv2d(_NARROW * len(self.trunk.channels), classes, 3, padding=1)
        self.reset_head()

    def reset_head(self) -> None:
        """Initialize the head again; the trunk is unchanged."""
        for part in (self.lateral, self.smooth, self.classify):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.normal_(module.weight, std=0.01)
                    assert module.bias is not None
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch."""
        features = self.trunk(normalized(image) if self.normalize else image)
        finest = features[0].shape[-2:]
        above: Tensor | None = None
        levels = []
        for feature, lateral, smooth in zip(
            reversed(features), reversed(self.lateral), reversed(self.smooth), strict=True
        ):
            level = lateral(feature)
            if above is not None:
                level = level + enlarge(above, *level.shape[-2:])
            above = level
            levels.append(enlarge(smooth(level), *finest))
        logits: Tensor = self.classify(torch.cat(levels, dim=1))
        return logits

    def load_public(self) -> UBS:
        """Load the public ImageNet weights of the trunk, downloaded once.

        Raises:
            ModelError: the download failed.
        """
        self.trunk.load_public()
        return self

    @staticmethod
    def rename_public(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Unchanged: there is no published checkpoint."""
        return dict(state)
