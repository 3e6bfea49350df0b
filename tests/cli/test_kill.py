"""kill -9 at random moments: no half file, no lost input, nothing is left, and the same command completes the work."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
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
    make_clip(folder / "clip.mkv", frames)


def content(path: Path) -> bytes:
    """What must be equal in two runs: of a clip the packets, since Matroska has a random number for each file."""
    if path.suffix != ".mkv":
        return path.read_bytes()
    with av.open(str(path)) as container:
        return b"".join(f"{packet.pts},{packet.size}:".encode() + bytes(packet) for packet in container.demux())


def digests(folder: Path) -> dict[str, str]:
    """The checksum of each finished file in a folder and below; folders of unfinished clips are no results."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(content(path)).hexdigest()
        for path in files
        if not path.name.startswith(TEMPORARY_PREFIX) and not path.parent.name.endswith(".parts")
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("make", "name", "options"),
    [
        (write_images, "", ["--skip-existing", "--jobs", "2", "--compare"]),
        (write_clip, "clip.mkv", ["--codec", "ffv1"]),
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
    process = subprocess.Popen(words(expected))
    while not any(expected.rglob("*")):
        time.sleep(0.01)
    begun = time.monotonic()
    assert process.wait() == 0
    duration = time.monotonic() - begun
    results = digests(expected)
    rng = np.random.default_rng(0)
    found: dict[str, str] = {}
    for number in range(KILLS):
        if found == results or number % 4 == 0:  # from the beginning; else on top of what is there
            shutil.rmtree(out, ignore_errors=True)
        known = set(out.rglob("*"))
        process = subprocess.Popen(words(out))
        while process.poll() is None and set(out.rglob("*")) == known:
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0, duration)) / 2)
        process.kill()
        process.wait()
        found = digests(out)
        assert found.items() <= results.items(), "a file under its own name is whole"
        assert digests(source) == inputs
    if found == results:
        shutil.rmtree(out)
    assert subprocess.run(words(out)).returncode == 0
    assert digests(out) == results
    assert not [path for path in out.rglob("*") if path.name.startswith(TEMPORARY_PREFIX) or path.suffix == ".parts"]
