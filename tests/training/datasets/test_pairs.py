"""Patches of pairs: both images cut alike, each pair once per epoch, the papers' grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from derain.data.layouts import find_pairs
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


def test_patches_are_those_that_numpy_draws(pairs):
    """A literal copy of the definition: patches of existing recipes must never change."""
    dataset = PairPatches([pairs], seed=7)
    for number in range(20):
        index = np.random.default_rng([7, 0, number // 3]).permutation(3)[number % 3]
        rng = np.random.default_rng([7, 1, number])
        y, x = rng.integers(24 - 16 + 1), rng.integers(40 - 16 + 1)
        expected = [image[y : y + 16, x : x + 16] for image in pairs.pairs[index].read()]
        if rng.random() < 0.5:
            expected = [image[:, ::-1] for image in expected]
        for patch, image in zip(dataset[number, 16], expected, strict=True):
            assert np.array_equal((patch * 255).round().numpy().transpose(1, 2, 0), image)
        plain = PairPatches([pairs], seed=7, mirror=False)[number, 16][1]
        assert np.array_equal((plain * 255).round()[1, 0].numpy(), np.arange(x, x + 16)), "the same place, not mirrored"


def test_mirrored_copies_are_cut_on_the_same_grid(pairs):
    """SAPNet's RainTrainL: the mirror image of each pair is cut like the pair."""
    plain, both = (PairPatches([pairs], stride=11, mirrored_copies=copies) for copies in (False, True))
    assert len(both.corners(16)) == 2 * len(plain.corners(16)) == 18
    expected = []
    for pair in pairs.pairs:
        for view in (pair.read()[1], pair.read()[1][:, ::-1]):
            expected += [view[:16, x : x + 16].tobytes() for x in (0, 11, 22)]
    cut = [(both[n, 16][1] * 255).round().byte().permute(1, 2, 0).contiguous().numpy().tobytes() for n in range(18)]
    assert sorted(cut) == sorted(expected)


def test_grids_of_the_papers(tmp_path):
    """481×321 and 321×481 have 15 patches of 100 on stride 80; on stride 100, 4×3."""
    for part in ("input", "target"):
        for name, size in (("1", (481, 321)), ("2", (321, 481))):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.new("RGB", size).save(tmp_path / part / f"{name}.png")
    folder = find_pairs(tmp_path)
    assert len(PairPatches([folder], stride=80).corners(100)) == 2 * 15
    assert len(PairPatches([folder], stride=80, mirrored_copies=True).corners(100)) == 2 * 2 * 15
    assert len(PairPatches([folder], stride=100).corners(100)) == 2 * 4 * 3


@pytest.mark.parametrize("stride", [None, 8])
def test_pairs_smaller_than_the_patch_are_left_out(pairs, stride):
    for part in ("input", "target"):
        Image.new("RGB", (40, 20), (9, 9, 200)).save(pairs.root / part / "3.png")
    dataset = PairPatches([find_pairs(pairs.root)], stride=stride)
    assert (len(dataset.pairs), dataset.small(24), dataset.small(16)) == (4, 1, 0)
    seen = [int((dataset[n, 24][1][2, 0, 0] * 255).round()) for n in range(30)]
    assert set(seen) == {0, 1, 2}
    per_epoch = len(dataset.corners(24))
    assert sorted(seen[:per_epoch]) == sorted(seen[per_epoch : 2 * per_epoch]), "each equally often"
    with pytest.raises(InputError, match="like all pairs, smaller than a patch of 32"):
        dataset[0, 32]


@pytest.mark.parametrize("stride", [None, 8])
def test_unreadable_pairs_are_replaced_and_only_those_is_an_error(pairs, stride, capfd):
    first = (pairs.root / "input" / "0.png").read_bytes()
    (pairs.root / "input" / "0.png").write_bytes(first[: len(first) // 2])
    Image.new("RGB", (40, 20)).save(pairs.root / "input" / "1.png")  # another size than its clean image
    dataset = PairPatches([pairs], stride=stride)
    assert {int((dataset[n, 24][1][2, 0, 0] * 255).round()) for n in range(6)} == {2}
    (pairs.root / "input" / "2.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot be read|can be read"):
        PairPatches([pairs], stride=stride)[0, 24]
    assert "left out of the training" in capfd.readouterr().err


def test_no_pairs_is_an_error():
    with pytest.raises(InputError, match="no folder: no pairs"):
        PairPatches([])
