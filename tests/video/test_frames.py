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


@pytest.mark.parametrize("fuse", [True, False])
def test_a_broken_frame_is_reported_and_the_others_are_derained(folder, tmp_path, fuse):
    (folder / "003.png").write_bytes(b"")
    sources = sorted(folder.iterdir())
    failed, progress = [], []
    outputs = [tmp_path / "all" / p.name for p in sources]
    count = derain_frames(
        sources,
        outputs,
        lambda frame: frame * np.float32(0.5),
        temporal_fuse=fuse,
        on_error=lambda i, error: failed.append((i, str(error))),
        on_frame=lambda *state: progress.append(state),
    )
    assert count == 7
    assert [i for i, _ in failed] == [3]
    assert "003.png" in failed[0][1]
    assert progress[-1] == (8, 8)
    assert [p.exists() for p in outputs] == [i != 3 for i in range(8)]
    # A later run of some frames gives the same files: the gap separates their neighbors in both.
    again = [tmp_path / "again" / p.name for p in sources]
    selected = [i in (2, 4, 5) for i in range(8)]
    derain_frames(
        sources,
        again,
        lambda frame: frame * np.float32(0.5),
        temporal_fuse=fuse,
        selected=selected,
        on_error=lambda *_: None,
    )
    assert [again[i].read_bytes() == outputs[i].read_bytes() for i in (2, 4, 5)] == [True] * 3


def test_frames_of_another_size_are_derained_apart(folder, tmp_path):
    for i in (4, 5):
        with Image.open(folder / f"{i:03d}.png") as image:
            image.crop((0, 0, 80, 64)).save(folder / f"{i:03d}.png")
    sources = sorted(folder.iterdir())
    outputs = [tmp_path / p.name for p in sources]
    assert derain_frames(sources, outputs, lambda frame: frame) == 8
    assert [Image.open(p).size for p in outputs] == [Image.open(p).size for p in sources]


def test_a_frame_that_cannot_be_written_is_reported(folder, tmp_path):
    sources = sorted(folder.iterdir())
    outputs = [tmp_path / "out" / p.name for p in sources]
    outputs[2].mkdir(parents=True)
    failed = []
    derain_frames(sources, outputs, lambda frame: frame, on_error=lambda i, _: failed.append(i))
    assert failed == [2]
    assert all(p.is_file() for i, p in enumerate(outputs) if i != 2)


def test_the_command_goes_on_after_a_broken_frame(command, folder, tmp_path):
    (folder / "001.png").write_bytes(b"no image")
    (folder / "007.png").unlink()
    (folder / "007.png").symlink_to(tmp_path / "gone.png")
    code, text, err = command("run", folder, "--frames")
    assert code == 1
    assert "001.png" in err
    assert "007.png" in err
    assert "6 frames" in text
    assert len(list((tmp_path / "frames_derained").iterdir())) == 6


def test_frames_are_in_natural_order_and_links_are_frames(command, tmp_path, photo, monkeypatch):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in (1, 2, 9, 10, 11):
        Image.fromarray(np.ascontiguousarray(photo[i : i + 32, :48])).save(folder / f"frame_{i}.png")
    for i in (3, 100):
        (folder / f"frame_{i}.png").symlink_to(folder / "frame_2.png")
    order: list[str] = []

    def record(sources, *args, **options):
        order.extend(path.name for path in sources)
        return derain_frames(sources, *args, **options)

    monkeypatch.setattr("derain.video.frames.derain_frames", record)
    code, text, _ = command("run", folder, "--frames")
    assert (code, "7 frames" in text) == (0, True)
    assert order == [f"frame_{i}.png" for i in (1, 2, 3, 9, 10, 11, 100)]
    assert sorted(p.name for p in (tmp_path / "frames_derained").iterdir()) == sorted(order)


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
