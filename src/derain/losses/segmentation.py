"""Losses that ask a segmentation network, without labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from derain.segmentation import create_segmenter


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
            another one each time, runs it with the batch's own statistics, and does not normalize the picture.

    Raises:
        ModelError: the weights cannot be fetched.
    """

    def __init__(
        self, trunk: str = "resnet101", weights: str = "imagenet", gamma: float = 2.0, as_coded: bool = False
    ) -> None:
        super().__init__()
        if weights not in ("imagenet", "random"):
            raise ValueError(f"weights must be imagenet or random, not {weights!r}")
        # A seed of its own: the draw must not move the network's initialization.
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
        """The segmenter keeps its mode; there is nothing to learn here."""
        return self


class ContrastiveSemantic(nn.Module):
    """CSD of SGINet: ``|S(D) - S(G)| / |S(D) - S(R)|`` on the soft maps of the network's own segmenter.

    The semantics of the derained picture D are drawn to those of the truth G and pushed from those of the
    rainy R, without labels. The authors scale both distances by 255, which cancels but for ε = 1e-7.
    SGINet applies it to its coarse stage.
    """

    def __init__(self) -> None:
        super().__init__()
        self._semantics: Callable[[Tensor], Tensor] | None = None

    def bind(self, network: nn.Module) -> None:
        """Take the segmenter of the network that is trained.

        Raises:
            ValueError: it has none.
        """
        found = getattr(network, "semantics", None)
        if found is None:
            raise ValueError(f"csd needs a network with semantics, such as sginet, not {type(network).__name__}")
        self._semantics = found

    def forward(self, derained: Tensor, clean: Tensor, rainy: Tensor) -> Tensor:
        assert self._semantics is not None, "bind a network first"
        ours = self._semantics(derained)
        with torch.no_grad():
            truth, before = self._semantics(clean), self._semantics(rainy)
        return (ours - truth).abs().mean() / ((ours - before).abs().mean() + 1e-7 / 255)
