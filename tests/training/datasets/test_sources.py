"""Sources of images: pools, a bounded cache, unreadable files."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from derain.errors import InputError
from derain.training.datasets.pairs import PairPatches
from derain.training.datasets.patches import RainOnTheFly
from derain.training.datasets.sources import CleanPool


def test_the_cache_is_bounded_and_changes_nothing(pool, monkeypatch):
    patches = [RainOnTheFly([pool], {"none": 1})[n, 32][0] for n in range(6)]
    monkeypatch.setattr("derain.training.datasets.sources.CACHE_BYTES", 1)
    tight = RainOnTheFly([pool], {"none": 1})
    assert all(torch.equal(tight[n, 32][0], patch) for n, patch in enumerate(patches))
    assert len(tight.cache) == 1


def test_unreadable_images_are_reported_once_and_left_out(pool, pairs, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "broken.png").write_bytes(b"rubbish")
    patches = RainOnTheFly([CleanPool((broken,)), pool], {"none": 1})
    assert len([patches[n, 16] for n in range(20)]) == 20
    assert capsys.readouterr().err.count("broken.png") == 1
    Image.new("RGB", (20, 20)).save(tmp_path / "target" / "1.png")
    for stride in (None, 8):
        remaining = PairPatches([pairs], stride=stride)
        blue = {int((remaining[n, 16][1][2, 0, 0] * 255).round()) for n in range(12)}
        assert blue == {0, 2}
        assert capsys.readouterr().err.count("differs") == 1
    with pytest.raises(InputError, match="1 images cannot be read"):
        RainOnTheFly([CleanPool((broken,))], {"none": 1})[0, 16]


def test_an_empty_pool_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no images here"):
        CleanPool((tmp_path,)).files()
