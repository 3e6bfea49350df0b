"""A compact segmenter of our own for street scenes, small enough to train on a CPU.

Residual blocks at 1/4, 1/8 and 1/16 of the resolution, pooled context at the coarsest (a small form of
PSPNet's), and a top-down path that adds the finer levels back (as in feature pyramids), ending at 1/4.
Batch normalisation throughout. 1,085,411 parameters for the 11 classes of CamVid.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import enlarge
from .resnet import BasicBlock, normalised

_STEM = 24
_LEVELS = (48, 96, 128)
_BLOCKS = 2
_BINS = (1, 2, 4)
_TOP_DOWN = 64


def _project(inner: int, outer: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU())


class CompactSegmenter(nn.Module):
    """Encoder and decoder with batch normalisation.

    Args:
        classes: number of classes (CamVid has 11).
        normalise: take ImageNet's mean and deviation out of the picture; ``False`` feeds 0 to 255.

    Shape: ``(N, 3, H, W)`` RGB in [0, 1] to logits ``(N, classes, ⌈H/4⌉, ⌈W/4⌉)``.
    """

    def __init__(self, classes: int = 11, normalise: bool = True) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError("classes must be at least 2")
        self.classes, self.normalise = classes, normalise
        self.stem = _project(3, _STEM, kernel=3, stride=2)
        stages, inner = [], _STEM
        for channels in _LEVELS:
            first = BasicBlock(inner, channels, stride=2, dilation=1)
            rest = (BasicBlock(channels, channels, stride=1, dilation=1) for _ in range(_BLOCKS - 1))
            stages.append(nn.Sequential(first, *rest))
            inner = channels
        self.stages = nn.ModuleList(stages)
        self.context = nn.ModuleList(_project(inner, inner // 4) for _ in _BINS)
        joined = inner + len(_BINS) * (inner // 4)
        self.lateral = nn.ModuleList(_project(c, _TOP_DOWN) for c in (*_LEVELS[:-1], joined))
        self.smooth = nn.ModuleList(_project(_TOP_DOWN, _TOP_DOWN, kernel=3) for _ in _LEVELS)
        self.classify = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(_TOP_DOWN, classes, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, picture: Tensor) -> Tensor:
        """Logits of a batch."""
        x = self.stem(normalised(picture) if self.normalise else picture * 255)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        pooled = [
            enlarge(branch(F.adaptive_avg_pool2d(x, side)), *x.shape[-2:])
            for side, branch in zip(_BINS, self.context, strict=True)
        ]
        levels[-1] = torch.cat([x, *pooled], dim=1)
        above: Tensor | None = None
        for level, lateral, smooth in zip(reversed(levels), reversed(self.lateral), reversed(self.smooth), strict=True):
            y = lateral(level)
            if above is not None:
                y = y + enlarge(above, *y.shape[-2:])
            above = smooth(y)
        logits: Tensor = self.classify(above)
        return logits

    @staticmethod
    def rename_public(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Ours; the names stay."""
        return dict(state)
