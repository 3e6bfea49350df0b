"""Intersection over union and accuracy of a segmentation, from one confusion matrix over all images."""

from __future__ import annotations

import torch
from torch import Tensor


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How many pixels of each true class were predicted as each class.

    Args:
        predicted: class numbers in [0, classes), int64, any shape.
        labels: true class numbers, same shape; values outside [0, classes) are void and ignored.
        classes: number of classes.

    Returns:
        ``(classes, classes)`` int64; row: true class, column: predicted. Sum over images as needed.

    Raises:
        ValueError: different shapes.
    """
    if predicted.shape != labels.shape:
        raise ValueError(f"predicted is {tuple(predicted.shape)} and labels {tuple(labels.shape)}; shapes must agree")
    valid = (labels >= 0) & (labels < classes)
    pairs = labels[valid] * classes + predicted[valid]
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union of each class (the Jaccard index, as in PASCAL VOC and Cityscapes).

    Args:
        confusion: from :func:`confusion_matrix`, summed over all images.

    Returns:
        ``(classes,)`` float64 in [0, 1]; NaN for a class that is neither in the labels nor predicted.
    """
    intersection = confusion.diagonal().double()
    union = confusion.sum(0) + confusion.sum(1) - intersection
    return intersection / union  # 0 / 0 is NaN


def class_accuracy(confusion: Tensor) -> Tensor:
    """The share of each true class that is predicted as it, ``(classes,)`` float64; NaN for one not in the labels.

    Its mean over the classes is the "mAcc" of semseg, and what SGINet's tables call PA.
    """
    return confusion.diagonal().double() / confusion.sum(1)


def mean_iou(confusion: Tensor) -> float:
    """Mean of :func:`class_iou` over the classes that occur; NaN if none does."""
    return float(class_iou(confusion).nanmean())
