"""Labeled patches: image and labels stay together, each image comes once per epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from derain.data.labels import VOID, find_labeled
from derain.training.datasets.labeled import LabeledImages, LabeledPatches, recolored
from support.labels import COLORS, blocks, write_split


@pytest.fixture
def split(tmp_path):
    return write_split(tmp_path / "train", {f"p{i}": blocks(i) for i in range(5)})


def test_patches_keep_image_and_labels_together(split):
    patches = LabeledPatches(find_labeled(split), 3, zoom=(1.0, 2.0), jitter=0, seed=3)
    for number in range(10):
        image, labels = patches[number, 40]
        assert image.shape == (3, 40, 40)
        assert labels.dtype == torch.int64
        assert set(labels.unique().tolist()) <= {0, 1, 2, VOID}
        pixels = image.permute(1, 2, 0).reshape(-1, 1, 3) * 255
        nearest = (pixels - torch.from_numpy(COLORS).float()).norm(dim=2).argmin(1).view(40, 40)
        known = labels != VOID
        assert (nearest[known] == labels[known]).float().mean() > 0.9  # all but the blurred edges


def test_patches_are_a_function_of_their_number_and_evenly_drawn(tmp_path):
    uniform = {f"p{i}": np.full((30, 40), i) for i in range(7)}
    pairs = find_labeled(write_split(tmp_path / "train", uniform))
    first, second = (LabeledPatches(pairs, 7, zoom=(1, 2), seed=1) for _ in range(2))
    again = [second[i, 16] for i in reversed(range(14))][::-1]
    for i in range(14):
        assert all(torch.equal(a, b) for a, b in zip(first[i, 16], again[i], strict=True))
    order = [int(labels[0, 0]) for _, labels in again]
    assert sorted(order[:7]) == sorted(order[7:]) == list(range(7)), "each comes once before any comes twice"
    assert order[:7] != order[7:]


def test_whole_images_have_a_batch_dimension(split):
    images = LabeledImages(find_labeled(split), 3)
    image, labels = images[0]
    assert len(images) == 5
    assert image.shape == (1, 3, 72, 96)
    assert np.array_equal(labels[0].numpy() == VOID, blocks(0) == 11)


def test_recolored(photo):
    unit = photo.astype(np.float32) / 255
    assert np.allclose(recolored(unit, 0, np.random.default_rng(0)), unit, atol=1e-5)
    changed = recolored(unit, 1, np.random.default_rng(0))
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert np.abs(changed - unit).mean() > 0.01
    # The light changes, the scene does not.
    assert np.corrcoef(changed.mean(2).ravel(), unit.mean(2).ravel())[0, 1] > 0.95
