"""Run derain over any folder of images and clips, with a network that changes nothing, and report what is lost.

    python scripts/corpus.py FOLDER [--model FILE] [--table FILE.csv]
    python scripts/corpus.py --generate FOLDER
    python scripts/corpus.py --what-is-kept docs/guide/what-is-kept.md

Every file goes through the product in this one process. Pillow, tifffile, OpenCV and PyAV then compare the result with
the source. The exit code is 1 if an error other than a one-line DerainError occurred, or if pixels changed by more than
the format of the result explains. ``--generate`` writes some 450 files to try it on; ``--what-is-kept`` writes the
page of the guide.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from corpus_facts import Array, Facts, clip_facts, image_facts
from PIL import Image

from derain import Derainer, create_model, images
from derain.errors import DerainError
from derain.sources import is_clip, writable_suffix
from derain.weights import save_file

_LOSSY = ("JPEG", "WEBP", "AVIF", "HEIF")
_QUALITY = 95
# Mean difference, of 255: of a lossy clip; how much more than by Pillow's own encoder, and of rounding.
_LOSSY_CLIP, _FACTOR, _ROUNDING = 4.0, 1.5, 0.5


@dataclass
class Row:
    """What happened to one file.

    Attributes:
        file: its path below the folder.
        outcome: ``ok``, ``error`` (a one-line DerainError), or the name of another exception's type.
        message: of the exception.
        notes: what derain says about the file.
        lost, changed: names of the metadata that are not in the result, or differ there.
        alpha, depth, profile, size, orientation: of source and result.
        difference: mean absolute difference of the pixels, of 255; NaN if it cannot be told.
        allowed: what the format explains.
        finding: why this row makes the exit code 1, or empty.
    """

    file: str
    outcome: str = "ok"
    message: str = ""
    notes: str = ""
    lost: str = ""
    changed: str = ""
    alpha: str = ""
    depth: str = ""
    profile: str = ""
    size: str = ""
    orientation: str = ""
    difference: float = float("nan")
    allowed: float = float("nan")
    finding: str = ""


def identity_network(path: Path) -> Path:
    """Write a network that changes nothing: a small gated U-Net whose last layer is zero."""
    settings = {"channels": [8, 8], "blocks": [1, 1]}
    network = create_model("gated-unet", **settings)
    for parameter in network.head.parameters():  # type: ignore[union-attr]
        parameter.data.zero_()
    save_file(network, path, model="gated-unet", settings=settings)
    return path


def run_folder(folder: Path, derainer: Derainer) -> list[Row]:
    """Run the product over all files below a folder."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            rows.append(run_file(path, str(path.relative_to(folder)), Path(scratch), derainer))
    return rows


def run_file(path: Path, name: str, scratch: Path, derainer: Derainer) -> Row:
    """Run the product on one file, and compare.

    Args:
        path: the file.
        name: for the row.
        scratch: a folder for the result.
        derainer: the product.
    """
    row = Row(name)
    output = scratch / f"result{writable_suffix(path)}"
    try:
        notes = process(path, output, derainer)
    except DerainError as error:
        row.outcome, row.message = "error", str(error)
        if "\n" in row.message.strip():
            row.finding = "an error of several lines"
        return row
    except Exception as error:
        row.outcome, row.message = type(error).__name__, str(error)
        row.finding = f"{type(error).__name__} instead of a DerainError"
        return row
    row.notes = "; ".join(notes)
    _compare(row, path, output)
    output.unlink()
    return row


def process(path: Path, output: Path, derainer: Derainer) -> Sequence[str]:
    """What ``derain run`` does with one file; returns its notes. Clips go frame by frame."""
    if is_clip(path):
        from derain.video.clip import Settings, derain_clip

        return derain_clip(path, output, derainer, Settings(temporal_fuse=False), overwrite=True).notes
    result = images.fit(derainer(path), images.format_for(output))
    result.save(output, quality=_QUALITY, overwrite=True)
    return result.notes


def facts_of(path: Path) -> Facts:
    """What a file holds; by derain itself if the other readers refuse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of slightly damaged metadata
            return clip_facts(path) if is_clip(path) else image_facts(path)
    except Exception:
        image = images.read(path)
        alpha = None if image.alpha is None else image.alpha * (255 / np.iinfo(image.alpha.dtype).max)
        metadata: dict[str, object] = {} if image.icc is None else {"ICC profile": image.icc}
        colors = image.pixels * 255 if image.cmyk is None else image.cmyk
        return Facts(image.format or "", image.size, image.orientation, image.depth, colors, alpha, metadata)


def _compare(row: Row, path: Path, output: Path) -> None:
    source, result = facts_of(path), facts_of(output)
    keys = source.metadata.keys()
    row.lost = ", ".join(sorted(k for k in keys if k not in result.metadata))
    row.changed = ", ".join(
        sorted(k for k in keys if k in result.metadata and result.metadata[k] != source.metadata[k])
    )
    row.alpha = _change(source.alpha is not None, result.alpha is not None)
    row.depth = _change(source.depth, result.depth)
    row.profile = _change(source.profile is not None, result.profile is not None)
    row.size = _change("×".join(map(str, source.size)), "×".join(map(str, result.size)))
    row.orientation = _change(source.orientation, result.orientation)
    if is_clip(path):
        row.difference, row.allowed = _clip_difference(source, result)
    else:
        row.difference, row.allowed = _image_difference(source, result)
    if source.size != result.size and not (is_clip(path) and "even dimensions" in row.notes):
        row.finding = f"another size: {row.size}"
    elif row.difference == float("inf"):
        row.finding = "another number of frames"
    elif row.difference > row.allowed:
        row.finding = f"pixels changed by {row.difference:.2f} of 255; the format explains {row.allowed:.2f}"


def _change(before: object, after: object) -> str:
    words = [{True: "yes", False: "no"}[v] if isinstance(v, bool) else str(v) for v in (before, after)]
    return words[0] if before == after else " → ".join(words)


def _image_difference(source: Facts, result: Facts) -> tuple[float, float]:
    """Mean difference of pixels, and what the format explains of it: about what Pillow's encoder does to the source."""
    if source.colors is None or result.colors is None or source.size != result.size:
        return float("nan"), float("nan")
    if source.profile is not None and result.kind == "BMP":
        return float("nan"), float("nan")  # converted to sRGB
    before, after = source.colors.astype(float), result.colors.astype(float)
    if before.shape != after.shape:
        return float("nan"), float("nan")  # CMYK in a format that has none
    allowed = _ROUNDING if source.depth > result.depth else 0.0
    visible = np.ones(before.shape[:2], bool)
    if source.alpha is not None and result.alpha is None:
        weight = source.alpha[..., None] / 255
        before = before * weight + 255 * (1 - weight)
        allowed = _ROUNDING
    elif source.alpha is not None and result.kind in _LOSSY:
        visible = source.alpha > 0
    if result.kind in _LOSSY:
        again = _encoded_by_pillow(before, result.kind)
        allowed += _FACTOR * _mean(again[visible], before[visible]) + _ROUNDING
    difference = _mean(after[visible], before[visible])
    if source.alpha is not None and result.alpha is not None:
        difference = max(difference, _mean(result.alpha, source.alpha))
    return difference, allowed


