"""kill -9 at random moments: no half file, no lost input, nothing is left, and the same command completes the work."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derain.files import TEMPORARY_PREFIX
from support.clips import make_clip

KILLS = 10  # of each kind of work


def write_images(folder: Path, photo: np.ndarray) -> None:
    folder.mkdir()
    for i in range(24):
        Image.fromarray(np.roll(np.tile(photo, (2, 2, 1)), 7 * i, 1)).save(folder / f"{i}.png")


def write_clip(folder: Path, photo: np.ndarray) -> None:
    folder.mkdir()
    frames = [photo[i % 40 : i % 40 + 128, i % 90 : i % 90 + 192] for i in range(250)]
    make_clip(folder / "clip.mp4", frames)


def digests(folder: Path) -> dict[str, str]:
    """The checksum of each finished file in a folder and below; folders of unfinished clips are no results."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not path.name.startswith(TEMPORARY_PREFIX) and not path.parent.name.endswith(".parts")
    }


def has_begun(out: Path) -> bool:
    """Whether the first file is being written, or the first segment of a clip."""
    return any(out.rglob("*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("make", "name", "options"),
    [
        (write_images, "", ["--skip-existing", "--jobs", "2", "--compare"]),
        (write_clip, "clip.mp4", ["--crf", "10"]),
        (write_images, "", ["--frames", "--skip-existing"]),
    ],
    ids=["batch", "clip", "frames"],
)
def test_killed_work(
    tmp_path: Path,
    photo: np.ndarray,
    small_weight: Path,
    make: Callable[[Path, np.ndarray], None],
    name: str,
    options: list[str],
) -> None:
    source, expected, out = tmp_path / "in", tmp_path / "expected", tmp_path / "out"
    make(source, photo)

    def words(output: Path) -> list[str]:
        target = output / name if name else output
        run = [sys.executable, "-m", "derain", "run", str(source / name), "-o", str(target), *options]
        return [*run, "--model", str(small_weight), "-q"]

    inputs = digests(source)
    start = time.monotonic()
    process = subprocess.Popen(words(expected))
    while not expected.exists() or not has_begun(expected):
        time.sleep(0.01)
    begun = time.monotonic()
    assert process.wait() == 0
    duration = time.monotonic() - begun
    assert begun - start < 600
    results = digests(expected)
    rng = np.random.default_rng(0)
    leftovers = finished_early = 0
    for round_ in range(KILLS):
        if finished_early or round_ % 4 == 0:  # from the beginning; else on top of what is there
            subprocess.run(["rm", "-rf", str(out)], check=True)
            finished_early = 0
        known = out.exists() and {path.name for path in out.rglob("*")}
        process = subprocess.Popen(words(out))
        while process.poll() is None and (not out.exists() or {p.name for p in out.rglob("*")} == (known or set())):
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0, duration)) / 2)
        process.kill()
        finished_early = int(process.wait() == 0)
        leftovers += sum(1 for path in out.rglob(f"{TEMPORARY_PREFIX}*"))
        found = digests(out)
        assert found.items() <= results.items(), "a file under its own name is whole"
        assert digests(source) == inputs
    assert subprocess.run(words(out)).returncode == 0
    assert digests(out) == results
    assert not list(out.rglob(f"{TEMPORARY_PREFIX}*"))
    assert not list(out.rglob("*.parts"))
    print(f"{leftovers} temporary files were left")
