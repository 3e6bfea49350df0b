"""``derain eval``: models, or existing results, measured on paired datasets."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from PIL import Image
from typer import Option

from derain import images
from derain.arrays import Quantizer, UInt8Array, to_uint8
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
    from derain.metrics import Protocol

app = typer.Typer(add_completion=False)

_DATA_HELP = "Folder or list file of a paired dataset, or a name in the folder of DERAIN_DATA; may be repeated."
_RESULTS_HELP = "Score these images, also beside models (--model); may be repeated."
_QUANTIZER_HELP = "How models' results become 8 bits: round or truncate; default: as the protocol's authors do."
_BRISQUE_HELP = """Also BRISQUE by this published model: brisque_model_live.yml (OpenCV), allmodel or svm.txt (LIBSVM);
auto: that of the installed package brisque."""
_UNIQUE_HELP = "Also UNIQUE with the authors' weights: model.pt of github.com/zwx8981/UNIQUE."
_METRICS = ("psnr", "ssim", "niqe", "brisque", "lpips")


@app.command("eval")
def evaluate(
    data: Annotated[list[Path], Option(metavar="DIR|NAME", help=_DATA_HELP)],
    model: Annotated[
        str | None, Option(metavar="A[,B...]", help="Names or files, with commas; default, unless there are --results.")
    ] = None,
    results: Annotated[list[str] | None, Option(metavar="[NAME=]DIR", help=_RESULTS_HELP)] = None,
    protocol: Annotated[
        str, Option(callback=opt.one_of(*opt.PROTOCOLS), help=f"How to measure: {', '.join(opt.PROTOCOLS)}.")
    ] = "y",
    quantizer: Annotated[str | None, Option(callback=opt.one_of(*opt.QUANTIZERS), help=_QUANTIZER_HELP)] = None,
    metrics: Annotated[str, Option(help="With commas: psnr, ssim (always); niqe, brisque, lpips.")] = "psnr,ssim",
    brisque_model: Annotated[Path | None, Option(metavar="FILE|auto", help=_BRISQUE_HELP)] = None,
    unique_model: Annotated[Path | None, Option(metavar="FILE", help=_UNIQUE_HELP)] = None,
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
    from derain.evaluation.score import score
    from derain.metrics import BrisqueModel, protocol_named, published_lpips

    report = Report(quiet, debug)
    rule = protocol_named(protocol, cast("Quantizer | None", quantizer))
    if brisque_model == Path("auto"):
        brisque_model = BrisqueModel.installed()
    extra_metrics = _extra_metrics(extras, brisque_model, unique_model)
    for file in (json_file, csv_file, html_file):
        if file is not None:
            check_output(file, overwrite)
    folders = _open_sets(data, layout, clean, extra_metrics.keys(), report)  # type: ignore[arg-type]
    if folders and "lpips" in extra_metrics:
        published_lpips()  # a missing model is reported once, before any image
    evaluations: list[Scores] = []
    examples: dict[tuple[str, str, str], tuple[UInt8Array, ...]] = {}
    sources = _open_results(results or [], folders, report)
    if folders and (model is not None or not results):
        loaded = _load_models(
            opt.split_list(model or "default"),
            opt.split_list(runtime),
            report,
            device=device,
            precision=precision,
            tile=tile,
            ensemble=ensemble,
        )
        sources += [(*one, folder) for one, folder in product(loaded, folders)]
    for name, sha256, source, folder in sources:
        save = None
        if save_images is not None:
            save = _saver(save_images / Path(name).name / folder.root.name, overwrite)
        with report.progress(len(folder.pairs), f"{name} on {folder.root.name}") as bar:
            scores = score(
                source,
                folder,
                model=name,
                model_sha256=sha256,
                protocol=rule,
                extras=extra_metrics,
                on_pair=save,
                on_step=bar.advance,
            )
        for failure in scores.failures:
            report.fail(InputError(failure))
        evaluations.append(scores)
        if html_file is not None:
            examples.update(_examples(scores, source, folder, rule))
    if evaluations:
        if not quiet:
            _print(evaluations, rule)
        if json_file is not None:
            files = {file.name: sha256_of(file) for file in (brisque_model, unique_model) if file is not None}
            text = json.dumps(as_json(evaluations, rule, files), indent=1, ensure_ascii=False)
            write_text(text, json_file, overwrite=overwrite)
        if csv_file is not None:
            write_text(as_csv(evaluations), csv_file, overwrite=overwrite)
        if html_file is not None:
            write_text(as_html(evaluations, rule, examples), html_file, overwrite=overwrite)
    raise typer.Exit(report.close("evaluated") if report.failed else 0)


def _extra_metrics(names: list[str], brisque_model: Path | None, unique_model: Path | None) -> Mapping[str, Metric]:
    from derain.evaluation.score import EXTRA_METRICS, brisque_metric, unique_metric
    from derain.metrics import UNIQUE, BrisqueModel

    metrics = {name: EXTRA_METRICS[name] for name in names}
    if brisque_model is not None:
        metrics["brisque_file"] = brisque_metric(BrisqueModel.load(brisque_model))
    if unique_model is not None:
        metrics["unique"] = unique_metric(UNIQUE.load(unique_model))
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


def _open_results(
    given: list[str], folders: list[PairedFolder], report: Report
) -> list[tuple[str, str, Source, PairedFolder]]:
    """Name, no sha256, source and set of each folder of results; those that cannot be used are reported."""
    from derain.evaluation.results import named_folder
    from derain.evaluation.score import from_folder

    sources: list[tuple[str, str, Source, PairedFolder]] = []
    for text, folder in product(given, folders):
        with report.catch():
            name, path = named_folder(text)
            sources.append((name, "", from_folder(path, folder.root), folder))
    return sources


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
    scores: Scores, source: Source, folder: PairedFolder, protocol: Protocol
) -> dict[tuple[str, str, str], tuple[UInt8Array, ...]]:
    """The images that the page shows; derained again, so that not all results stay in memory."""
    from derain.evaluation.score import ranked

    pairs = {pair.name: pair for pair in folder.pairs}
    examples: dict[tuple[str, str, str], tuple[UInt8Array, ...]] = {}
    for _, image in ranked(scores):
        rainy, clean = pairs[image.name].read()
        derained = to_uint8(source(pairs[image.name], rainy)[0], protocol.quantizer or "round")
        examples[scores.model, scores.data, image.name] = (rainy, derained, clean)
    return examples


def _print(evaluations: list[Scores], protocol: Protocol) -> None:
    from rich.console import Console

    from derain.evaluation.report import summary_table
    from derain.evaluation.results import short_names

    headings, *rows = summary_table(evaluations)
    title = f"protocol {protocol.name}, {protocol.quantization()}"
    table = new_table(title, headings, ("model", "data"))
    # Names alone: full paths would squeeze the numbers. JSON, CSV and HTML have them.
    models, sets = (short_names([cells[column] for cells in rows]) for column in (0, 1))
    for cells in rows:
        table.add_row(models[cells[0]], sets[cells[1]], *cells[2:])
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)  # a file or pipe has no width that would require narrow columns
    console.print(table)
