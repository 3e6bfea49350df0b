"""``derain run`` on image files, folders and pipes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derain.sources import find_sources
from derain.weights.manifest import manifest


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """in/a.jpg, in/b.png, in/sub/c.png, in/notes.txt"""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(photo).save(tmp_path / "in" / "a.jpg")
    Image.fromarray(photo).save(tmp_path / "in" / "b.png")
    Image.fromarray(photo).save(tmp_path / "in" / "sub" / "c.png")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_one_file_gets_a_neighbor(command, folder):
    before = (folder / "a.jpg").read_bytes()
    code, out, _ = command("run", folder / "a.jpg")
    assert code == 0
    assert "a_derained.jpg" in out
    assert (folder / "a.jpg").read_bytes() == before
    assert Image.open(folder / "a_derained.jpg").size == Image.open(folder / "a.jpg").size


def test_output_may_be_a_file_of_another_format(command, folder, tmp_path):
    assert command("run", folder / "a.jpg", "-o", tmp_path / "derained.webp")[0] == 0
    assert Image.open(tmp_path / "derained.webp").format == "WEBP"


def test_a_folder_is_mirrored(command, folder, tmp_path):
    code, out, _ = command("run", folder, "-r", "-o", tmp_path / "out")
    assert code == 0
    assert "3 derained" in out
    assert names(tmp_path / "out") == ["a.jpg", "b.png", "sub/c.png"]
    assert command("run", folder, "-o", tmp_path / "flat", "-q")[1] == ""
    assert names(tmp_path / "flat") == ["a.jpg", "b.png"]


def test_globs(command, folder, tmp_path):
    assert command("run", folder / "*.png", "-o", tmp_path / "out")[0] == 0
    assert names(tmp_path / "out") == ["b.png"]


def test_own_outputs_are_not_taken_for_inputs(command, folder):
    assert command("run", folder, "-o", folder / "out", "-r", "--compare")[0] == 0
    found, _ = find_sources([str(folder)], recursive=True, exclude=folder / "out")
    assert [s.relative.name for s in found] == ["a.jpg", "b.png", "c.png"]
    assert command("run", folder, "--compare")[0] == 0
    assert command("run", folder, "--skip-existing")[1].splitlines()[-1] == "0 derained, 2 skipped"


def test_existing_results_are_kept_skipped_or_replaced_as_asked(command, folder, tmp_path):
    out = tmp_path / "out"
    command("run", folder, "-o", out)
    (out / "a.jpg").write_bytes(b"mine")
    code, _, err = command("run", folder, "-o", out)
    assert code == 1
    assert err.count("exists already") == 2
    assert (out / "a.jpg").read_bytes() == b"mine"
    code, text, _ = command("run", folder, "-o", out, "--skip-existing")
    assert (code, text.splitlines()[-1]) == (0, "0 derained, 2 skipped")
    assert command("run", folder, "-o", out, "--overwrite")[0] == 0
    assert (out / "a.jpg").read_bytes() != b"mine"


def test_an_input_is_never_overwritten(command, folder):
    before = (folder / "a.jpg").read_bytes()
    for output in (folder / "a.jpg", folder):
        code, _, err = command("run", folder / "a.jpg", "-o", output, "--overwrite")
        assert code == 1
        assert "would overwrite the input" in err
    assert (folder / "a.jpg").read_bytes() == before


def test_two_inputs_never_share_an_output(command, folder, tmp_path):
    (folder / "sub" / "a.jpg").write_bytes((folder / "a.jpg").read_bytes())
    code, _, err = command("run", folder / "a.jpg", folder / "sub" / "a.jpg", "-o", tmp_path / "out")
    assert code == 1
    assert "another folder" in err
    assert names(tmp_path / "out") == ["a.jpg"]


def test_bad_files_get_a_line_each_and_the_rest_goes_on(command, folder, tmp_path):
    (folder / "empty.png").write_bytes(b"")
    (folder / "half.jpg").write_bytes((folder / "a.jpg").read_bytes()[:2000])
    (folder / "words.png").write_text("not an image")
    (folder / "nothing").mkdir()
    code, out, err = command(
        "run", folder, folder / "missing.jpg", folder / "nothing", folder / "*.gif", "-o", tmp_path / "out"
    )
    assert code == 1
    lines = err.strip().splitlines()
    assert len(lines) == 6
    assert all(line.startswith("error: ") for line in lines)
    for word in ("empty.png", "half.jpg", "words.png", "missing.jpg", "nothing", "*.gif"):
        assert sum(word in line for line in lines) == 1
    assert out.strip().splitlines()[-1] == "2 derained, 6 failed"
    assert names(tmp_path / "out") == ["a.jpg", "b.png"]


def test_json_has_one_object_a_file(command, folder, tmp_path):
    (folder / "z.png").write_bytes(b"")
    _, out, _ = command("run", folder, "-o", tmp_path / "out", "--json", "--compare")
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 3
    good = next(r for r in records if r["input"].endswith("b.png"))
    assert good["size"] == [300, 200]
    assert {"output", "seconds", "model", "compare"} <= good.keys()
    width, height = good["size"]
    assert good["megapixels_per_second"] == pytest.approx(width * height / good["seconds"] / 1e6, rel=0.05)
    assert Image.open(good["compare"]).size[0] > 600
    assert "empty" in next(r for r in records if r["input"].endswith("z.png"))["error"]


def test_jobs_give_the_same_files(command, folder, tmp_path):
    command("run", folder, "-r", "-o", tmp_path / "one")
    command("run", folder, "-r", "-o", tmp_path / "three", "--jobs", "3")
    for name in names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()


def test_wrong_usage_exits_with_2(command, folder):
    assert command("run")[0] == 2
    assert command("run", folder / "a.jpg", "--tile", "big")[0] == 2
    assert command("run", folder / "a.jpg", "--device", "abacus")[0] == 2
    assert command("run", folder / "a.jpg", "--quality", "0")[0] == 2
    assert command("run", folder, "-o", folder / "b.png")[0] == 2
    assert command("run", folder, "-o", folder / "new.png")[0] == 2


def test_verbose_prints_model_and_license(command, folder, small_weight):
    code, out, _ = command("run", folder / "a.jpg", "-v", "--model", "default")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("model default on ")
    assert lines[1] == f"license: {manifest().find('default').license}"
    assert "megapixels/s" in lines[2]
    _, out, _ = command("run", folder / "a.jpg", "-v", "--overwrite", "--model", small_weight)
    assert "license" not in out, "a file has no entry in the manifest"
    assert "license" not in command("run", folder / "a.jpg", "--overwrite", "--model", "default")[1]


def test_an_unknown_model_is_one_line(command, folder):
    code, _, err = command("run", folder / "a.jpg", "--model", "nope")
    assert code == 1
    assert err.startswith("error: unknown model 'nope'; choose one of default")
    assert len(err.strip().splitlines()) == 1


def test_an_unwritable_output_is_one_line(command, folder):
    code, _, err = command("run", folder / "a.jpg", "-o", folder / "notes.txt" / "deep" / "a.png")
    assert code == 1
    assert len(err.strip().splitlines()) == 1


def test_debug_shows_the_traceback(command, folder):
    (folder / "empty.png").write_bytes(b"")
    assert "Traceback" in command("run", folder / "empty.png", "--debug")[2]


# --- separate processes: pipes and interrupts ---


def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "derain", *map(str, arguments)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_pipe(folder, small_weight):
    data = (folder / "b.png").read_bytes()
    out, err = start("run", "-", "--model", small_weight).communicate(data)
    image = Image.open(io.BytesIO(out))
    assert (image.format, image.size) == ("PNG", (300, 200))
    assert b"stdout" in err
    process = start("run", "-", "--model", small_weight)
    out, err = process.communicate(b"")
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"error: stdin: is empty")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_half_written_file(tmp_path, photo, small_weight, kind):
    (tmp_path / "in").mkdir()
    for i in range(40):
        Image.fromarray(np.tile(photo, (3, 3, 1))).save(tmp_path / "in" / f"{i}.png")
    process = start("run", tmp_path / "in", "-o", tmp_path / "out", "--model", small_weight)
    while not (tmp_path / "out").exists() or len(names(tmp_path / "out")) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, kind)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith(b"interrupted")
    left = names(tmp_path / "out")
    assert 0 < len(left) < 40
    for name in left:
        assert not name.startswith(".")
        Image.open(tmp_path / "out" / name).load()
