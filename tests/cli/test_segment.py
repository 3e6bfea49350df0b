"""``derain segment``: classes as colored images."""

from __future__ import annotations

import numpy as np
from PIL import Image


def test_classes_are_written_as_colors(command, labeled, segmenter, tmp_path):
    out = tmp_path / "classes"
    arguments = ("segment", labeled / "images", "--segmenter", segmenter, "-o", out)
    code, text, err = command(*arguments)
    assert code == 1
    assert "v1.png" in err
    assert "2 segmented, 1 failed" in text
    image = Image.open(out / "v0.png")
    assert image.size == (128, 96)
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) <= 3
    assert command(*arguments)[2].count("exists already") == 2
    assert command(*arguments, "--overwrite", "-q")[1] == ""


def test_outputs_must_be_a_folder(command, labeled, segmenter, tmp_path, small_weight):
    (tmp_path / "file").write_text("")
    code, _, err = command("segment", labeled / "images", "--segmenter", segmenter, "-o", tmp_path / "file")
    assert code == 1
    assert "is a file" in err
    code, _, err = command("segment", labeled / "images", "--segmenter", small_weight, "-o", tmp_path / "x")
    assert code == 1
    assert "not a segmenter" in err
