"""``derain bench``: what it counts, prints and writes."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from derain.evaluation.benchmark import measure
from derain.weights.store import manifest


def test_operations_are_counted_by_the_formula(small_weight, tmp_path):
    """Of the tiny U-Net at 64×48: every convolution's kernel × inputs × outputs × places, summed by hand."""
    with_places = [  # (inner, outer, kernel area, places)
        (12, 8, 9, 32 * 24),
        *[(8, 16, 9, 32 * 24), (8, 8, 1, 32 * 24)] * 2,
        (8, 16, 4, 16 * 12),
        *[(16, 32, 9, 16 * 12), (16, 16, 1, 16 * 12)],
        (16, 32, 1, 16 * 12),
        (8, 12, 9, 32 * 24),
    ]
    expected = sum(inner * outer * area * places for inner, outer, area, places in with_places)
    threads = torch.get_num_threads()
    results = measure([str(small_weight)], ["torch"], width=64, height=48, repeats=2, threads=1)
    row = results["rows"][0]
    assert row["gmacs"] == pytest.approx(expected / 1e9)
    assert row["gflops"] == pytest.approx(2 * row["gmacs"] / (row["milliseconds"] / 1000))
    assert row["fastest"] <= row["milliseconds"]
    assert row["of_peak"] == pytest.approx(row["gflops"] / results["peak_gflops"][f"cpu {row['precision']}"])
    assert results["threads"] == 1
    assert torch.get_num_threads() == threads


def test_the_command_prints_and_writes(command, small_weight, tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path))
    file, plot = tmp_path / "x.json", tmp_path / "x.png"
    code, out, err = command(
        "bench", "--model", f"all,{small_weight}", "--size", "32x32", "--repeats", 1, "--json", file, "--plot", plot
    )
    assert (code, err) == (0, "")
    assert "GFLOP/s" in out
    rows = json.loads(file.read_text())["rows"]
    assert [row["model"] for row in rows] == [str(small_weight), *manifest().weights]
    assert [len(row["psnr"]) for row in rows[:2]] == [0, 2]
    assert Image.open(plot).size[0] > 500


def test_wrong_use_is_told(command, small_weight):
    assert "WIDTHxHEIGHT" in command("bench", "--size", "large")[2]
    assert "unknown runtime" in command("bench", "--runtime", "abacus")[2]
    code, _, err = command("bench", "--model", small_weight, "--size", "16x16", "--repeats", 1, "--plot", "x.png")
    assert code == 1
    assert "none of these models has measured figures" in err
