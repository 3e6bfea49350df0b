"""Patches of pairs: both images cut alike, each pair once per epoch, the papers' grid."""

from __future__ import annotations

import pytest
import torch

from derain.errors import InputError
from derain.training.datasets.pairs import PairPatches


def test_pairs_are_cut_alike_and_come_in_turn(pairs):
    dataset = PairPatches([pairs], seed=2)
    patches = [(rainy * 255).round().int() for rainy, _ in (dataset[n, 16] for n in range(60))]
    for n, rainy in enumerate(patches):
        clean = (dataset[n, 16][1] * 255).round().int()
        assert torch.equal(clean[:2], rainy[:2])
        assert torch.equal(clean[2] + 100, rainy[2])
    order = [int(rainy[2, 0, 0]) - 100 for rainy in patches]
    assert all(sorted(order[i : i + 3]) == [0, 1, 2] for i in range(0, 60, 3))
    assert len({tuple(order[i : i + 3]) for i in range(0, 60, 3)}) > 1, "each epoch has its own order"
    steps = {int(rainy[1, 0, 1] - rainy[1, 0, 0]) for rainy in patches}
    assert steps == {1, -1}, "half of them are mirrored"
    assert {int(rainy[0].min()) for rainy in patches} == set(range(9)), "every row is reached"


def test_a_grid_is_cut_as_in_the_papers(pairs):
    patches = PairPatches([pairs], stride=12)
    two_epochs = [(patches[n, 16][1] * 255).round().int() for n in range(18)]
    corners = [(int(p[2, 0, 0]), int(p[0, 0, 0]), int(p[1, 0, 0])) for p in two_epochs]
    grid = sorted((pair, 0, x) for pair in range(3) for x in (0, 12, 24))
    assert sorted(corners[:9]) == sorted(corners[9:]) == grid
    with pytest.raises(InputError, match="smaller than a patch of 32"):
        patches[0, 32]


def test_no_pairs_is_an_error():
    with pytest.raises(InputError, match="no folder: no pairs"):
        PairPatches([])
