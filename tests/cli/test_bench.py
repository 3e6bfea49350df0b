"""``derain bench``: what it prints and writes."""

from __future__ import annotations

import json

from PIL import Image

from derain.weights.manifest import manifest


def test_the_command_prints_and_writes(command, small_weight, tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path))
    file, plot = tmp_path / "x.json", tmp_path / "x.png"
    code, out, err = command(
        "bench", "--model", f"all,{small_weight}", "--size", "32x32", "--repeats", 1, "--json", file, "--plot", plot
    )
    assert (code, err) == (0, "")
    assert "GFLOP/s" in out
    rows = json.loads(file.read_text())["rows"]
    assert [row["model"] for row in rows] == [str(small_weight), *manifest().models]
    assert [len(row["psnr"]) for row in rows[:2]] == [0, 2]
    assert Image.open(plot).size[0] > 500


def test_wrong_usage_is_reported(command, small_weight):
    assert "WIDTHxHEIGHT" in command("bench", "--size", "large")[2]
    assert "unknown runtime" in command("bench", "--runtime", "abacus")[2]
    code, _, err = command("bench", "--model", small_weight, "--size", "16x16", "--repeats", 1, "--plot", "x.png")
    assert code == 1
    assert "none of these models has measured figures" in err
