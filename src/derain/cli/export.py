"""``derain export``: a model as a file that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from . import options as opt
from .console import Report

app = typer.Typer(add_completion=False)


@app.command()
def export(
    model: Annotated[str, Argument(metavar="MODEL", help="A name from `derain models`, or a .safetensors file.")],
    to: Annotated[str, Option(callback=opt.one_of("onnx", "openvino"), help="onnx or openvino.")] = "onnx",
    output: Annotated[
        Path | None, Option("-o", "--output", metavar="FILE", help="Default: MODEL.onnx or .xml.")
    ] = None,
    precision: Annotated[
        str, Option(callback=opt.one_of("fp32", "fp16"), help="Of the file; fp16 is half the size.")
    ] = "fp32",
    overwrite: opt.OVERWRITE = False,
) -> None:
    """Export a model to a file that runs without torch: derain run photo.jpg --model FILE.

    It takes images of any size, describes itself, and is compared with torch before it is kept.
    """
    from derain.runtime.export import SUFFIXES, export_model

    file = output if output is not None else Path(Path(model).stem + SUFFIXES[to])
    with Report().busy("exporting"):
        difference = export_model(model, file, to=to, precision=precision, overwrite=overwrite)
    size = sum(part.stat().st_size for part in {file, file.with_suffix(".bin") if to == "openvino" else file}) / 1e6
    print(f"{model} → {file} ({size:.1f} MB), largest difference to torch {difference:.1e} of 1")
    print(f"use it with: derain run photo.jpg --model {file}")
