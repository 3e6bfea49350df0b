"""``derain eval``: models, or existing results, measured on paired datasets."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image
from typer import Option

from derain import images
from derain.arrays import UInt8Array, to_uint8
from derain.data.layouts import Layout, PairedFolder
from derain.data.locate import open_set
from derain.derainer import Derainer
from derain.errors import InputError
from derain.files import check_output, sha256_of, write_text

from . import options as opt
from .console import Report, new_table
from .inputs import tile_size

if TYPE_CHECKING:
    from derain.evaluation.score import Metric, OnPair, Scores, Source

app = typer.Typer(add_completion=False)

_DATA_HELP = "Folder or list file of a paired dataset, or a name in the folder of DERAIN_DATA; may be repeated."
_BRISQUE_HELP = "Also BRISQUE by this published model: brisque_model_live.yml (OpenCV) or allmodel (LIBSVM)."
_METRICS = ("psnr", "ssim", "niqe", "brisque", "lpips")


@app.command("eval")
def evaluate(
    data: Annotated[list[Path], Option(metavar="DIR|NAME", help=_DATA_HELP)],
    model: opt.MODELS = "default",
    results: Annotated[Path | None, Option(metavar="DIR", help="Score these images instead of a model.")] = None,
    protocol: Annotated[
        str, Option(callback=opt.one_of(*opt.PROTOCOLS), help=f"How to measure: {', '.join(opt.PROTOCOLS)}.")
    ] = "y",
    metrics: Annotated[str, Option(help="With commas: psnr, ssim (always); niqe, brisque, lpips.")] = "psnr,ssim",
    brisque_model: Annotated[Path | None, Option(metavar="FILE", help=_BRISQUE_HELP)] = None,
    layout: opt.LAYOUT = "auto",
    clean: opt.CLEAN = None,
    save_images: Annotated[Path | None, Option(metavar="DIR", help="Save the derained images here.")] = None,
    json_file: opt.JSON_FILE = None,
    csv_file: Annotated[Path | None, Option("--csv", metavar="FILE", help="Write one row per image.")] = None,
    html_file: Annotated[
        Path | None, Option("--report", metavar="FILE", help="HTML page with worst and best images.")
    ] = None,
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    runtime: opt.RUNTIMES = "auto",
    tile: opt.TILE = "auto",
    ensemble: opt.ENSEMBLE = 1,
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Evaluate models, or existing results, on paired datasets."""
    extras = [name for name in dict.fromkeys(opt.split_list(metrics)) if name not in ("psnr", "ssim")]
    if set(extras) - set(_METRICS):
        raise typer.BadParameter(f"{metrics!r}: choose from {', '.join(_METRICS)}.", param_hint="--metrics")
    from derain.evaluation.report import as_csv, as_html, as_json
    from derain.evaluation.score import from_folder, score
    from derain.metrics import published_lpips

    report = Report(quiet, debug)
    extra_metrics = _extra_metrics(extras, brisque_model)
    for file in (json_file, csv_file, html_file):
        if file is not None:
            check_output(file, overwrite)
    folders = _open_sets(data, layout, clean, extra_metrics.keys(), report)  # type: ignore[arg-type]
    if folders and "lpips" in extra_metrics:
        published_lpips()  # a missing model is reported once, before any image
    evaluations: list[Scores] = []
    examples: dict[tuple[str, str, str], tuple[UInt8Array, ...]] = {}
    sources: list[tuple[str, str, Source]] = []
    if results is not None:
        sources = [(str(results), "", from_folder(results))]
    elif folders:
        sources = _load_models(
            opt.split_list(model),
            opt.split_list(runtime),
            report,
            device=device,
            precision=precision,
            tile=tile,
            ensemble=ensemble,
        )
    for (name, sha256, source), folder in product(sources, folders):
        save = None
        if save_images is not None:
            save = _saver(save_images / Path(name).name / folder.root.name, overwrite)
        with report.progress(len(folder.pairs), f"{name} on {folder.root.name}") as bar:
            scores = score(
                source,
                folder,
                model=name,
                model_sha256=sha256,
                protocol=protocol,
                extras=extra_metrics,
                on_pair=save,
                on_step=bar.advance,
            )
        for failure in scores.failures:
            report.fail(InputError(failure))
        evaluations.append(scores)
        if html_file is not None:
            examples.update(_examples(scores, source, folder))
    if evaluations:
        if not quiet:
            _print(evaluations, protocol)
        if json_file is not None:
            files = {} if brisque_model is None else {brisque_model.name: sha256_of(brisque_model)}
            text = json.dumps(as_json(evaluations, protocol, files), indent=1, ensure_ascii=False)
            write_text(text, json_file, overwrite=overwrite)
        if csv_file is not None:
            write_text(as_csv(evaluations), csv_file, overwrite=overwrite)
        if html_file is not None:
            write_text(as_html(evaluations, protocol, examples), html_file, overwrite=overwrite)
    raise typer.Exit(report.close("evaluated") if report.failed else 0)


