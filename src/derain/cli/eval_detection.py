"""``derain eval-detection``: how well an object detector works on clean, rainy and derained images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image
from typer import Argument, Option

from derain import images
from derain.arrays import UInt8Array
from derain.derainer import Derainer
from derain.errors import InputError
from derain.files import check_output, sha256_of, write_json, write_text

from . import options as opt
from .console import Report, new_table

if TYPE_CHECKING:
    from derain.data.boxes import Box
    from derain.detection import Detection

app = typer.Typer(add_completion=False)

_SHOWN = 3  # images drawn with their boxes
_DETECTOR_HELP = (
    "NAME:FILE.onnx (yolox, yolox-nano, yolox-nano-2021, fastestdet), an .onnx with .yaml, or a DETR folder."
)


@app.command("eval-detection")
def eval_detection(
    data: Annotated[Path, Argument(metavar="DATA", help="Folder with images/ and labels/ (YOLO), or a COCO .json.")],
    detector: Annotated[str, Option(metavar="NAME:FILE", help=_DETECTOR_HELP)],
    model: opt.MODELS = "default",
    image_folder: Annotated[Path | None, Option("--images", metavar="DIR", help="Images of a COCO .json.")] = None,
    preset: opt.PRESET = "heavy",
    seed: opt.SEED = 0,
    count: Annotated[int | None, Option(min=1, help="Only this many images, evenly spaced.")] = None,
    json_file: opt.JSON_FILE = None,
    csv_file: Annotated[Path | None, Option("--csv", metavar="FILE", help="Write one row per condition.")] = None,
    page: Annotated[Path | None, Option("--report", metavar="FILE", help="Write an HTML page with images.")] = None,
    sheet: Annotated[Path | None, Option(metavar="FILE", help="Write three images with their boxes.")] = None,
    device: opt.DEVICE = "auto",
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Measure a detector's average precision on clean, rainy and derained images.

    `--model none` measures clean and rainy images only.
    """
    from derain.data.boxes import find_boxes
    from derain.detection import open_detector
    from derain.evaluation.conditions import evenly_spaced, stack_rows
    from derain.evaluation.detection import detection_table, evaluate_detection, example_row

    report = Report(quiet, debug)
    for file in (json_file, csv_file, page, sheet):
        if file is not None:
            check_output(file, overwrite)
    network = open_detector(detector)
    found = find_boxes(data, image_folder)
    for problem in found.problems:
        report.fail(InputError(problem))
    derainers: dict[str, Derainer] = {}
    for name in opt.split_list(model):
        if name != "none":
            with report.catch():
                derainers[name] = Derainer(name, device=device)
    scored = [name for name in found.classes if name in network.classes]
    samples = [index for index, _ in evenly_spaced(found.images, count)]
    shown = {index for _, index in evenly_spaced(samples, _SHOWN)}
    rows: list[UInt8Array] = []

    def on_image(index: int, boxes: list[Box], views: dict[str, tuple[UInt8Array, list[Detection]]]) -> None:
        if index in shown:
            rows.append(example_row(views, boxes, scored))

    with report.progress(len(samples), "detecting") as bar:
        scores = evaluate_detection(
            network,
            found,
            derainers,
            samples=samples,
            preset=preset,
            seed=seed,
            on_image=on_image,
            on_step=bar.advance,
        )
    for failure in scores.failures:
        report.fail(InputError(failure))
    if scores.images:
        title = f"{scores.images} images of {data}, rain {preset}, seed {seed}, {detector}"
        metrics = scores.metrics()
        headings, cells = detection_table(metrics)
        if not quiet:
            _print(headings, cells, title)
        if json_file is not None:
            record = {
                "data": str(data),
                "images": scores.images,
                "preset": preset,
                "seed": seed,
                "detector": detector,
                "classes": scores.classes,
                "model_sha256": {name: sha256_of(derainer.file) for name, derainer in derainers.items()},
                "conditions": metrics,
                "failures": [*found.problems, *scores.failures],
            }
            write_json(record, json_file, overwrite=overwrite)
        if csv_file is not None:
            lines = [",".join(headings), *(",".join(row) for row in cells)]
            write_text("\n".join(lines) + "\n", csv_file, overwrite=overwrite)
        if page is not None:
            from derain.evaluation.report import downstream_page

            order = "rainy and derained by each model, labels last" if derainers else "rainy, labels last"
            captions = [(f"clean, {order}", row) for row in rows]
            write_text(
                downstream_page("derain eval-detection", title, headings, cells, captions), page, overwrite=overwrite
            )
        if sheet is not None:
            images.from_pil(Image.fromarray(stack_rows(rows))).save(sheet, overwrite=overwrite)
    raise typer.Exit(1 if report.failed else 0)


def _print(headings: list[str], rows: list[list[str]], title: str) -> None:
    from rich.console import Console

    table = new_table(title, headings, headings[:1])
    for row in rows:
        table.add_row(*row)
    Console().print(table)
