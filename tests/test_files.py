"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from derain import files
from derain.errors import OutputError


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(files.TEMPORARY_PREFIX)]


def test_content_and_permissions(tmp_path):
    previous = os.umask(0o027)
    try:
        files.write_text("größer", tmp_path / "new" / "a.txt")
    finally:
        os.umask(previous)
    assert (tmp_path / "new" / "a.txt").read_bytes() == "größer".encode()
    assert (tmp_path / "new" / "a.txt").stat().st_mode & 0o777 == 0o640
    files.write_json({"a": [1, "ä"]}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"a": [1, "ä"]}
    assert not leftovers(tmp_path)


def test_an_existing_file_is_replaced_only_when_allowed(tmp_path):
    path = tmp_path / "a.bin"
    files.write_bytes(b"old", path)
    with pytest.raises(OutputError, match="exists already"):
        files.write_bytes(b"new", path, overwrite=False)
    assert path.read_bytes() == b"old"
    files.write_bytes(b"new", path)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bin"
    files.write_bytes(b"old", path)

    def write_half() -> None:
        with files.atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"
    assert not leftovers(tmp_path)


def test_the_file_is_not_visible_before_it_is_complete(tmp_path):
    path = tmp_path / "a.bin"
    with files.atomic_path(path) as temporary:
        temporary.write_bytes(b"x" * 100)
        assert temporary.parent == path.parent, "a rename is atomic only within a file system"
        assert temporary.suffix == ".bin"
        assert not path.exists()
    assert path.stat().st_size == 100


def test_what_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        files.write_bytes(b"", tmp_path / "file" / "a.bin")
    with pytest.raises(OutputError, match="No space left"), files.atomic_write(tmp_path / "a.bin"):
        raise OSError(28, "No space left on device")
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_sha256(tmp_path, size):
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "a").write_bytes(content)
    assert files.sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()
