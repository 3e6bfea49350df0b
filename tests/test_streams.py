"""Output streams: any encoding, any name, full, closed and impatient ones. Nothing stops a batch."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from derain.cli.main import main
from derain.streams import safe_streams, to_json, write_binary

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX names and shells")
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
BAD_NAME = os.fsdecode(b"caf\xe9 \xff.png") if sys.platform != "win32" else "café.png"


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """Three small images; the names of two are not ASCII."""
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b→日.png", BAD_NAME):
        try:
            Image.fromarray(photo[:16, :16]).save(tmp_path / "in" / name)
        except (OSError, UnicodeError):
            pytest.skip("the file system has no such names")
    return tmp_path / "in"


def read_back(stream: Any) -> bytes:
    stream.flush()
    stream.seek(0)
    return stream.buffer.read()


def run(stdout: Any, stderr: Any, *words: object, weight: Path) -> int:
    """``derain run`` in this process, with these streams as those that it was started with."""
    arguments = ["derain", "run", *map(str, words), "--model", str(weight)]
    with (
        mock.patch.multiple(sys, argv=arguments, stdout=stdout, stderr=stderr),
        pytest.raises(SystemExit) as stop,
    ):
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """New text files by encoding."""
    with ExitStack() as stack:
        count = itertools.count()
        yield lambda encoding: stack.enter_context(open(tmp_path / f"{next(count)}.txt", "w+", encoding=encoding))


@posix_only
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_names_and_arrows_in_every_encoding(folder, tmp_path, small_weight, files, encoding):
    stdout, stderr = files(encoding), files(encoding)
    words = folder, folder / "miss\udcff→.png", "-o", tmp_path / "out"
    assert run(stdout, stderr, *words, weight=small_weight) == 1
    out, err = (read_back(stream).decode(encoding) for stream in (stdout, stderr))
    arrow = "→" if encoding == "utf-8" else "->"
    assert f"{folder}/a.png {arrow} {tmp_path}/out/a.png (" in out
    assert "caf\\xe9 \\xff.png" in out
    assert (f"b{arrow}日" if encoding == "utf-8" else f"b{arrow}\\u65e5") in out
    assert out.splitlines()[-1] == "3 derained, 1 failed"
    assert err == f"error: {folder}/miss\\xff{arrow}.png: no such file; check the name\n"
    assert len(list((tmp_path / "out").iterdir())) == 3


@posix_only
def test_json_gives_the_names_in_every_encoding(folder, tmp_path, small_weight, files):
    stdout = files("latin-1")
    words = folder, folder / "miss→.png", "-o", tmp_path / "out", "--json"
    assert run(stdout, files("latin-1"), *words, weight=small_weight) == 1
    records = [json.loads(line) for line in read_back(stdout).decode("latin-1").splitlines()]
    names = {Path(record["input"]).name for record in records}
    assert names == {"a.png", "b→日.png", BAD_NAME, "miss→.png"}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_json_lines_keep_what_the_stream_can_encode(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    record = {"a": "é→\udcff𝄞"}
    text = to_json(record, stream)
    text.encode(encoding)
    assert json.loads(text) == record
    assert to_json({"a": "é"}, stream) == ('{"a": "\\u00e9"}' if encoding == "ascii" else '{"a": "é"}')


def broken_stream(kind: str) -> Any:
    """A stream to which nothing can be written."""
    if kind == "absent":
        return None
    if kind == "full":
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full")
        return open("/dev/full", "w")
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


FULL = "error: stdout: cannot be written (No space left on device); send it to another place\n"


@posix_only
@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("kind", ["absent", "full", "left"])
def test_a_batch_survives_its_stdout(folder, tmp_path, small_weight, files, kind, options):
    stderr = files("utf-8")
    stdout = broken_stream(kind)
    code = run(stdout, stderr, folder, "-o", tmp_path / "out", *options, weight=small_weight)
    assert len(list((tmp_path / "out").iterdir())) == 3
    for path in (tmp_path / "out").iterdir():
        Image.open(path).load()
    assert (code, read_back(stderr).decode()) == ((1, FULL) if kind == "full" else (0, ""))


@posix_only
@pytest.mark.parametrize("kind", ["absent", "full", "left"])
def test_a_batch_survives_its_stderr(folder, tmp_path, small_weight, files, kind):
    stdout = files("utf-8")
    words = folder, folder / "missing.png", "-o", tmp_path / "out", "--debug"
    assert run(stdout, broken_stream(kind), *words, weight=small_weight) == 1
    assert read_back(stdout).splitlines()[-1] == b"3 derained, 1 failed"


@posix_only
@pytest.mark.parametrize(("kind", "reason"), [("full", "No space"), ("absent", "Bad file"), ("left", "")])
def test_an_image_that_cannot_be_piped_is_a_failure(folder, small_weight, files, kind, reason):
    stderr = files("utf-8")
    assert run(broken_stream(kind), stderr, folder / "a.png", "-o", "-", weight=small_weight) == 1
    err = read_back(stderr).decode()
    assert len(err.splitlines()) == (1 if reason else 0)
    assert reason in err


@posix_only
@needs_full
@pytest.mark.parametrize("words", [["--help"], ["run", "missing.png"]])
def test_the_interpreter_ends_without_a_word_about_its_streams(words):
    command = [sys.executable, "-m", "derain", *words]
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    expected = "error: missing.png: no such file; check the name\n" if "run" in words else FULL
    assert (result.returncode, result.stderr) == (1, expected)
    closed = subprocess.run(["bash", "-c", '"$@" <&- >&- 2>&-', "bash", *command])
    assert closed.returncode == int("run" in words)


@posix_only
def test_closed_streams_never_become_files(folder, tmp_path, small_weight):
    """A file opened as number 1 or 2 would receive what libraries print."""
    code = (
        "import os, sys\n"
        "from derain.streams import safe_streams\n"
        "with safe_streams():\n"
        "    number = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "    os.write(1, b'noise'); os.write(2, b'noise')\n"
        "    print('lost'); print('lost', file=sys.stderr)\n"
        "    os.write(number, str(number).encode())"
    )
    path = tmp_path / "result"
    subprocess.run(["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-c", code, str(path)])
    assert int(path.read_text()) > 2


@posix_only
def test_a_full_pipe_that_does_not_block_is_waited_for(monkeypatch):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))
    parts: list[bytes] = []

    def read_slowly() -> None:
        time.sleep(0.2)
        while part := os.read(reader, 2**16):
            parts.append(part)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    data = bytes(range(256)) * 2**12  # 1 MB, more than a pipe holds
    with safe_streams() as exit_code:
        print("first")
        write_binary(data)
        assert exit_code(0) == 0
    sys.stdout.close()
    thread.join()
    os.close(reader)
    assert b"".join(parts) == b"first\n" + data


def test_streams_in_memory_stay_and_the_others_come_back(monkeypatch):
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stdout", memory)
    before = sys.stderr
    with safe_streams() as exit_code:
        assert sys.stdout is memory
        print("x → y")
        assert exit_code(3) == 3
    assert sys.stderr is before
    assert memory.getvalue() == "x → y\n"
