"""The whole product on files of many kinds, and the comparison that would find what it loses."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derain import Derainer, images
from derain.errors import InputError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import corpus  # noqa: E402
import corpus_files  # noqa: E402
import corpus_page  # noqa: E402

UNREADABLE = ("truncated-", "empty", "text", "two-frames", "tiff-F-", "spider-F")


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    path = corpus.identity_network(tmp_path_factory.mktemp("identity") / "identity.safetensors")
    return Derainer(path, device="cpu")


@pytest.fixture(scope="module")
def rows(tmp_path_factory, identity):
    folder = tmp_path_factory.mktemp("corpus")
    count = corpus_files.generate(folder)
    found = corpus.run_folder(folder, identity)
    assert len(found) == count >= 500
    return {row.file: row for row in found}


@pytest.fixture(scope="module")
def done(rows):
    return {name: row for name, row in rows.items() if row.outcome == "ok"}


def test_nothing_is_found(rows):
    assert {name: row.finding for name, row in rows.items() if row.finding} == {}


def test_all_files_are_done_except_those_that_cannot_be(rows):
    failed = {name for name, row in rows.items() if row.outcome != "ok"}
    # What is cut off of an MPO is its second image.
    assert failed == {name for name in rows if name.startswith(UNREADABLE)} - {"truncated-2.jpeg"}
    assert {rows[name].outcome for name in failed} == {"error"}


def test_size_orientation_depth_and_alpha_are_kept(done):
    assert {name for name, row in done.items() if "→" in row.size + row.orientation + row.depth} == set()
    # Pillow does not read the alpha that it writes into a BMP.
    assert {name for name, row in done.items() if "→" in row.alpha} == {"bmp-RGBA-96.bmp", "bmp-RGBA-300.bmp"}
    for kind, mode in (("jpeg", "RGB"), ("png", "I;16"), ("tiff", "CMYK"), ("webp", "RGBA")):
        suffix = {"jpeg": "jpg", "tiff": "tif"}.get(kind, kind)
        for number in range(1, 9):
            row = done[f"{kind}-{mode}-orientation{number}.{suffix}"]
            assert row.size == ("26×18" if number < 5 else "18×26")
    assert done["png-16bit4-icc.png"].depth == done["tiff-16bit3-planes.tif"].depth == "16"
    assert done["clip-rotated.mp4"].orientation == "90"
    assert done["png-P-alphas.png"].alpha == done["clip-png-alpha.mov"].alpha == "yes"


def test_lossless_formats_change_no_pixel(done):
    lossless = ("png-", "tiff-", "bmp-", "gif-", "jp2-", "tga-", "ppm-", "sgi-", "clip-ffv1", "clip-png", "clip-qtrle")
    found = {name: row for name, row in done.items() if name.startswith(lossless) and "LAB" not in name}
    assert len(found) > 300
    assert {name: row.difference for name, row in found.items() if row.difference != 0} == {}
    others = [row for name, row in done.items() if name not in found and "LAB" not in name]
    assert all(0 <= row.difference <= row.allowed < 9 for row in others)
    assert all(math.isnan(row.difference) for name, row in done.items() if "LAB" in name), "Pillow cannot convert it"


def test_no_metadata_is_lost_without_a_note(done):
    silent = {name: row.lost for name, row in done.items() if row.lost and not row.notes}
    # A profile of LAB has no place in the RGB result.
    assert {name for name in silent if "LAB" not in name} == set()
    changed = {row.changed for row in done.values()}
    assert changed == {"", "thumbnail"}


@pytest.fixture
def folder(tmp_path):
    block = corpus_files.exif(6)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(corpus_files.saved(corpus_files.image("RGBA"), "PNG", exif=block))
    (tmp_path / "in" / "b.jpg").write_bytes(corpus_files.saved(corpus_files.image("RGB"), "JPEG", quality=95))
    (tmp_path / "in" / "c.txt").write_text("not an image", encoding="utf-8")
    return tmp_path / "in"


def faulty(change):
    """The product with a fault: its results are changed before they are written."""

    def process(path, output, derainer):
        image = change(derainer(path))
        image.save(output, overwrite=True)
        return image.notes

    return process


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        (lambda i: replace(i, values=np.clip(i.values, 0, 252) + np.uint8(3)), "finding", "pixels changed"),
        (lambda i: replace(i, values=i.values[:, ::-1]), "finding", "pixels changed"),
        (lambda i: replace(i, values=i.values[1:], alpha=i.alpha[1:]), "finding", "another size"),
        (lambda i: replace(i, alpha=255 - i.alpha), "finding", "pixels changed"),
        (lambda i: replace(i, alpha=None), "alpha", "yes → no"),
        (lambda i: replace(i, exif=None), "lost", "EXIF DateTimeOriginal, EXIF GPSLatitudeRef, EXIF Make"),
        (lambda i: replace(i, exif=corpus_files.exif(1), orientation=1), "orientation", "6 → 1"),
        (lambda i: replace(i, exif=i.exif.replace(b"Maker", b"Baker")), "changed", "EXIF Make"),
        (lambda i: replace(i, depth=16), "depth", "8 → 16"),
        (lambda i: replace(i, icc=corpus_files.SRGB), "profile", "no → yes"),
    ],
)
def test_faults_are_found(folder, identity, monkeypatch, change, column, value):
    plain = corpus.run_file(folder / "a.png", "a.png", folder.parent, identity)
    assert value not in getattr(plain, column)
    monkeypatch.setattr(corpus, "process", faulty(change))
    row = corpus.run_file(folder / "a.png", "a.png", folder.parent, identity)
    assert value in getattr(row, column)


def test_a_lossy_format_explains_only_its_own_loss(folder, identity, monkeypatch):
    darker = faulty(lambda i: replace(i, values=np.maximum(i.values, 6) - np.uint8(6)))
    assert not corpus.run_file(folder / "b.jpg", "b.jpg", folder.parent, identity).finding
    monkeypatch.setattr(corpus, "process", darker)
    assert "pixels changed" in corpus.run_file(folder / "b.jpg", "b.jpg", folder.parent, identity).finding


def test_faults_of_clips_are_found(tmp_path, identity, monkeypatch):
    frames = [np.roll(corpus_files.photo(), step, axis=1) for step in range(3)]
    path = tmp_path / "clip.mkv"
    corpus_files.write_clip(path, frames, "ffv1", "yuva420p")
    for made, finding in ((frames, ""), (frames[:2], "another number of frames"), (frames[::-1], "pixels changed by")):

        def process(path, output, derainer, made=made):
            corpus_files.write_clip(output, made, "ffv1", "yuva420p")
            return []

        monkeypatch.setattr(corpus, "process", process)
        row = corpus.run_file(path, "clip.mkv", tmp_path, identity)
        assert row.finding.startswith(finding)
        assert bool(row.finding) == bool(finding)


@pytest.mark.parametrize("error", [ValueError("bad"), InputError("two\nlines"), MemoryError()])
def test_other_errors_are_findings(folder, monkeypatch, capsys, error):
    def process(path, output, derainer):
        raise error

    assert corpus.main([str(folder)]) == 0
    monkeypatch.setattr(corpus, "process", process)
    assert corpus.main([str(folder)]) == 1
    assert "findings: 3" in capsys.readouterr().out


def test_a_table_and_a_summary(folder, tmp_path, capsys, small_weight):
    assert corpus.main([str(folder), "--table", str(tmp_path / "table.csv")]) == 0
    out = capsys.readouterr().out
    assert "3 files: 2 ok, 1 error\n" in out
    assert "c.txt: error" in out
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        table = {row["file"]: row for row in csv.DictReader(file)}
    assert (table["a.png"]["size"], table["a.png"]["orientation"], table["a.png"]["difference"]) == (
        "18×26",
        "6",
        "0.0",
    )
    # A network that changes its input is not explained by a lossless format.
    assert corpus.main([str(folder), "--model", str(small_weight)]) == 1
    assert "FINDING: pixels changed by" in capsys.readouterr().out


def test_the_page_of_the_guide_is_what_the_script_writes(identity):
    text = (ROOT / "docs/guide/what-is-kept.md").read_text(encoding="utf-8")
    assert corpus_page.page(identity) == text, "run: python scripts/corpus.py --what-is-kept docs/guide/what-is-kept.md"
    assert "without a note |" not in text


@pytest.mark.parametrize("kind", [".gif", ".jp2"])
def test_metadata_that_pillow_does_not_read(kind):
    samples = corpus_page.samples_of(kind)
    for data in samples["XMP"]:
        assert images.decode(data).xmp == corpus_files.XMP % b""
        for length in range(len(data) - 1, len(data) - 400, -7):  # cut off
            try:
                image = images.decode(data[:length])
            except InputError:
                continue
            assert image.size == corpus_files.SIZE
    if kind == ".jp2":
        assert images.decode(samples["ICC"][0]).icc == corpus_files.SRGB
        exif = Image.Exif()
        exif.load(images.decode(samples["EXIF"][0]).exif)
        assert exif[0x010F] == "Maker"
    assert images.decode(samples["text"][0]).text == (("Comment", "a comment"),)
