"""Supervised losses for segmenters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from derain.segmentation import enlarge


def weighted_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy at the labels' resolution; void pixels are ignored.

    Args:
        logits: ``(N, classes, h, w)``; enlarged to the labels.
        labels: ``(N, H, W)`` int64; values from ``classes`` on are void.
        weights: ``(classes,)``; the result is the weighted mean.

    Returns:
        Scalar, not negative; 0 if all pixels are void.
    """
    void = logits.shape[1]
    clamped = labels.clamp(max=void)
    total = F.cross_entropy(enlarge(logits, *labels.shape[-2:]), clamped, weights, ignore_index=void, reduction="sum")
    class_weights = torch.ones_like(logits[0, :, 0, 0]) if weights is None else weights
    total_weight = F.pad(class_weights, (0, 1))[clamped].sum()  # void has weight 0
    return total / total_weight.clamp(min=1e-7)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovász-Softmax (Berman et al., CVPR 2018): a convex surrogate of 1 - IoU, mean over the classes present.

    Computed over the full batch, at the resolution of the logits with the nearest labels, because sorting all
    pixels would cost more than the network.

    Args:
        logits: ``(N, classes, h, w)``.
        labels: ``(N, H, W)`` int64; values from ``classes`` on are void.

    Returns:
        Scalar in [0, 1]; 0 if all pixels are void.
    """
    classes = logits.shape[1]
    rows, columns = (
        torch.linspace(0, size - 1, count, device=labels.device).round().long()
        for size, count in zip(labels.shape[-2:], logits.shape[-2:], strict=True)
    )
    nearest = labels[:, rows][:, :, columns].flatten()
    valid = nearest < classes
    probabilities = torch.softmax(logits, dim=1).movedim(1, 0).flatten(1)[:, valid]  # (classes, positions)
    truth = F.one_hot(nearest[valid], classes).T.to(probabilities.dtype)
    present = truth.sum(1) > 0
    if not bool(present.any()):
        return logits.sum() * 0
    probabilities, truth = probabilities[present], truth[present]
    errors, order = (truth - probabilities).abs().sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    missed, total = truth.cumsum(1), truth.sum(1, keepdim=True)
    jaccard = 1 - (total - missed) / (total + (1 - truth).cumsum(1))
    steps = torch.diff(jaccard, dim=1, prepend=jaccard.new_zeros(len(jaccard), 1))
    return (errors * steps).sum(1).mean()
