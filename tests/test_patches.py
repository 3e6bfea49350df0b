"""Training patches: what comes out is what was asked for, seeded, and quick enough."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch.utils.data import DataLoader

from derain.data.patches import CleanPool, RainOnTheFly, random_patch
from derain.errors import InputError


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> CleanPool:
    folder: Path = tmp_path_factory.mktemp("clean")
    for name in ("coffee", "chelsea"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    return CleanPool((folder,), smallest=0.5)


def test_batches(pool):
    patches = RainOnTheFly([pool], {"mixed": 0.8, "none": 0.2}, patch=48, batch=6, seed=3)
    batches = list(islice(patches, 4))
    rainy, clean = (torch.cat([b[i] for b in batches]) for i in (0, 1))
    assert rainy.shape == clean.shape == (24, 3, 48, 48)
    assert rainy.dtype == torch.float32
    assert 0 <= rainy.min() <= rainy.max() <= 1
    torch.testing.assert_close(rainy * 255, (rainy * 255).round(), rtol=0, atol=1e-3)
    dry = [torch.equal(a, b) for a, b in zip(rainy, clean, strict=True)]
    assert 0 < sum(dry) < 14
    again = next(iter(RainOnTheFly([pool], {"mixed": 0.8, "none": 0.2}, patch=48, batch=6, seed=3)))
    assert torch.equal(again[0], batches[0][0])
    other = next(iter(RainOnTheFly([pool], {"mixed": 0.8, "none": 0.2}, patch=48, batch=6, seed=4)))
    assert not torch.equal(other[0], batches[0][0])


def test_the_patch_may_grow_while_workers_run(pool):
    patches = RainOnTheFly([pool], {"light": 1}, patch=16, batch=2)
    loader = DataLoader(patches, batch_size=None, num_workers=1, prefetch_factor=2, multiprocessing_context="spawn")
    feed = iter(loader)
    assert next(feed)[0].shape == (2, 3, 16, 16)
    patches.patch.fill_(24)
    shapes = {tuple(next(feed)[0].shape) for _ in range(6)}
    assert (2, 3, 24, 24) in shapes


def test_patches_come_from_the_pictures():
    ramp = np.zeros((60, 80, 3), np.uint8)
    ramp[..., 0] = np.arange(80)
    ramp[..., 1] = np.arange(60)[:, None]
    rng = np.random.default_rng(0)
    corners = set()
    for _ in range(300):
        patch = (random_patch([ramp], 16, 1.0, rng) * 255).round().astype(int)
        assert (np.abs(np.diff(patch[..., 0], axis=1)) == 1).all(), "neither resized nor turned"
        assert (np.diff(patch[..., 1], axis=0) == 1).all()
        corners.add((patch[0, :, 0].min(), patch[0, 0, 1]))
    xs, ys = zip(*corners, strict=True)
    assert (min(xs), max(xs)) == (0, 64)
    assert (min(ys), max(ys)) == (0, 44)
    assert random_patch([ramp[:10, :12]], 16, 1.0, rng).shape == (16, 16, 3)


def test_faults_are_told(pool, tmp_path):
    with pytest.raises(ValueError, match="frogs"):
        RainOnTheFly([pool], {"frogs": 1})
    with pytest.raises(InputError, match="no pictures here"):
        RainOnTheFly([CleanPool((tmp_path,))], {"light": 1})
    with pytest.raises(ValueError, match="negative"):
        next(iter(RainOnTheFly([pool], {"light": -1})))
