"""``derain data``: the contents of paired datasets, their problems, and a plain copy."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from derain.data.catalog import CATALOG
from derain.data.check import check_pairs
from derain.data.convert import write_plain_layout
from derain.data.layouts import Layout, PairedFolder
from derain.data.locate import open_set
from derain.errors import InputError

from . import options as opt
from .console import Report

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Check paired datasets, and convert them to a plain layout."
)

_HEADINGS = {"home": "home page", "option": "--layout", "aliases": "also called"}


@app.command()
def check(
    folder: opt.DATASET,
    layout: opt.LAYOUT = "auto",
    clean: opt.CLEAN = None,
    against: Annotated[Path | None, Option(metavar="DIR|NAME", help="A set with which it must share no scene.")] = None,
    as_json: opt.JSON_STDOUT = False,
    limit: Annotated[int, Option(min=1, help="Findings to print.")] = 40,
) -> None:
    """Print what a set holds and what is wrong with it; exit code 1 if there are faults."""
    dataset = open_set(folder, layout, clean)  # type: ignore[arg-type]
    other = _open_other(against, layout) if against is not None else None  # type: ignore[arg-type]
    total = len(dataset.pairs) + (len(other.pairs) if other else 0)
    with Report().progress(total, "checking") as bar:
        checked = check_pairs(dataset, other, bar.advance)
    faults = [finding for finding in checked.findings if finding.serious]
    if as_json:
        sizes = [{"width": w, "height": h, "pairs": n} for (w, h), n in checked.sizes.items()]
        findings = [asdict(finding) for finding in checked.findings]
        result = {"folder": str(folder), "layout": dataset.layout, "pairs": checked.pairs, "sizes": sizes}
        print(json.dumps({**result, "findings": findings}, indent=1, ensure_ascii=False))
    else:
        print(f"{folder}: {dataset.layout}; {checked.pairs} {'pairs' if dataset.truth else 'images'}")
        common = sorted(checked.sizes.items(), key=lambda item: -item[1])
        print("sizes: " + ", ".join(f"{w}×{h} ({n})" for (w, h), n in common[:6]) + (" …" if len(common) > 6 else ""))
        for finding in checked.findings[:limit]:
            print(f"{'FAULT' if finding.serious else 'note'}  {finding.what}: {finding.detail}")
        if len(checked.findings) > limit:
            print(f"… and {len(checked.findings) - limit} more; --limit shows them")
        print(f"{len(faults)} faults, {len(checked.findings) - len(faults)} notes")
    raise typer.Exit(1 if faults else 0)


@app.command("list")
def list_(as_json: opt.JSON_STDOUT = False) -> None:
    """List the public sets: pairs, resolution, source, home page, paper, layout, usual protocol, terms."""
    if as_json:
        print(json.dumps([asdict(entry) for entry in CATALOG], indent=1, ensure_ascii=False))
        return
    for entry in CATALOG:
        print(f"{entry.name}: {entry.pairs}")
        for what, value in asdict(entry).items():
            text = ", ".join(value) if isinstance(value, tuple) else str(value)
            if text and what not in ("name", "pairs") and (what, text) != ("option", "auto"):
                print(f"    {_HEADINGS.get(what, what):<13} {text}")


@app.command("import")
def import_(
    folder: opt.DATASET,
    output: Annotated[Path, Option("-o", "--output", metavar="OUT", help="New folder for input/ and target/.")],
    layout: opt.LAYOUT = "auto",
    clean: opt.CLEAN = None,
    copy: Annotated[bool, Option("--copy", help="Copy files instead of linking them.")] = False,
) -> None:
    """Convert any known layout to input/ and target/ with equal names; hard links where possible."""
    dataset = open_set(folder, layout, clean)  # type: ignore[arg-type]
    if not dataset.truth:
        raise InputError(f"{folder}: images without ground truth make no pairs; nothing to import")
    report = Report()
    with report.progress(len(dataset.pairs), "importing") as bar:
        written, errors = write_plain_layout(dataset, output, copy=copy, on_step=bar.advance)
    for error in [*errors, *map(InputError, dataset.problems)]:
        report.fail(error)
    print(f"{output}: {written} pairs" + (f", {report.failed} problems" if report.failed else ""))
    raise typer.Exit(1 if report.failed else 0)


def _open_other(against: Path, layout: Layout) -> PairedFolder:
    """The set to compare with: in its own layout if that is recognized, else in that of the first."""
    try:
        return open_set(against)
    except InputError:
        if layout == "auto":
            raise
        return open_set(against, layout)


@app.command()
def make(
    name: Annotated[str, Argument(metavar="coco150|cityscape150", callback=opt.one_of("coco150", "cityscape150"))],
    source: Annotated[Path, Option("--from", metavar="DIR", help="Your COCO or Cityscapes.")],
    output: Annotated[Path, Option("-o", "--output", metavar="DIR", help="New folder for the set.")],
    preset: opt.PRESET = "heavy",
    seed: opt.SEED = 0,
) -> None:
    """Make a set like those of SAPNet's Table 5: 150 images with rain and labels."""
    from derain.data.paper_sets import COUNT, make_set

    with Report().progress(COUNT, "adding rain") as bar:
        manifest = make_set(name, source, output, preset=preset, seed=seed, on_image=bar.advance)
    print(f"{output}: {len(manifest['images'])} images")
