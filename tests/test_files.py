"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

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


def temporary_name(process: int, *, start: str = "", machine: str | None = None) -> str:
    """The name of a temporary file of another process."""
    own = files.temporary_prefix()[len(files.TEMPORARY_PREFIX) :].split("-")
    return f"{files.TEMPORARY_PREFIX}{machine or own[0]}-{process}-{start}-abcd.png"


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from derain import files\n"
        "with files.atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")])
    (left,) = tmp_path.iterdir()
    assert files.is_temporary(left)
    files.write_bytes(b"whole", tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]


def test_only_temporary_files_of_processes_that_are_gone_are_removed(tmp_path):
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    day_ago = time.time() - 90_000
    kept = [
        temporary_name(running.pid),
        temporary_name(os.getpid()),
        temporary_name(os.getppid()),
        temporary_name(ended_process(), machine="0" * 8),
        ".derain-notes.png",
        ".derain-0-1-2-3",
        "a.png",
    ]
    removed = [
        temporary_name(ended_process()),
        temporary_name(2**40),
        temporary_name(ended_process(), machine="1" * 8),
        f"{temporary_name(ended_process())}.folder",
    ]
    if sys.platform == "linux":
        removed.append(temporary_name(running.pid, start="1"))  # an earlier process had that number
    for name in [*kept, *removed]:
        if name.endswith(".folder"):
            (tmp_path / name / "below").mkdir(parents=True)
        else:
            (tmp_path / name).touch()
    os.utime(tmp_path / removed[2], (day_ago, day_ago))
    try:
        with files.atomic_path(tmp_path / "own.png") as own:
            files.remove_stale(tmp_path)
            assert {path.name for path in tmp_path.iterdir()} == {*kept, own.name}
    finally:
        running.communicate(b"\n")
    files.remove_stale(tmp_path)
    assert not (tmp_path / kept[0]).exists()
    files.remove_stale(tmp_path / "missing")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_killed_process_that_nobody_has_waited_for_is_gone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / temporary_name(process.pid)).touch()
    process.kill()
    for _ in range(500):
        files.remove_stale(tmp_path)
        if not list(tmp_path.iterdir()):
            break
        time.sleep(0.01)
    assert not list(tmp_path.iterdir())
    process.communicate()


def test_names_that_no_file_can_have_are_output_errors(tmp_path):
    with pytest.raises(OutputError, match="File name too long"):
        files.check_output(tmp_path / ("a" * 300), overwrite=True)
    with pytest.raises(OutputError, match="File name too long"):
        files.write_bytes(b"", tmp_path / ("a" * 300))
    assert not files.output_exists(tmp_path / "a")
    (tmp_path / "file").touch()
    assert files.output_exists(tmp_path / "file")
    assert not files.output_exists(tmp_path / "file" / "a")


def test_names_that_are_not_utf_8_can_be_stored_as_json(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    files.write_json({"name": name, "é": 1}, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": name, "é": 1}


def test_threads_leave_the_umask_as_it_was(tmp_path):
    before = os.umask(0o022)
    os.umask(before)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: files.write_bytes(b"", tmp_path / str(i)), range(200)))
    assert os.umask(before) == before
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~before}