def _extra_metrics(names: list[str], brisque_model: Path | None) -> Mapping[str, Metric]:
    from derain.evaluation.score import EXTRA_METRICS, brisque_metric
    from derain.metrics import BrisqueModel

    metrics = {name: EXTRA_METRICS[name] for name in names}
    if brisque_model is not None:
        metrics["brisque_file"] = brisque_metric(BrisqueModel.load(brisque_model))
    return metrics


def _open_sets(
    paths: list[Path], layout: Layout, clean: Path | None, extras: Collection[str], report: Report
) -> list[PairedFolder]:
    """The datasets; those that cannot be measured are reported."""
    from derain.evaluation.score import EXTRA_METRICS, NO_REFERENCE

    folders = []
    for path in paths:
        with report.catch():
            folder = open_set(path, layout, clean)
            if not folder.truth and (not extras or set(extras) - NO_REFERENCE):
                possible = ",".join(sorted(NO_REFERENCE & EXTRA_METRICS.keys()))
                raise InputError(f"{path}: there is no ground truth to compare with; measure with --metrics {possible}")
            report.note(f"{path}: {len(folder.pairs)} pairs, {folder.layout}")
            for problem in folder.problems:
                print(f"warning: {problem}", file=sys.stderr)
            folders.append(folder)
    return folders


def _load_models(
    models: list[str], runtimes: list[str], report: Report, *, device: str, precision: str, tile: str, ensemble: int
) -> list[tuple[str, str, Source]]:
    """Name, sha256 and source of each model in each runtime; those that cannot be loaded are reported."""
    from derain.evaluation.score import from_model

    sources = []
    for model, runtime in product(models, runtimes):
        name = model if runtime == "auto" else f"{model}, {runtime}"
        if ensemble > 1:
            name += f", ensemble of {ensemble}"
        with report.catch():
            derainer = Derainer(
                model, device=device, precision=precision, runtime=runtime, tile=tile_size(tile), ensemble=ensemble
            )
            sources.append((name, sha256_of(derainer.file), from_model(derainer)))
    return sources


def _saver(folder: Path, overwrite: bool) -> OnPair:
    def save(name: str, _rainy: UInt8Array, derained: UInt8Array, _clean: UInt8Array) -> None:
        images.from_pil(Image.fromarray(derained)).save(folder / f"{name}.png", overwrite=overwrite)

    return save


def _examples(
    scores: Scores, source: Source, folder: PairedFolder
) -> dict[tuple[str, str, str], tuple[UInt8Array, ...]]:
    """The images that the page shows; derained again, so that not all results stay in memory."""
    from derain.evaluation.score import ranked

    pairs = {pair.name: pair for pair in folder.pairs}
    examples: dict[tuple[str, str, str], tuple[UInt8Array, ...]] = {}
    for _, image in ranked(scores):
        rainy, clean = pairs[image.name].read()
        derained = to_uint8(source(pairs[image.name], rainy)[0])
        examples[scores.model, scores.data, image.name] = (rainy, derained, clean)
    return examples


def _print(evaluations: list[Scores], protocol: str) -> None:
    from rich.console import Console

    from derain.evaluation.report import summary_table

    headings, *rows = summary_table(evaluations)
    table = new_table(f"protocol {protocol}", headings, ("model", "data"))
    for cells in rows:
        # Names alone: full paths would squeeze the numbers. JSON, CSV and HTML have them.
        table.add_row(*(Path(cell).name for cell in cells[:2]), *cells[2:])
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)  # a file or pipe has no width that would require narrow columns
    console.print(table)
