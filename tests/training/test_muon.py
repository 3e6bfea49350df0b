"""Muon: orthogonal updates, and relative steps that keep norms."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from derain.training.muon import Muon, muon_groups, orthogonalized


def test_updates_are_orthogonal_and_lower_a_loss():
    matrix = torch.randn(24, 60, generator=torch.Generator().manual_seed(0))
    for shaped in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonalized(shaped))
        assert values.min() > 0.6
        assert values.max() < 1.3
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 3, 1))
    groups = muon_groups(network)
    assert [p.shape for p in groups[0]["params"]] == [(16, 16, 3, 3)]
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(p.numel() for p in network.parameters())
    optimizer = Muon(groups, lr=3e-3)
    x = torch.rand(2, 3, 8, 8)
    losses = []
    for _ in range(60):
        loss = (network(x) - x.flip(3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_relative_steps_keep_the_norm_of_kernels():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 400, 3), nn.Conv2d(400, 16, 1))
    with torch.no_grad():
        network[2].weight.mul_(1e-3)
    before = copy.deepcopy(network)
    optimizer = Muon(muon_groups(network), lr=1e-2, relative=0.05)
    network(torch.rand(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    for old, new in zip(before[1:], network[1:], strict=True):
        assert new.weight.norm().item() == pytest.approx(old.weight.norm().item(), rel=1e-5)
        assert (new.weight - old.weight).norm().item() == pytest.approx(0.05 * old.weight.norm().item(), rel=0.05)
    assert (network[0].weight - before[0].weight).abs().max().item() == pytest.approx(1e-2, rel=0.05)  # AdamW
