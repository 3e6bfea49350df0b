"""Which files a folder, a glob or a name gives, and where results go."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from derain import images
from derain.cli.inputs import short_names
from derain.errors import InputError, OutputError
from derain.files import temporary_prefix
from derain.sources import READABLE, Source, find_sources, is_file_path, output_paths
from support.permissions import enforced_modes

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX links and permissions")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(*inputs: object, recursive: bool = False, output: Path | None = None) -> list[str]:
    sources, errors = find_sources([str(text) for text in inputs], recursive=recursive, exclude=output)
    assert not errors
    return [source.relative.as_posix() for source in sources]


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".jfif", "JPEG"), (".jpe", "JPEG"), (".mpo", "MPO"), (".jp2", "JPEG2000"), (".gif", "GIF")]
)
def test_folders_take_all_formats_that_are_read(command, folder, photo, suffix, kind):
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("Pillow without JPEG 2000")
    file = io.BytesIO()
    image = Image.fromarray(photo[:40, :60])
    image.save(file, kind, **({"save_all": True, "append_images": [image]} if kind == "MPO" else {}))
    (folder / f"x{suffix.upper()}").write_bytes(file.getvalue())
    assert command("run", folder)[0] == 0
    # What was a JPEG stays one; the others become PNG.
    result = folder / ("x_derained.jpg" if kind in ("JPEG", "MPO") else "x_derained.png")
    with Image.open(result) as derained:
        assert derained.size == (60, 40)
        assert derained.format == ("JPEG" if result.suffix == ".jpg" else "PNG")


def test_formats_to_read_include_those_to_write():
    assert images.FORMATS.keys() < READABLE
    for suffix in READABLE - images.FORMATS.keys():
        with pytest.raises(OutputError):
            images.format_for(Path(f"x{suffix}"))


def test_hidden_and_system_folders_are_not_searched(folder):
    touch(folder, "a.png", ".hidden.png", "sub/b.png", ".thumbs/c.png", "sub/@eaDir/d.png", "lost+found/e.png")
    touch(folder, "#recycle/f.png", "__MACOSX/g.png", "sub/.x/y/h.png")
    assert found(folder, recursive=True) == ["a.png", "sub/b.png"]
    assert found(folder / ".thumbs") == ["c.png"], "named, it is meant"
    assert found(folder / "sub" / "@eaDir") == ["d.png"]
    assert found(f"{folder}/**/*.png") == ["a.png", "b.png"]
    assert found(f"{folder}/sub/@eaDir/*.png") == ["d.png"]


def test_own_files_that_end_like_outputs(folder, tmp_path):
    touch(folder, "a.png", "a_derained.png", "my_compare.png", "sub/my_reference.png", "sub/b_rainmask.png")
    everything = ["a.png", "a_derained.png", "my_compare.png", "sub/b_rainmask.png", "sub/my_reference.png"]
    pattern = f"{folder}/**/*.png"
    # Beside the inputs, they are taken for outputs of earlier runs …
    assert found(folder, recursive=True) == ["a.png"]
    assert found(folder, recursive=True, output=folder) == ["a.png"]
    assert found(pattern) == ["a.png"]
    # … elsewhere they are the user's files.
    assert found(folder, recursive=True, output=tmp_path / "out") == everything
    assert found(folder, recursive=True, output=folder / "out") == everything
    assert found(pattern, output=tmp_path / "out") == [Path(name).name for name in everything]
    assert found(folder / "my_compare.png") == ["my_compare.png"], "named, it is meant"


def test_the_output_folder_is_not_an_input_unless_the_inputs_lie_in_it(folder):
    touch(folder, "a.png", "out/a.png", "out/raw/b.png")
    assert found(folder, recursive=True, output=folder / "out") == ["a.png"]
    assert found(f"{folder}/**/*.png", output=folder / "out") == ["a.png"]
    assert found(folder / "out" / "raw", output=folder / "out") == ["b.png"]
    assert found(f"{folder}/out/raw/*.png", output=folder / "out") == ["b.png"]


@pytest.mark.parametrize("pattern", ["", "/**/*.png"])
def test_folders_that_cannot_be_listed_are_reported(command, folder, photo, tmp_path, pattern):
    (folder / "closed" / "below").mkdir(parents=True)
    Image.fromarray(photo[:16, :16]).save(folder / "a.png")
    (folder / "closed").chmod(0)
    try:
        with enforced_modes():
            code, out, err = command("run", f"{folder}{pattern}", "-r", "-o", tmp_path / "out")
            assert found(folder) == ["a.png"], "without -r the subfolder is nobody's concern"
    finally:
        (folder / "closed").chmod(0o755)
    assert code == 1
    assert err == f"error: {folder / 'closed'}: cannot be listed (Permission denied); check its permissions\n"
    assert out.splitlines()[-1] == "1 derained, 1 failed"


def test_a_folder_that_may_be_listed_but_not_searched(command, folder, photo, tmp_path):
    (folder / "half").mkdir()
    for path in (folder / "a.png", folder / "half" / "b.png"):
        Image.fromarray(photo[:16, :16]).save(path)
    (folder / "half").chmod(0o600)
    try:
        with enforced_modes():
            code, _, err = command("run", folder, folder / "half" / "c.png", "-r", "-o", tmp_path / "out")
            into = command("run", folder / "a.png", "-o", folder / "half" / "a.png")
            as_folder = command("run", folder / "a.png", "-o", folder / "half" / "new")
    finally:
        (folder / "half").chmod(0o755)
    assert code == 1
    assert len(err.splitlines()) == 2
    assert all("(Permission denied)" in line for line in err.splitlines())
    assert (tmp_path / "out" / "a.png").exists(), "the rest is done"
    for code, _, err in (into, as_folder):
        assert code == 1
        assert len(err.splitlines()) == 1
        assert "(Permission denied)" in err


@posix_only
def test_links(folder, tmp_path):
    touch(tmp_path, "elsewhere/real.png", "elsewhere/tree/c.png")
    (folder / "one.png").symlink_to(tmp_path / "elsewhere" / "real.png")
    (folder / "two.png").symlink_to(tmp_path / "elsewhere" / "real.png")
    (folder / "lost.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "folder.png").symlink_to(tmp_path / "elsewhere" / "tree")
    os.mkfifo(folder / "pipe.png")
    assert found(folder, recursive=True) == ["loop.png", "lost.png", "one.png", "two.png"]
    assert found(folder / "one.png", folder, folder / ".." / "in" / "one.png") == [
        *("one.png", "loop.png", "lost.png", "two.png"),
    ]


@posix_only
def test_links_to_nothing_are_reported(command, folder, photo, tmp_path):
    Image.fromarray(photo[:16, :16]).save(folder / "a.png")
    (folder / "lost.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    code, out, err = command("run", folder, "-o", tmp_path / "out")
    assert code == 1
    assert sorted(err.splitlines()) == [
        f"error: {folder}/loop.png: cannot be read (Too many levels of symbolic links); check its name and permissions",
        f"error: {folder}/lost.png: links to nowhere.png, which does not exist; restore that file",
    ]
    assert out.splitlines()[-1] == "1 derained, 2 failed"


def test_temporary_files_are_never_inputs(folder):
    touch(folder, "a.png", f"{temporary_prefix()}x.png")
    assert found(folder) == ["a.png"]
    assert found(f"{folder}/[.a]*.png") == ["a.png"]
    _, errors = find_sources([str(folder / f"{temporary_prefix()}x.png")], recursive=False)
    assert isinstance(errors[0], InputError)


@pytest.mark.parametrize("name", ["x.gif", "x.JP2", "x.jfif", "x.mpo", "x.pdf", "x.dng", "x.exr", "x.svg", "x.apng"])
def test_an_output_in_another_format_is_an_error_and_no_folder(command, folder, photo, tmp_path, name):
    Image.fromarray(photo[:16, :16]).save(folder / "a.png")
    suffix = Path(name).suffix
    for inputs in ([folder / "a.png"], [folder], [folder / "a.png", folder / "*.png"]):
        code, _, err = command("run", *inputs, "-o", tmp_path / name)
        assert code == 1
        assert err == f"error: {tmp_path / name}: cannot write {suffix}; use .jpg, .png, .webp or .tif\n"
    code, _, err = command("run", folder, "--frames", "-o", tmp_path / name)
    assert (code, "names a file" in err) == (1, True)
    Image.fromarray(photo[:16, :16]).save(folder / "b.png")
    code, _, err = command("run", folder, "-o", tmp_path / name)
    assert (code, f"cannot write {suffix}" in err) == (1, True)
    assert not (tmp_path / name).exists()


def test_what_names_a_file(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name in ("folder.png", "2024.05", "v1.2", "derained", "my.photos"):
        assert not is_file_path(tmp_path / name)
    for name in ("a.png", "a.gif", "a.mp4", "a.avi"):
        assert is_file_path(tmp_path / name)


def test_a_name_that_is_too_long_for_the_file_system(command, folder, photo):
    stem = "雨" * 82  # 246 bytes; with _derained and the suffix more than 255
    Image.fromarray(photo[:16, :16]).save(folder / "a.png")
    try:
        Image.fromarray(photo[:16, :16]).save(folder / f"{stem}.png")
    except OSError:
        pytest.skip("the file system has shorter names")
    code, out, err = command("run", folder)
    if code == 0:
        pytest.skip("the file system has longer names")
    assert (code, len(err.splitlines()), out.splitlines()[-1]) == (1, 1, "1 derained, 1 failed")
    assert f"{stem}_derained.png: cannot be written (File name too long); choose another name or folder" in err
    assert command("run", folder, "-o", folder / "out", "-q") == (0, "", "")
    assert (folder / "out" / f"{stem}.png").exists()
    code, _, err = command("run", folder, "-o", folder / "out", "--overwrite", "--compare")
    assert (code, len(err.splitlines())) == (1, 1), "the sheet's name is too long"
    code, _, err = command("run", "雨" * 100 + ".png")
    assert (code, len(err.splitlines()), "File name too long" in err) == (1, 1, True)


@posix_only
def test_every_reader_takes_names_that_are_not_utf_8(command, folder, tmp_path):
    """OpenCV, which reads 16-bit PNG files, crashes on them."""
    pixels = np.random.default_rng(0).integers(0, 65536, (16, 24, 3), dtype=np.uint16)
    picture = images.Picture(pixels, depth=16)
    try:
        for name in (b"a\xff.png", b"b\xff.tif"):
            picture.save(folder / os.fsdecode(name))
        Image.fromarray((pixels >> 8).astype(np.uint8)).save(folder / os.fsdecode(b"c\xff.jpg"))
    except (OSError, OutputError):
        pytest.skip("the file system has no such names")
    assert command("run", folder, "-o", tmp_path / "out", "-q") == (0, "", "")
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == [b"a\xff.png", b"b\xff.tif", b"c\xff.jpg"]
    assert images.read(tmp_path / "out" / os.fsdecode(b"a\xff.png")).depth == 16


def frames(folder: Path, count: int, **shift: int) -> list[np.ndarray]:
    """Frames of a noise scene, each with its own brightness."""
    rng = np.random.default_rng(0)
    scene = rng.integers(40, 160, (24, 32, 3))
    return [(scene + 3 * i).astype(np.uint8) for i in range(count)]


def test_frames_are_ordered_by_number(command, folder, tmp_path):
    """The results equal those of the same frames with padded numbers."""
    padded = tmp_path / "padded"
    padded.mkdir()
    for i, pixels in enumerate(frames(folder, 12)):
        Image.fromarray(pixels).save(folder / f"frame_{i}.png")
        Image.fromarray(pixels).save(padded / f"frame_{i:03d}.png")
    for source in (folder, padded):
        assert command("run", source, "--frames")[0] == 0
    for i in range(12):
        result = (tmp_path / "in_derained" / f"frame_{i}.png").read_bytes()
        assert result == (tmp_path / "padded_derained" / f"frame_{i:03d}.png").read_bytes()


@posix_only
def test_links_among_frames(command, folder, tmp_path):
    """A frame that is held, as a link to the one before it, is a frame; a link to nothing is reported."""
    for i, pixels in enumerate(frames(folder, 2)):
        Image.fromarray(pixels).save(folder / f"{2 * i}.png")
        (folder / f"{2 * i + 1}.png").symlink_to(f"{2 * i}.png")
    code, out, _ = command("run", folder, "--frames", "--frame-by-frame")
    assert (code, "4 frames" in out) == (0, True)
    results = [(tmp_path / "in_derained" / f"{i}.png").read_bytes() for i in range(4)]
    assert results[0] == results[1] != results[2] == results[3]
    (folder / "4.png").symlink_to("5.png")
    code, out, err = command("run", folder, "--frames", "-o", tmp_path / "other")
    assert (code, "4 frames" in out) == (1, True)
    assert err == f"error: {folder}/4.png: links to 5.png, which does not exist; restore that file\n"


def test_the_current_folder_as_frames(command, folder, tmp_path, monkeypatch):
    Image.fromarray(frames(folder, 1)[0]).save(folder / "1.png")
    monkeypatch.chdir(folder)
    assert command("run", ".", "--frames")[0] == 0
    assert (tmp_path / "in_derained" / "1.png").exists()


def test_output_paths_keep_the_tree():
    sources = [Source(Path("in/sub/a.jpe"), Path("sub/a.jpe")), Source(Path("c.wmv"), Path("c.wmv"))]
    assert output_paths(sources, Path("out")) == [Path("out/sub/a.jpg"), Path("out/c.mkv")]


def test_short_names():
    assert short_names(["/x/sets/a", "/x/sets/b"]) == {"/x/sets/a": "a", "/x/sets/b": "b"}
    assert short_names(["x/a", "y/a", "b"]) == {"x/a": "x/a", "y/a": "y/a", "b": "b"}
    assert short_names(["p/x/a", "p/y/a"]) == {"p/x/a": "x/a", "p/y/a": "y/a"}
    assert short_names(["a", "x/a"]) == {"a": "a", "x/a": "x/a"}
