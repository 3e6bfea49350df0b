"""``derain eval``: models or ready-made results, measured on paired sets."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from PIL import Image

from derain import images
from derain.cli.console import Report
from derain.cli.inputs import tile_option
from derain.data.catalog import open_set
from derain.data.layouts import Layout, PairedFolder
from derain.derainer import Derainer
from derain.errors import DerainError, InputError
from derain.evaluation.report import Sheets, as_csv, as_html, as_json, table
from derain.evaluation.score import (
    EXTRAS,
    NO_REFERENCE,
    Measure,
    Picture,
    Scores,
    Source,
    from_folder,
    from_model,
    measure_by,
    ranked,
    score,
    to_uint8,
)
from derain.files import sha256_of, write_text
from derain.metrics import BrisqueModel, published_lpips


@dataclass(frozen=True)
class EvalOptions:
    """The command's options, as typed."""

    data: list[Path]
    models: list[str]
    results: Path | None = None
    protocol: str = "y"
    extras: tuple[str, ...] = ()
    brisque_model: Path | None = None
    layout: Layout = "auto"
    clean: Path | None = None
    save_images: Path | None = None
    json_file: Path | None = None
    csv_file: Path | None = None
    report: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    runtimes: tuple[str, ...] = ("auto",)
    tile: str = "auto"
    ensemble: int = 1
    overwrite: bool = False
    quiet: bool = False
    debug: bool = False


def eval_command(options: EvalOptions) -> int:
    """Run the command; returns the exit code."""
    report = Report(quiet=options.quiet, debug=options.debug)
    measures = dict(EXTRAS)
    if options.brisque_model is not None:
        measures["brisque_file"] = measure_by(BrisqueModel.load(options.brisque_model))
        options = replace(options, extras=(*options.extras, "brisque_file"))
    files = [f for f in (options.json_file, options.csv_file, options.report) if f is not None]
    for file in files:
        if file.exists() and not options.overwrite:
            report.fail(InputError(f"{file}: exists already; add --overwrite or choose another name"))
            return 1
    folders = []
    for path in options.data:
        try:
            folder = open_set(path, options.layout, options.clean)
            if not folder.truth and (not options.extras or set(options.extras) - NO_REFERENCE):
                wanted = ",".join(sorted(NO_REFERENCE & EXTRAS.keys()))
                raise InputError(f"{path}: there is no ground truth to compare with; measure with --metrics {wanted}")
        except DerainError as error:
            report.fail(error)
        else:
            report.note(f"{path}: {len(folder.pairs)} pairs, {folder.layout}")
            for problem in folder.problems:
                print(f"warning: {problem}", file=sys.stderr)
            folders.append(folder)
    if folders and "lpips" in options.extras:
        published_lpips()  # told once, before any picture, if its weights cannot be had
    evaluations: list[Scores] = []
    sheets: dict[tuple[str, str, str], tuple[Picture, ...]] = {}
    for name, sha256, source in _sources(options, report) if folders else []:
        for folder in folders:
            scores = _score_one(name, sha256, source, folder, options, report, measures)
            evaluations.append(scores)
            if options.report is not None:
                sheets.update(_sheets(scores, source, folder))
    if evaluations:
        if not options.quiet:
            _print_table(evaluations, options.protocol)
        _write(evaluations, sheets, options)
    return report.close("evaluated") if report.failed else 0


def _sources(options: EvalOptions, report: Report) -> list[tuple[str, str, Source]]:
    """Name, sha256 and source of everything to be measured; what cannot be had is reported."""
    if options.results is not None:
        return [(str(options.results), "", from_folder(options.results))]
    tile = tile_option(options.tile)
    sources = []
    for model, runtime in product(options.models, options.runtimes):
        name = model if runtime == "auto" else f"{model}, {runtime}"
        if options.ensemble > 1:
            name += f", ensemble of {options.ensemble}"
        try:
            derainer = Derainer(
                model,
                device=options.device,
                precision=options.precision,
                runtime=runtime,
                tile=tile,
                ensemble=options.ensemble,
            )
        except DerainError as error:
            report.fail(error)
        else:
            sources.append((name, sha256_of(derainer.file), from_model(derainer)))
    return sources


def _score_one(
    name: str,
    sha256: str,
    source: Source,
    folder: PairedFolder,
    options: EvalOptions,
    report: Report,
    measures: dict[str, Measure],
) -> Scores:
    save: Callable[[str, Picture, Picture, Picture], None] | None = None
    if options.save_images is not None:
        place = options.save_images / Path(name).name / folder.root.name

        def save(pair: str, _rainy: Picture, derained: Picture, _clean: Picture) -> None:
            picture = images.from_pil(Image.fromarray(derained))
            picture.save(place / f"{pair}.png", overwrite=options.overwrite)

    with report.progress(len(folder.pairs), f"{name} on {folder.root.name}") as bar:
        scores = score(
            source,
            folder,
            model=name,
            model_sha256=sha256,
            protocol=options.protocol,
            extras=options.extras,
            measures=measures,
            on_pair=save,
            on_step=bar.advance,
        )
    for failure in scores.failures:
        report.fail(InputError(failure))
    return scores


def _sheets(scores: Scores, source: Source, folder: PairedFolder) -> dict[tuple[str, str, str], tuple[Picture, ...]]:
    """The pictures that the report shows, made once more rather than all kept."""
    pairs = {pair.name: pair for pair in folder.pairs}
    found: dict[tuple[str, str, str], tuple[Picture, ...]] = {}
    for _, image in ranked(scores):
        rainy, clean = pairs[image.name].read()
        derained = to_uint8(source(pairs[image.name], rainy)[0])
        found[scores.model, scores.data, image.name] = (rainy, derained, clean)
    return found


def _print_table(evaluations: list[Scores], protocol: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    headings, *rows = table(evaluations)
    grid = Table(title=f"protocol {protocol}", box=SIMPLE_HEAD)
    for heading in headings:
        grid.add_column(heading, justify="left" if heading in ("model", "data") else "right", overflow="fold")
    for cells in rows:
        # Names alone: full paths would squeeze the numbers. JSON, CSV and HTML have them.
        grid.add_row(*(Path(cell).name for cell in cells[:2]), *cells[2:])
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)  # in a file or pipe nothing forces narrow columns
    console.print(grid)


def _write(evaluations: list[Scores], sheets: Sheets, options: EvalOptions) -> None:
    read = {f.name: sha256_of(f) for f in [options.brisque_model] if f is not None}
    texts: list[tuple[Path | None, Callable[[], str]]] = [
        (
            options.json_file,
            lambda: json.dumps(as_json(evaluations, options.protocol, read), indent=1, ensure_ascii=False),
        ),
        (options.csv_file, lambda: as_csv(evaluations)),
        (options.report, lambda: as_html(evaluations, options.protocol, sheets)),
    ]
    for path, text in texts:
        if path is not None:
            write_text(text(), path, overwrite=options.overwrite)
