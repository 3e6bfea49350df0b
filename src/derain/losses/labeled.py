"""Losses of segmenters, from labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from derain.segmentation import enlarge


def weighted_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy at the labels' resolution; void pixels do not count.

    Args:
        logits: ``(N, classes, h, w)``; enlarged to the labels.
        labels: ``(N, H, W)`` int64; values from ``classes`` on are void.
        weights: ``(classes,)``; the mean is one of weights.

    Returns:
        A number, not negative; 0 if all is void.
    """
    void = logits.shape[1]
    known = labels.clamp(max=void)
    total = F.cross_entropy(enlarge(logits, *labels.shape[-2:]), known, weights, ignore_index=void, reduction="sum")
    mass = torch.ones_like(logits[0, :, 0, 0]) if weights is None else weights
    counted = F.pad(mass, (0, 1))[known].sum()  # void weighs nothing
    return total / counted.clamp(min=1e-7)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovász-Softmax (Berman et al., CVPR 2018): a convex surrogate of 1 - IoU, mean over the classes present.

    It is taken over the whole batch, at the resolution of the logits with the label nearest to each place:
    sorting all pixels would cost more than the network.

    Args:
        logits: ``(N, classes, h, w)``.
        labels: ``(N, H, W)`` int64; values from ``classes`` on are void.

    Returns:
        A number in [0, 1]; 0 if all is void.
    """
    classes = logits.shape[1]
    rows, columns = (
        torch.linspace(0, full - 1, few, device=labels.device).round().long()
        for full, few in zip(labels.shape[-2:], logits.shape[-2:], strict=True)
    )
    nearest = labels[:, rows][:, :, columns].flatten()
    known = nearest < classes
    shares = torch.softmax(logits, dim=1).movedim(1, 0).flatten(1)[:, known]  # (classes, places)
    truth = F.one_hot(nearest[known], classes).T.to(shares.dtype)
    present = truth.sum(1) > 0
    if not bool(present.any()):
        return logits.sum() * 0
    shares, truth = shares[present], truth[present]
    errors, order = (truth - shares).abs().sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    missed, total = truth.cumsum(1), truth.sum(1, keepdim=True)
    jaccard = 1 - (total - missed) / (total + (1 - truth).cumsum(1))
    steps = torch.diff(jaccard, dim=1, prepend=jaccard.new_zeros(len(jaccard), 1))
    return (errors * steps).sum(1).mean()
