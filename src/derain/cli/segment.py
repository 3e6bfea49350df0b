"""``derain segment``: the classes that a segmenter predicts, as colored images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from typer import Option

from derain import images
from derain.arrays import to_uint8
from derain.errors import OutputError
from derain.sources import find_conflicts

from . import options as opt
from .console import Report
from .inputs import report_sources

app = typer.Typer(add_completion=False)


@app.command()
def segment(
    inputs: opt.INPUTS,
    segmenter: opt.SEGMENTER,
    output: Annotated[Path, Option("-o", "--output", metavar="DIR", help="Folder for the colored PNGs.")],
    recursive: opt.RECURSIVE = False,
    device: opt.DEVICE = "auto",
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Write the classes that a segmenter predicts as colored images."""
    from derain.evaluation.segmentation import classify
    from derain.runtime.torch import pick_device
    from derain.segmentation.colors import colored
    from derain.weights.segmenters import load_segmenter

    report = Report(quiet, debug)
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; give a folder for the colored images")
    device = pick_device(device)
    trained = load_segmenter(segmenter)
    network = trained.network.to(device)
    sources = report_sources(inputs, report, recursive=recursive, exclude=output)
    paths = [output / source.relative.with_suffix(".png") for source in sources]
    with report.progress(len(sources), "segmenting") as bar:
        for source, path, conflict in zip(sources, paths, find_conflicts(sources, paths), strict=True):
            with bar.item(), report.catch():
                if conflict is not None:
                    raise conflict
                classes = classify(network, to_uint8(images.read(source.path).pixels), device)
                images.from_pil(Image.fromarray(colored(classes, trained.classes))).save(path, overwrite=overwrite)
                report.succeed(f"{source.path} → {path}")
    raise typer.Exit(report.close("segmented"))
