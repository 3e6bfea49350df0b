"""``derain eval-segmentation``: how well a segmenter works on clean, rainy and derained images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from PIL import Image
from typer import Argument, Option

from derain import images
from derain.arrays import Quantizer, UInt8Array
from derain.derainer import Derainer
from derain.errors import InputError
from derain.files import check_output, sha256_of, write_json

from . import options as opt
from .console import Report, new_table

if TYPE_CHECKING:
    from derain.evaluation.segmentation import ClassMap, SegmentationScores

app = typer.Typer(add_completion=False)

_SHEET_ROWS = 4
_SPLIT_HELP = "Folder with labels/ and images/, such as CamVid's; with rain/, no rain is added."
_LABELS_HELP = "Folder of the labels, if elsewhere: class numbers by name, or Cityscapes' gtFine."
_RESULTS_HELP = "Images that another method derained; may be repeated."


@app.command("eval-segmentation")
def eval_segmentation(
    split: Annotated[Path, Argument(metavar="SPLIT", help=_SPLIT_HELP)],
    segmenter: opt.SEGMENTER,
    models: Annotated[list[str] | None, Option("--model", help="A name or a file; may be repeated.")] = None,
    results: Annotated[list[str] | None, Option(metavar="[NAME=]DIR", help=_RESULTS_HELP)] = None,
    labels: Annotated[Path | None, Option(metavar="DIR", help=_LABELS_HELP)] = None,
    rainy: Annotated[Path | None, Option(metavar="DIR", help="Folder of rainy images, if elsewhere.")] = None,
    quantizer: opt.QUANTIZER = "round",
    preset: opt.PRESET = "heavy",
    seed: opt.SEED = 0,
    count: Annotated[int | None, Option(min=1, help="Only this many images, evenly spaced.")] = None,
    json_file: opt.JSON_FILE = None,
    sheet: Annotated[Path | None, Option(metavar="FILE", help="Write four images with predictions.")] = None,
    device: opt.DEVICE = "auto",
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Measure a segmenter's mIoU on clean, rainy and derained images."""
    from derain.data.scenes import find_scenes
    from derain.evaluation.conditions import evenly_spaced, stack_rows
    from derain.evaluation.results import ResultFolder, named_folder
    from derain.evaluation.segmentation import evaluate_segmentation, sheet_row
    from derain.runtime.torch import pick_device
    from derain.weights.segmenters import load_segmenter

    report = Report(quiet, debug)
    for file in (json_file, sheet):
        if file is not None:
            check_output(file, overwrite)
    scenes = find_scenes(split, labels=labels, rainy=rainy)
    samples = evenly_spaced(scenes, count)
    with_rain = scenes[0].rainy is not None
    if results and not with_rain:
        raise InputError(f"--results {results[0]}: needs the rainy images that it was made of; add --rainy DIR")
    trained = load_segmenter(segmenter)
    derainers: dict[str, Derainer] = {}
    for name in models or []:
        with report.catch():
            derainers[name] = Derainer(name, device=device)
    folders: dict[str, ResultFolder] = {}
    for text in results or []:
        with report.catch():
            name, folder = named_folder(text)
            if name in ("clean", "rainy", *derainers):
                raise InputError(f"--results {text}: {name} is another column; choose another NAME=")
            folders[name] = ResultFolder(folder)
    shown = {samples[i * len(samples) // _SHEET_ROWS][0] for i in range(_SHEET_ROWS)}
    rows: list[UInt8Array] = []

    def on_image(_name: str, index: int, truth: ClassMap, views: dict[str, tuple[UInt8Array, ClassMap]]) -> None:
        if index in shown:
            rows.append(sheet_row(truth, views, trained.classes))

    with report.progress(len(samples), "segmenting") as bar:
        scores = evaluate_segmentation(
            trained,
            samples,
            derainers,
            results=folders,
            quantizer=cast("Quantizer", quantizer),
            preset=preset,
            seed=seed,
            device=pick_device(device),
            on_image=on_image,
            on_step=bar.advance,
        )
    for failure in scores.failures:
        report.fail(InputError(failure))
    if scores.images:
        if not quiet:
            rain = "their own rain" if with_rain else f"rain {preset}, seed {seed}"
            _print(scores, f"{scores.images} images of {split}, {rain}")
        if json_file is not None:
            record = {
                "data": str(split),
                "pictures": scores.images,
                "preset": None if with_rain else preset,
                "seed": None if with_rain else seed,
                "quantizer": quantizer,
                "classes": trained.classes,
                "segmenter_sha256": sha256_of(segmenter),
                "model_sha256": {name: sha256_of(derainer.file) for name, derainer in derainers.items()},
                "conditions": scores.metrics(),
                "failures": scores.failures,
            }
            write_json(record, json_file, overwrite=overwrite)
        if sheet is not None:
            images.from_pil(Image.fromarray(stack_rows(rows))).save(sheet, overwrite=overwrite)
    raise typer.Exit(1 if report.failed else 0)


def _print(scores: SegmentationScores, title: str) -> None:
    from rich.console import Console

    from derain.evaluation.results import short_names

    conditions = scores.metrics()
    table = new_table(title, ["IoU", *short_names(conditions).values()], ["IoU"])
    for name in scores.classes:
        values = (metrics["iou"][name] for metrics in conditions.values())
        table.add_row(name, *("–" if value is None else f"{value:.3f}" for value in values))
    table.add_section()
    table.add_row("mean (mIoU)", *(f"{metrics['miou']:.3f}" for metrics in conditions.values()))
    table.add_row("pixel accuracy", *(f"{metrics['accuracy']:.3f}" for metrics in conditions.values()))
    table.add_row("class accuracy", *(f"{metrics['class_accuracy']:.3f}" for metrics in conditions.values()))
    shares = [metrics.get("miou_recovery") for metrics in conditions.values()]
    if any(share is not None for share in shares):
        table.add_row("recovery of mIoU", *("" if share is None else f"{share:.0%}" for share in shares))
    Console().print(table)
