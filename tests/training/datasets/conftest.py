"""Clean images and pairs for patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from derain.data.layouts import PairedFolder, find_pairs
from derain.training.datasets.sources import CleanPool


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> CleanPool:
    """Two photographs."""
    folder: Path = tmp_path_factory.mktemp("clean")
    for name in ("coffee", "chelsea"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    return CleanPool((folder,), min_scale=0.5)


@pytest.fixture
def pairs(tmp_path: Path) -> PairedFolder:
    """Three pairs of 24×40; red is the row, green the column, blue the pair; rainy ones are 100 brighter in blue."""
    for part, offset in (("input", 100), ("target", 0)):
        (tmp_path / part).mkdir()
        for number in range(3):
            image = np.zeros((24, 40, 3), np.uint8)
            image[..., 0], image[..., 1] = np.arange(24)[:, None], np.arange(40)
            image[..., 2] = number + offset
            Image.fromarray(image).save(tmp_path / part / f"{number}.png")
    return find_pairs(tmp_path)
