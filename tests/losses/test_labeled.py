"""Losses on labels: against torch, closed forms and the definition of the Lovász extension."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from derain.data.labels import VOID
from derain.losses.labeled import lovasz_softmax, weighted_entropy
from derain.metrics import class_iou, confusion_matrix


def test_entropy_is_torchs_with_void_left_out():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 6, 5), torch.randint(0, 4, (2, 6, 5))
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0])
    for chosen in (None, weights):
        assert weighted_entropy(logits, labels, chosen) == pytest.approx(
            F.cross_entropy(logits, labels, chosen).item(), rel=1e-6
        )
    void = labels.clone()
    void[0] = VOID
    assert weighted_entropy(logits, void, weights) == pytest.approx(
        F.cross_entropy(logits[1:], labels[1:], weights).item(), rel=1e-6
    )
    assert weighted_entropy(logits, torch.full_like(labels, VOID), weights) == 0
    # At the labels' resolution: equal logits everywhere stay so when enlarged.
    flat = torch.tensor([2.0, 0, 0, 0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert weighted_entropy(flat, torch.zeros(1, 9, 9, dtype=torch.long)).item() == pytest.approx(
        -torch.log_softmax(flat[0, :, 0, 0], 0)[0].item(), rel=1e-6
    )


def test_lovasz_is_the_jaccard_loss_of_sure_predictions():
    torch.manual_seed(1)
    predicted, labels = torch.randint(0, 4, (2, 8, 8)), torch.randint(0, 3, (2, 8, 8))
    labels[0, :3] = VOID
    logits = 100.0 * F.one_hot(predicted, 4).permute(0, 3, 1, 2)
    iou = class_iou(confusion_matrix(predicted, labels, 4))
    assert lovasz_softmax(logits, labels).item() == pytest.approx(1 - iou[:3].mean().item(), abs=1e-5)
    assert lovasz_softmax(logits, torch.full_like(labels, VOID)) == 0


def test_lovasz_is_a_sum_over_thresholds_and_has_its_gradient():
    # Lovász extension: the integral of the set function over the sets of places whose error exceeds t.
    torch.manual_seed(2)
    logits = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (1, 3, 4))
    shares = torch.softmax(logits.detach(), 1)[0]
    expected = 0.0
    for c in range(2):
        truth = labels[0] == c
        errors = (truth.double() - shares[c]).abs()
        levels = torch.cat([torch.zeros(1, dtype=torch.float64), errors.flatten().sort().values])
        for low, high in itertools.pairwise(levels):
            wrong = errors > (low + high) / 2
            jaccard = int((truth & ~wrong).sum()) / int((truth | wrong).sum())
            expected += (high - low).item() * (1 - jaccard) / 2
    assert lovasz_softmax(logits, labels).item() == pytest.approx(expected, abs=1e-9)
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax(x, labels), (logits,))
