"""A compact segmenter of our own for street scenes, small enough to train on a CPU from random weights.

Most of the computation is at 1/8 and 1/16 of the resolution, where it is cheap and the receptive field is
large: residual blocks, dilated at the coarsest level, and pooled context (a small form of PSPNet's). A top-down
path (as in feature pyramids) leads back to 1/4, whose block preserves poles and signs. Batch normalization
throughout. 1,162,779 parameters for the 11 classes of CamVid; half as wide 291,795.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import enlarge
from .resnet import BasicBlock, normalized

_STEM = 16
_LEVELS = (32, 80, 128)
_DILATIONS = (2, 4)  # of the other blocks at 1/16
_BINS = (1, 2, 4)
_TOP_DOWN = (32, 64, 64)


def _project(inner: int, outer: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU())


class CompactSegmenter(nn.Module):
    """Encoder and decoder with batch normalization.

    Args:
        classes: number of classes (CamVid has 11).
        normalize: by ImageNet's mean and deviation; ``False`` for inputs of 0 to 255.
        width: factor on the channels of all layers.

    Shape: ``(N, 3, H, W)`` RGB in [0, 1] to logits ``(N, classes, ⌈H/4⌉, ⌈W/4⌉)``.
    """

    def __init__(self, classes: int = 11, normalize: bool = True, width: float = 1.0) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError("classes must be at least 2")
        if not 0.1 <= width <= 10:
            raise ValueError(f"width must be from 0.1 to 10, not {width}")
        self.classes, self.normalize = classes, normalize
        stem, fine, middle, coarse, *top_down = (max(4, round(width * c)) for c in (_STEM, *_LEVELS, *_TOP_DOWN))
        self.stem = _project(3, stem, kernel=3, stride=2)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(_project(stem, fine, kernel=3, stride=2), BasicBlock(fine, fine, 1, 1)),
                nn.Sequential(BasicBlock(fine, middle, 2, 1), BasicBlock(middle, middle, 1, 1)),
                nn.Sequential(
                    BasicBlock(middle, coarse, 2, 1), *(BasicBlock(coarse, coarse, 1, d) for d in _DILATIONS)
                ),
            ]
        )
        self.context = nn.ModuleList(_project(coarse, coarse // 4) for _ in _BINS)
        joined = coarse + len(_BINS) * (coarse // 4)
        widths = (fine, middle, joined)
        self.lateral = nn.ModuleList(_project(inner, outer) for inner, outer in zip(widths, top_down, strict=True))
        below = (top_down[0], *top_down[:-1])
        self.smooth = nn.ModuleList(_project(a, b, kernel=3) for a, b in zip(top_down, below, strict=True))
        self.classify = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(top_down[0], classes, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch."""
        x = self.stem(normalized(image) if self.normalize else image * 255)
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
        """Unchanged: our own checkpoints only."""
        return dict(state)


def compact_half(classes: int = 11, normalize: bool = True) -> CompactSegmenter:
    """Half as wide, for networks that include their segmenter (the pretrained model ``sginet-s``)."""
    return CompactSegmenter(classes, normalize, width=0.5)
