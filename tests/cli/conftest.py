"""A labeled set and a segmenter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from derain.segmentation import create_segmenter
from derain.weights.store import SEGMENTER, save_file
from support.labels import blocks, write_split


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """A split of three labeled images of 96×128; one image is damaged."""
    split = write_split(tmp_path / "camvid" / "val", {f"v{i}": blocks(10 + i, side=16) for i in range(3)})
    (split / "images" / "v1.png").write_bytes(b"no image")
    return split


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained segmenter of three classes, as a file for ``--segmenter``."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("segmenter") / "segmenter.safetensors"
    origin = {"kind": SEGMENTER, "classes": json.dumps(["red", "green", "blue"])}
    settings = {"classes": 3}
    save_file(create_segmenter("compact", **settings), path, model="compact", settings=settings, origin=origin)
    return path
