"""``derain run`` on clips."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

from derain import Derainer  # noqa: E402
from derain.video.clip import parts_folder  # noqa: E402
from derain.video.yuv import layout_of, read_planes  # noqa: E402
from support.clips import decoded, make_clip  # noqa: E402


def test_images_and_clips_in_one_call(command, source, tmp_path, photo):
    Image.fromarray(photo[:64, :96]).save(tmp_path / "photo.png")
    (tmp_path / "bad.mp4").write_bytes(b"")
    out = tmp_path / "out"
    code, text, err = command("run", tmp_path / "photo.png", source, tmp_path / "bad.mp4", "-o", out, "--compare")
    assert code == 1
    assert err.strip().count("\n") == 0
    assert "bad.mp4" in err
    assert sorted(p.name for p in out.iterdir()) == [
        "clip.mp4",
        "clip_compare.mp4",
        "photo.png",
        "photo_compare.jpg",
    ]
    assert "25 frames" in text
    assert text.strip().splitlines()[-1] == "2 derained, 1 failed"
    assert command("run", source, "-o", out / "clip.mp4")[0] == 1  # exists
    code, text, _ = command("run", source, "-o", out, "--overwrite", "--start", "0.2", "--end", "0.4", "--json")
    record = json.loads(text)
    assert (code, record["frames"], record["resumed"], record["notes"]) == (0, 5, 0, [])


def test_the_default_output_lies_beside_the_clip(command, source):
    assert command("run", source, "--frame-by-frame")[0] == 0
    assert source.with_name("clip_derained.mp4").exists()
    assert command("run", source, "-o", source, "--overwrite")[0] == 1


def test_the_command_gives_the_network_result(command, source, tmp_path, small_weight):
    output = tmp_path / "derained.mkv"
    assert command("run", source, "-o", output, "--codec", "ffv1", "--frame-by-frame")[0] == 0
    with av.open(str(source)) as before, av.open(str(output)) as after:
        old, new = next(before.decode(video=0)), next(after.decode(video=0))
    layout = layout_of(old)
    rgb = np.clip(layout.rgb(read_planes(old)), 0, 1)
    expected = layout.changed(read_planes(old), Derainer(small_weight)(rgb) - rgb)
    for actual, target in zip(read_planes(new), expected, strict=True):
        assert np.abs(actual.astype(int) - target).max() <= 1


def test_missing_pyav_is_a_one_line_error(command, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    code, _, err = command("run", source)
    assert code == 1
    assert err.strip() == 'error: clips need PyAV; install it: pip install "derain[video]"'


@pytest.mark.slow
def test_an_interrupted_run_keeps_segments_and_resumes(tmp_path, photo, small_weight):
    source = make_clip(tmp_path / "clip.mp4", [photo[i % 40 : i % 40 + 64, :96] for i in range(400)])
    output = tmp_path / "derained.mp4"
    words = [sys.executable, "-m", "derain", "run", str(source), "-o", str(output), "--model", str(small_weight)]
    process = subprocess.Popen([*words, "--frame-by-frame"], stderr=subprocess.PIPE, text=True)
    parts = parts_folder(output)
    for _ in range(6000):
        if (parts / "000000.npz").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues from there" in err
    assert not output.exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".derain-")]
    again = subprocess.run([*words, "--frame-by-frame"], capture_output=True, text=True)
    assert "from an interrupted run" in again.stdout
    assert len(decoded(output)) == 400
    assert not parts.exists()
