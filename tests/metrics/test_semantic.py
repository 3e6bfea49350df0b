"""IoU: against numpy and at its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from derain.metrics import class_iou, confusion_matrix, mean_iou


def naive_confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    table = np.zeros((classes, classes), int)
    for p, t in zip(predicted.ravel(), labels.ravel(), strict=True):
        if t < classes:
            table[t, p] += 1
    return table


@pytest.mark.parametrize("seed", range(3))
def test_iou_is_numpys(seed):
    rng = np.random.default_rng(seed)
    predicted, labels = rng.integers(0, 5, (2, 9, 11)), rng.integers(0, 7, (2, 9, 11))  # 5 and 6 are void
    confusion = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(labels), 5)
    assert np.array_equal(confusion.numpy(), naive_confusion(predicted, labels, 5))
    known = labels < 5
    for c, value in enumerate(class_iou(confusion).tolist()):
        ours, truth = (predicted == c)[known], (labels == c)[known]
        assert value == pytest.approx((ours & truth).sum() / (ours | truth).sum())
    assert mean_iou(confusion) == pytest.approx(class_iou(confusion).mean().item())


def test_iou_at_its_ends():
    labels = torch.tensor([0, 0, 1, 1, 255])
    right = confusion_matrix(torch.tensor([0, 0, 1, 1, 2]), labels, 3)
    assert class_iou(right)[2].isnan(), "class 2 is neither there nor seen outside void"
    assert mean_iou(right) == 1
    assert mean_iou(confusion_matrix(torch.tensor([1, 1, 0, 0, 0]), labels, 3)) == 0
    assert np.isnan(mean_iou(torch.zeros(3, 3, dtype=torch.int64)))
    with pytest.raises(ValueError, match="shapes must agree"):
        confusion_matrix(torch.zeros(3), labels, 3)
