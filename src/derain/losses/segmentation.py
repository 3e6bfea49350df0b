"""Unsupervised losses on the output of a segmentation network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from derain.models.base import HasSegmenter
from derain.segmentation import create_segmenter


def self_trained_focal(logits: Tensor, gamma: float = 2.0, alpha: float = 1.0) -> Tensor:
    """Focal loss whose labels are the network's own best classes (SAPNet, unsupervised segmentation loss).

    Mean over the positions of ``-α (1 - p)^γ log p`` with p the softmax probability of the best class,
    clamped to [1e-7, 1 - 1e-7] (Lin et al., ICCV 2017).

    Args:
        logits: ``(N, classes, H, W)``.
        gamma: focus on uncertain positions.
        alpha: factor.

    Returns:
        Scalar, not negative.
    """
    best = torch.softmax(logits, dim=1).amax(dim=1).clamp(1e-7, 1 - 1e-7)
    return (-alpha * (1 - best) ** gamma * best.log()).mean()


class SelfTrainedFocal(nn.Module):
    """:func:`self_trained_focal` of the derained image's segmentation by SAPNet's UBS, frozen.

    Args:
        trunk: ``resnet101`` (the paper's) or ``resnet18``.
        weights: ``imagenet`` (public, downloaded once) or ``random``.
        gamma: of the focal loss.
        as_coded: SAPNet's code creates a new segmenter at every step, so that its random head changes each
            time, runs it with batch statistics, and does not normalize the image.

    Raises:
        ModelError: the weights cannot be downloaded.
    """

    def __init__(
        self, trunk: str = "resnet101", weights: str = "imagenet", gamma: float = 2.0, as_coded: bool = False
    ) -> None:
        super().__init__()
        if weights not in ("imagenet", "random"):
            raise ValueError(f"weights must be imagenet or random, not {weights!r}")
        # A separate seed, because the draw must not change the initialization of the network.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.segmenter = create_segmenter("ubs", trunk=trunk, normalize=not as_coded)
        if weights == "imagenet":
            self.segmenter.load_public()  # type: ignore[operator]
        self.segmenter.requires_grad_(False).train(as_coded)
        self.gamma = gamma
        self.as_coded = as_coded

    def forward(self, derained: Tensor, _clean: Tensor, _rainy: Tensor) -> Tensor:
        if self.as_coded:
            self.segmenter.reset_head()  # type: ignore[operator]
        return self_trained_focal(self.segmenter(derained), self.gamma)

    def train(self, _mode: bool = True) -> SelfTrainedFocal:
        """Does nothing: the segmenter keeps its mode, and nothing here is trainable."""
        return self


class NeedsNetwork(ABC):
    """A loss that uses a part of the trained network."""

    @abstractmethod
    def bind(self, network: nn.Module) -> None:
        """Use this network.

        Raises:
            ValueError: it does not have the required part.
        """


class ContrastiveSemantic(NeedsNetwork, nn.Module):
    """CSD of SGINet: ``|S(D) - S(G)| / |S(D) - S(R)|`` on the soft maps of the network's own segmenter.

    The segmentation of the derained image D is attracted to that of the ground truth G and repelled from that
    of the rainy image R, without labels. The authors scale both distances by 255, which cancels but for ε = 1e-7.
    SGINet applies it to its coarse stage.
    """

    def __init__(self) -> None:
        super().__init__()
        self._segment: Callable[[Tensor], Tensor] | None = None

    def bind(self, network: nn.Module) -> None:
        """Use the segmenter of the trained network; see :class:`NeedsNetwork`."""
        if not isinstance(network, HasSegmenter):
            raise ValueError(f"csd needs a network with a segmenter, such as sginet, not {type(network).__name__}")
        self._segment = network.soft_segmentation

    def forward(self, derained: Tensor, clean: Tensor, rainy: Tensor) -> Tensor:
        assert self._segment is not None, "bind a network first"
        ours = self._segment(derained)
        with torch.no_grad():
            truth, before = self._segment(clean), self._segment(rainy)
        return (ours - truth).abs().mean() / ((ours - before).abs().mean() + 1e-7 / 255)
