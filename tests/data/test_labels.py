"""Labeled images on disk: pairs, class counts, weights, errors."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from derain.data.labels import VOID, balanced_weights, count_classes, find_labeled
from derain.errors import InputError
from support.labels import COLORS, blocks, write_split


@pytest.fixture
def split(tmp_path):
    return write_split(tmp_path / "train", {f"p{i}": blocks(i) for i in range(5)})


def test_pairs_counts_and_void(split):
    pairs = find_labeled(split)
    assert [pair.name for pair in pairs] == [f"p{i}" for i in range(5)]
    everything = np.concatenate([blocks(i).ravel() for i in range(5)])
    assert count_classes(pairs, 3).tolist() == [(everything == c).sum() for c in range(3)]
    image, labels = pairs[0].read(3)
    assert image.shape == (72, 96, 3)
    assert np.array_equal(labels == VOID, blocks(0) == 11)
    assert np.array_equal(image[labels == 1][0], COLORS[1])


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_balanced_weights_leave_the_mean_pixel_at_one(power):
    counts = np.array([900, 90, 10])
    weights = balanced_weights(counts, power)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1, rel=1e-6)
    assert weights[2] / weights[0] == pytest.approx(90**power, rel=1e-5)
    assert np.isfinite(balanced_weights(np.array([5, 0]), power)).all()


def test_errors_in_a_split_are_one_line(tmp_path, split):
    with pytest.raises(InputError, match="no images/ and labels/"):
        find_labeled(tmp_path)
    (split / "labels" / "p1.png").unlink()
    with pytest.raises(InputError, match=r"p1\.png: missing, for 1 of 5"):
        find_labeled(split)
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(split / "labels" / "p1.png")
    with pytest.raises(InputError, match="10×10, but its image is 96×72"):
        find_labeled(split)[1].read(3)
    Image.fromarray(np.zeros((72, 96, 3), np.uint8)).save(split / "labels" / "p1.png")
    with pytest.raises(InputError, match="not a gray 8-bit image"):
        find_labeled(split)[1].read(3)
    (split / "labels" / "p1.png").write_bytes(b"")
    with pytest.raises(InputError, match="not a gray 8-bit image"):
        count_classes(find_labeled(split), 3)
