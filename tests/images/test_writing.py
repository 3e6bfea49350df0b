"""Files are written completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from derain import files, images
from derain.errors import OutputError


def test_writing_is_atomic(photo, tmp_path: Path):
    image = images.from_pil(Image.fromarray(photo))
    output = tmp_path / "new" / "a.png"
    image.save(output)
    with pytest.raises(OutputError, match="exists"):
        image.save(output)
    image.save(output, overwrite=True)
    with pytest.raises(OutputError, match="cannot write"):
        image.save(tmp_path / "a.xyz")
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        image.save(blocked / "a.png")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.png", "file", "new"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        files.write_bytes(b"data", tmp_path / "a.png", overwrite=False)
    assert list(tmp_path.iterdir()) == []
