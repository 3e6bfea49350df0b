"""Clips that several tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def moving(photo) -> list[np.ndarray]:
    """A pan of 25 frames, 96×64."""
    return [photo[20:84, 2 * i : 2 * i + 96] for i in range(25)]


@pytest.fixture
def source(tmp_path, moving) -> Path:
    """The pan as an MP4 file with sound."""
    pytest.importorskip("av")
    from support.clips import make_clip

    return make_clip(tmp_path / "clip.mp4", moving, audio="aac")
