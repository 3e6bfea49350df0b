"""``derain eval-segmentation``: mIoU of clean, rainy and derained images."""

from __future__ import annotations

import json

import pytest
from PIL import Image


@pytest.mark.parametrize("name", ["eval-segmentation", "semantics"])
def test_conditions_are_printed_and_written(command, labeled, segmenter, small_weight, tmp_path, name):
    arguments = (name, labeled, "--segmenter", segmenter, "--model", small_weight, "--preset", "light")
    record, sheet = tmp_path / "all.json", tmp_path / "sheet.png"
    code, out, err = command(*arguments, "--json", record, "--sheet", sheet)
    assert code == 1
    assert "v1.png" in err
    assert "mean (mIoU)" in out
    result = json.loads(record.read_text())
    assert result["pictures"] == 2
    assert list(result["conditions"]) == ["clean", "rainy", str(small_weight)]
    assert set(result["conditions"]["rainy"]["iou"]) == {"red", "green", "blue"}
    assert Image.open(sheet).size == (4 * 128, 2 * (2 * 96 + 8))
    code, _, err = command(*arguments, "--json", record)
    assert code == 1
    assert "exists already" in err


def test_an_unknown_model_does_not_stop_the_others(command, labeled, segmenter):
    code, out, err = command("eval-segmentation", labeled, "--segmenter", segmenter, "--model", "nope", "--count", 1)
    assert code == 1
    assert "unknown model 'nope'" in err
    assert "1 images" in out
