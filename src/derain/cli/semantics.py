"""``derain segment`` and ``derain semantics``: what a segmenter sees in pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from derain import images
from derain.data.labels import find_labeled
from derain.derainer import Derainer
from derain.errors import DerainError, InputError, OutputError
from derain.evaluation.segmentation import Classes, Judgment, Picture, classify, evenly, judge, sheet_row
from derain.files import sha256_of, write_json
from derain.runtime.torch import pick_device
from derain.segmentation.colors import colored
from derain.weights.segmenters import TrainedSegmenter, load_segmenter

from .console import Report
from .inputs import find_sources, refuse_dangerous

_SHEET_ROWS = 4


@dataclass(frozen=True)
class SemanticsOptions:
    """The command's options, as typed."""

    split: Path
    segmenter: Path
    models: list[str]
    preset: str = "heavy"
    seed: int = 0
    count: int | None = None
    json_file: Path | None = None
    sheet: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    quiet: bool = False
    debug: bool = False


def segment_command(
    inputs: list[str], output: Path, segmenter: Path, *, recursive: bool, device: str, overwrite: bool, quiet: bool
) -> int:
    """Write the classes of pictures as colored PNGs into a folder; returns the exit code."""
    report = Report(quiet=quiet)
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; give a folder for the colored pictures")
    network = load_segmenter(segmenter).network.to(device := pick_device(device))
    sources, errors = find_sources(inputs, recursive=recursive, exclude=output)
    for error in errors:
        report.fail(error)
    goals = [output / source.relative.with_suffix(".png") for source in sources]
    with report.progress(len(sources), "segmenting") as bar:
        for source, goal, danger in zip(sources, goals, refuse_dangerous(sources, goals), strict=True):
            try:
                if danger is not None:
                    raise danger
                pixels = images.read(source.path).pixels
                classes = classify(network, (pixels * 255 + 0.5).astype(np.uint8), device)
                images.from_pil(Image.fromarray(colored(classes))).save(goal, overwrite=overwrite)
            except Exception as error:
                report.fail(error)
            else:
                report.succeed(f"{source.path} → {goal}")
            bar.advance()
    return report.close("segmented")


def semantics_command(options: SemanticsOptions) -> int:
    """Measure mIoU on clean, rained-on and derained pictures; returns the exit code."""
    report = Report(quiet=options.quiet, debug=options.debug)
    for file in (options.json_file, options.sheet):
        if file is not None and file.exists() and not options.overwrite:
            raise OutputError(f"{file}: exists already; add --overwrite or choose another name")
    segmenter = load_segmenter(options.segmenter)
    pairs = evenly(find_labeled(options.split), options.count)
    models: dict[str, Derainer] = {}
    for name in options.models:
        try:
            models[name] = Derainer(name, device=options.device)
        except DerainError as error:
            report.fail(error)
    shown = {pairs[i * len(pairs) // _SHEET_ROWS][0] for i in range(_SHEET_ROWS)}
    rows: list[Picture] = []

    def keep(_name: str, number: int, labels: Classes, views: dict[str, tuple[Picture, Classes]]) -> None:
        if number in shown:
            rows.append(sheet_row(labels, views))

    with report.progress(len(pairs), "looking") as bar:
        judgment = judge(
            segmenter,
            pairs,
            models,
            preset=options.preset,
            seed=options.seed,
            device=pick_device(options.device),
            on_picture=keep,
            on_step=bar.advance,
        )
    for failure in judgment.failures:
        report.fail(InputError(failure))
    if judgment.pictures:
        if not options.quiet:
            _print_table(judgment, options)
        if options.json_file is not None:
            record = _record(judgment, options, models, segmenter)
            write_json(record, options.json_file, overwrite=options.overwrite)
        if options.sheet is not None:
            images.from_pil(Image.fromarray(_stacked(rows))).save(options.sheet, overwrite=options.overwrite)
    return 1 if report.failed else 0


def _stacked(rows: list[Picture]) -> Picture:
    """Rows of any widths above each other, on white."""
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(r, ((0, 8), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows])


def _record(
    judgment: Judgment, options: SemanticsOptions, models: dict[str, Derainer], segmenter: TrainedSegmenter
) -> dict[str, object]:
    return {
        "data": str(options.split),
        "pictures": judgment.pictures,
        "preset": options.preset,
        "seed": options.seed,
        "classes": segmenter.classes,
        "segmenter_sha256": sha256_of(options.segmenter),
        "model_sha256": {name: sha256_of(derainer.file) for name, derainer in models.items()},
        "conditions": judgment.figures(),
        "failures": judgment.failures,
    }


def _print_table(judgment: Judgment, options: SemanticsOptions) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    figures = judgment.figures()
    rain = f"rain {options.preset}, seed {options.seed}"
    table = Table(title=f"{judgment.pictures} pictures of {options.split}, {rain}", box=SIMPLE_HEAD)
    table.add_column("IoU")
    for condition in figures:
        table.add_column(Path(condition).name, justify="right")
    for name in judgment.classes:
        values = (f["iou"][name] for f in figures.values())
        table.add_row(name, *("–" if value is None else f"{value:.3f}" for value in values))
    table.add_section()
    table.add_row("mean (mIoU)", *(f"{f['miou']:.3f}" for f in figures.values()))
    table.add_row("pixels right", *(f"{f['accuracy']:.3f}" for f in figures.values()))
    Console().print(table)