def _encoded_by_pillow(colors: Array, kind: str) -> Array:
    file = io.BytesIO()
    options: dict[str, Any] = {"subsampling": 0} if kind == "JPEG" else {}
    values = np.rint(colors).astype(np.uint8)
    mode = "CMYK" if values.shape[2] == 4 else "RGB"
    size = values.shape[1::-1]
    Image.frombytes(mode, size, values.tobytes()).save(file, kind, quality=_QUALITY, **options)
    with Image.open(file) as again:
        return np.asarray(again.convert(mode)).astype(float)


def _clip_difference(source: Facts, result: Facts) -> tuple[float, float]:
    assert source.colors is not None
    assert result.colors is not None
    if len(source.colors) != len(result.colors):
        return float("inf"), 0.0
    height, width = (min(a, b) for a, b in zip(source.colors.shape[1:3], result.colors.shape[1:3], strict=True))
    before, after = (facts.colors[:, :height, :width] for facts in (source, result))  # type: ignore[index]
    difference = _mean(after, before)
    if source.alpha is not None and result.alpha is not None:
        difference = max(difference, _mean(result.alpha[:, :height, :width], source.alpha[:, :height, :width]))
    return difference, 0.0 if result.lossless and result.pix_fmt == source.pix_fmt else _LOSSY_CLIP


def _mean(one: Array, other: Array) -> float:
    return float(np.abs(one.astype(float) - other).mean()) if one.size else 0.0


def write_table(rows: list[Row], path: Path) -> None:
    """Write the rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([f.name for f in fields(Row)])
        writer.writerows([getattr(row, f.name) for f in fields(Row)] for row in rows)


def print_report(rows: list[Row]) -> None:
    """Print what deserves attention of each file, and a summary."""
    for row in rows:
        parts = [row.outcome, row.message]
        parts += [f"{name} {value}" for name in ("lost", "changed") if (value := getattr(row, name))]
        parts += [f"{n} {v}" for n in ("alpha", "depth", "profile", "orientation") if "→" in (v := getattr(row, n))]
        parts += [f"size {row.size}", f"difference {row.difference:.3g}"] if row.outcome == "ok" else []
        parts += [f"note: {row.notes}"] if row.notes else []
        parts += [f"FINDING: {row.finding}"] if row.finding else []
        print(f"{row.file}: " + " | ".join(part for part in parts if part))
    outcomes = Counter(row.outcome for row in rows)
    lost = Counter(key for row in rows if not row.notes for key in row.lost.split(", ") if key)
    print(f"\n{len(rows)} files: " + ", ".join(f"{count} {name}" for name, count in outcomes.most_common()))
    if lost:
        print("lost without a note: " + ", ".join(f"{key} ({count})" for key, count in lost.most_common()))
    print(f"findings: {sum(1 for row in rows if row.finding)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="images and clips, also in subfolders")
    parser.add_argument("--model", type=Path, help="a network instead of one that changes nothing")
    parser.add_argument("--table", type=Path, help="write a CSV file with a row for each file")
    parser.add_argument("--generate", type=Path, metavar="FOLDER", help="write files of many kinds, and stop")
    parser.add_argument("--what-is-kept", type=Path, metavar="PAGE", help="write the page of the guide, and stop")
    options = parser.parse_args(arguments)
    if options.generate is not None:
        from corpus_files import generate

        print(f"{generate(options.generate)} files in {options.generate}")
        return 0
    if options.folder is None and options.what_is_kept is None:
        parser.error("a folder is missing")
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"{options.folder}: is not a folder")
    with tempfile.TemporaryDirectory() as scratch:
        derainer = Derainer(options.model or identity_network(Path(scratch) / "identity.safetensors"), device="cpu")
        if options.what_is_kept is not None:
            from corpus_page import page

            options.what_is_kept.write_text(page(derainer), encoding="utf-8")
            return 0
        rows = run_folder(options.folder, derainer)
    print_report(rows)
    if options.table is not None:
        write_table(rows, options.table)
    return int(any(row.finding for row in rows))


if __name__ == "__main__":
    sys.exit(main())
