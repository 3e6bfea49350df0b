"""``derain data``: what a paired set holds, what is wrong with it, and a plain copy of it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from derain import images
from derain.cli.console import Report
from derain.data.catalog import CATALOG, open_set
from derain.data.check import check_pairs
from derain.data.layouts import Layout, Pair, PairedFolder
from derain.errors import InputError, OutputError


def list_command(as_json: bool) -> None:
    """Print the catalog of public sets."""
    if as_json:
        print(json.dumps([asdict(entry) for entry in CATALOG], indent=1, ensure_ascii=False))
        return
    for entry in CATALOG:
        print(f"{entry.name}: {entry.pairs}")
        for what, value in asdict(entry).items():
            text = ", ".join(value) if isinstance(value, tuple) else str(value)
            if text and what not in ("name", "pairs") and (what, text) != ("option", "auto"):
                print(f"    {_HEADINGS.get(what, what):<13} {text}")


_HEADINGS = {"home": "home page", "option": "--layout", "aliases": "also called"}


def _other(against: Path, layout: Layout) -> PairedFolder:
    """The set to compare with: in its own layout if that is plain, else in that of the first."""
    try:
        return open_set(against)
    except InputError:
        if layout == "auto":
            raise
        return open_set(against, layout)


def check_command(
    folder: Path, *, layout: Layout, clean: Path | None, against: Path | None, as_json: bool, limit: int
) -> int:
    """Print what :func:`derain.data.check.check_pairs` found; 1 if anything is serious."""
    found = open_set(folder, layout, clean)
    other = _other(against, layout) if against is not None else None
    report = Report(quiet=False)
    with report.progress(len(found.pairs) + (len(other.pairs) if other else 0), "checking") as bar:
        checked = check_pairs(found, other, bar.advance)
    serious = [f for f in checked.findings if f.serious]
    if as_json:
        sizes = [{"width": w, "height": h, "pairs": n} for (w, h), n in checked.sizes.items()]
        findings = [asdict(f) for f in checked.findings]
        result = {"folder": str(folder), "layout": found.layout, "pairs": checked.pairs, "sizes": sizes}
        print(json.dumps({**result, "findings": findings}, indent=1, ensure_ascii=False))
        return 1 if serious else 0
    print(f"{folder}: {found.layout}; {checked.pairs} {'pairs' if found.truth else 'pictures'}")
    common = sorted(checked.sizes.items(), key=lambda item: -item[1])
    print("sizes: " + ", ".join(f"{w}×{h} ({n})" for (w, h), n in common[:6]) + (" …" if len(common) > 6 else ""))
    for finding in checked.findings[:limit]:
        print(f"{'FAULT' if finding.serious else 'note'}  {finding.what}: {finding.detail}")
    if len(checked.findings) > limit:
        print(f"… and {len(checked.findings) - limit} more; --limit shows them")
    print(f"{len(serious)} faults, {len(checked.findings) - len(serious)} notes")
    return 1 if serious else 0


def import_command(folder: Path, output: Path, *, layout: Layout, clean: Path | None, copy: bool) -> int:
    """Lay a set out as ``input/`` and ``target/`` with equal names; hard links where possible."""
    found = open_set(folder, layout, clean)
    if not found.truth:
        raise InputError(f"{folder}: pictures without ground truth make no pairs; nothing to import")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output}: exists and is not empty; give a new folder")
    report = Report(quiet=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place and moved there whole, so that an interrupt leaves no half set.
    building = Path(tempfile.mkdtemp(dir=output.parent, prefix=".derain-"))
    try:
        with report.progress(len(found.pairs), "importing") as bar:
            for pair in found.pairs:
                try:
                    _lay_out(pair, building, copy)
                except InputError as error:
                    report.fail(error)
                else:
                    report.done += 1
                bar.advance()
        building.chmod(0o755)
        if output.exists():
            output.rmdir()
        building.rename(output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    for problem in found.problems:
        report.fail(InputError(problem))
    print(f"{output}: {report.done} pairs" + (f", {report.failed} problems" if report.failed else ""))
    return 1 if report.failed else 0


def _lay_out(pair: Pair, root: Path, copy: bool) -> None:
    name = pair.name.replace("/", "_")
    if pair.clean_half is not None:
        for kind, picture in zip(("input", "target"), pair.read(), strict=True):
            images.from_pil(Image.fromarray(picture)).save(root / kind / f"{name}.png")
        return
    for kind, source in (("input", pair.rainy), ("target", pair.clean)):
        goal = root / kind / f"{name}{source.suffix.lower()}"
        goal.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copyfile if copy else _link_or_copy)(source, goal)


def _link_or_copy(source: str | Path, goal: str | Path) -> None:
    try:
        os.link(os.path.realpath(source), goal)
    except OSError:  # another file system, or none that links
        shutil.copyfile(source, goal)
