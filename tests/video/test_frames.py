"""Folders of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derain.errors import InputError
from derain.video.frames import derain_frames


@pytest.fixture
def folder(tmp_path, photo) -> Path:
    """Eight noisy frames of a static scene, 96×64."""
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        noisy = np.clip(photo[:64, :96] + rng.normal(0, 8, (64, 96, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i:03d}.png")
    return folder


def test_selected_frames_equal_those_of_the_whole_sequence(folder, tmp_path):
    sources = sorted(folder.iterdir())
    derained = []

    def network(frame: np.ndarray) -> np.ndarray:
        derained.append(frame)
        return frame * np.float32(0.5)

    everything = [tmp_path / "all" / p.name for p in sources]
    part = [tmp_path / "part" / p.name for p in sources]
    derain_frames(sources, everything, network)
    assert len(derained) == 8
    progress = []
    derain_frames(
        sources, part, network, selected=[i == 6 for i in range(8)], on_frame=lambda *state: progress.append(state)
    )
    assert len(derained) == 8 + 4  # the frame, two neighbors before and one after
    assert progress == [(1, 1)]
    assert [p.name for p in (tmp_path / "part").iterdir()] == ["006.png"]
    assert part[6].read_bytes() == everything[6].read_bytes()


def test_an_unreadable_frame_is_an_error(folder, tmp_path):
    (folder / "003.png").write_bytes(b"")
    sources = sorted(folder.iterdir())
    with pytest.raises(InputError, match=r"003\.png"):
        derain_frames(sources, [tmp_path / p.name for p in sources], lambda frame: frame, temporal_fuse=False)


def test_the_command_derains_a_folder_and_resumes(command, folder, tmp_path):
    code, text, _ = command("run", folder, "--frames")
    assert code == 0
    assert "8 frames" in text
    out = tmp_path / "frames_derained"
    expected = {p.name: p.read_bytes() for p in out.iterdir()}
    assert sorted(expected) == [f"{i:03d}.png" for i in range(8)]
    command("run", folder, "--frames", "--frame-by-frame", "-o", tmp_path / "single")
    steps = [
        np.mean([np.abs(np.diff([np.asarray(Image.open(p), float) for p in sorted(location.iterdir())], axis=0))])
        for location in (tmp_path / "single", out)
    ]
    assert steps[1] < 0.7 * steps[0]  # fusion reduces noise
    # An interrupted run resumes and gives the same files.
    for name in ("003.png", "007.png"):
        (out / name).unlink()
    assert command("run", folder, "--frames")[0] == 1
    code, text, _ = command("run", folder, "--frames", "--skip-existing")
    assert (code, "2 frames" in text) == (0, True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == expected
    assert command("run", folder / "000.png", "--frames")[0] == 1
