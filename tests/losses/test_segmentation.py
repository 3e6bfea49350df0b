"""Losses on the output of segmenters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from derain.losses import create_loss
from derain.losses.segmentation import self_trained_focal


def test_focal_is_the_closed_form():
    logits = torch.randn(2, 21, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    p = np.exp(logits.numpy())
    best = (p / p.sum(axis=1, keepdims=True)).max(axis=1)
    expected = (-((1 - best) ** 2) * np.log(best)).mean()
    assert self_trained_focal(logits).item() == pytest.approx(expected, rel=1e-9)
    assert self_trained_focal(torch.full((1, 4, 2, 2), 0.0)).item() == pytest.approx(0.75**2 * np.log(4), rel=1e-5)
    certain = torch.zeros(1, 4, 2, 2)
    certain[:, 1] = 1e4
    assert 0 <= self_trained_focal(certain).item() < 1e-12


def test_focal_gradient():
    logits = torch.randn(1, 5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(self_trained_focal, logits.requires_grad_())


@pytest.mark.parametrize("as_coded", [False, True])
def test_the_segmentation_loss_uses_ubs(images, as_coded):
    loss = create_loss("segmentation-focal", trunk="resnet18", weights="random", as_coded=as_coded)
    assert sum(p.numel() for p in loss.parameters() if p.requires_grad) == 0
    derained = images[0].clone().requires_grad_()
    torch.manual_seed(0)
    value = loss(derained, *images[1:])
    value.backward()
    assert derained.grad.abs().sum() > 0
    torch.manual_seed(1)
    again = loss(derained, *images[1:]).item()
    assert (again == value.item()) is not as_coded, "only the authors' head changes from step to step"


def test_csd_from_the_networks_own_semantics(images):
    from derain import create_model

    torch.manual_seed(0)
    network = create_model("sginet", width=4)
    loss = create_loss("csd")
    loss.bind(network)
    with torch.no_grad():
        d, g, r = (network.soft_segmentation(p).double().numpy() for p in images)
    expected = np.abs(255 * d - 255 * g).mean() / (np.abs(255 * d - 255 * r).mean() + 1e-7)
    assert loss(*images).item() == pytest.approx(expected, rel=1e-4)
    assert loss(images[1], *images[1:]).item() == 0
    derained = images[0].clone().requires_grad_()
    loss(derained, *images[1:]).backward()
    assert derained.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="needs a network with a segmenter"):
        loss.bind(create_model("prenet"))
