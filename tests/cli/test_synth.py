"""``derain synth``: seeded pairs of rainy and clean images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path, photo):
    """in/a.jpg, in/b.png, in/sub/c.png"""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "sub/c.png"):
        Image.fromarray(photo).save(tmp_path / "in" / name)
    return tmp_path / "in"


def test_pairs_are_seeded(command, folder, tmp_path):
    arguments = ("synth", folder, "-r", "--preset", "heavy", "--n-per-image", "2", "--seed", "3", "-q")
    assert command(*arguments, "-o", tmp_path / "x")[0] == 0
    assert command(*arguments, "-o", tmp_path / "y")[0] == 0
    found = sorted(str(p.relative_to(tmp_path / "x")) for p in (tmp_path / "x").rglob("*") if p.is_file())
    assert len(found) == 13
    assert "input/sub/c_2.png" in found
    for name in found:
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    assert manifest["seed"] == 3
    for pair in manifest["pairs"]:
        rainy, clean = (np.asarray(Image.open(tmp_path / "x" / pair[k])).astype(int) for k in ("input", "target"))
        assert (rainy >= clean).all()
        assert (rainy > clean).mean() > 0.1
    first, second = (Image.open(tmp_path / "x" / "input" / f"b_{i}.png") for i in (1, 2))
    assert first.tobytes() != second.tobytes()


def test_bad_images_and_outputs_are_reported(command, folder, tmp_path):
    assert command("synth", folder, "-o", tmp_path / "x", "--preset", "frogs")[0] == 2
    (folder / "empty.png").write_bytes(b"")
    code, out, err = command("synth", folder, "-o", tmp_path / "x")
    assert code == 1
    assert err.count("error: ") == 1
    assert out.splitlines()[-1] == "2 written, 1 failed"
    code, _, err = command("synth", folder, "-o", folder / "a.jpg")
    assert code == 1
    assert "is a file" in err
