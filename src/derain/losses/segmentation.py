"""Losses that ask a segmentation network, without labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def self_trained_focal(logits: Tensor, gamma: float = 2.0, alpha: float = 1.0) -> Tensor:
    """Focal loss whose labels are the network's own best classes (SAPNet, unsupervised segmentation loss).

    Mean over the places of ``-α (1 - p)^γ log p`` with p the softmax probability of the best class,
    clamped to [1e-7, 1 - 1e-7] (Lin et al., ICCV 2017).

    Args:
        logits: ``(N, classes, H, W)``.
        gamma: focus on the unsure places.
        alpha: factor.

    Returns:
        A number, not negative.
    """
    best = torch.softmax(logits, dim=1).amax(dim=1).clamp(1e-7, 1 - 1e-7)
    return (-alpha * (1 - best) ** gamma * best.log()).mean()


class SelfTrainedFocal(nn.Module):
    """:func:`self_trained_focal` of the derained picture's segmentation by SAPNet's UBS, frozen.

    Args:
        trunk: ``resnet101`` (the paper's) or ``resnet18``.
        weights: ``imagenet`` (public, fetched once) or ``random``.
        gamma: of the focal loss.
        as_coded: SAPNet's code makes the segmenter anew at every step, so that its Gaussian head is
            another one each time, and runs it with the batch's own statistics.
    """

    def __init__(
        self, trunk: str = "resnet101", weights: str = "imagenet", gamma: float = 2.0, as_coded: bool = False
    ) -> None:
        super().__init__()
        from derain.segmentation import create_ubs

        # A seed of its own: the draw must not move the network's initialisation.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.segmenter = create_ubs(trunk, weights)
        self.segmenter.requires_grad_(False).train(as_coded)
        self.gamma = gamma
        self.as_coded = as_coded

    def forward(self, derained: Tensor, _clean: Tensor, _rainy: Tensor) -> Tensor:
        if self.as_coded:
            self.segmenter.reset_head()
        return self_trained_focal(self.segmenter(derained), self.gamma)

    def train(self, _mode: bool = True) -> SelfTrainedFocal:
        """The segmenter keeps its mode; there is nothing to learn here."""
        return self
