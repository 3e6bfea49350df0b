"""``derain bench``: how fast models run here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from derain.errors import InputError
from derain.files import write_json
from derain.weights.manifest import imported_files, manifest

from . import options as opt
from .console import Report

app = typer.Typer(add_completion=False)


@app.command()
def bench(
    model: Annotated[
        str, Option(metavar="A[,B...]", help="Names or files with commas; all: every listed one.")
    ] = "default",
    runtime: opt.RUNTIMES = "auto",
    size: Annotated[str, Option(metavar="WxH", help="Size of the image.")] = "480x320",
    repeats: Annotated[int, Option(min=1, help="Timed calls of each.")] = 7,
    threads: Annotated[int | None, Option(min=1, help="Threads of a call.")] = None,
    precision: opt.PRECISION = "auto",
    json_file: opt.JSON_FILE = None,
    plot: Annotated[Path | None, Option(metavar="FILE", help="Plot measured quality over time.")] = None,
) -> None:
    """Measure how fast models run here: time, share of the machine's peak, memory."""
    from derain.evaluation.benchmark import measure_speed, plot_quality

    width, height = _parse_size(size)
    models = opt.split_list(model)
    if "all" in models:
        models = [name for name in models if name != "all"] + [*manifest().models, *imported_files()]
    models = list(dict.fromkeys(models))
    runtimes = opt.split_list(runtime)
    with Report().progress(len(models) * len(runtimes) * (repeats + 1), "measuring") as bar:
        results = measure_speed(
            models,
            runtimes,
            width=width,
            height=height,
            repeats=repeats,
            threads=threads,
            precision=precision,
            on_call=bar.advance,
        )
    _print(results, f"{width}×{height}, median of {repeats}")
    if json_file is not None:
        write_json(results, json_file)
    if plot is not None:
        plot_quality(results, plot)


def _parse_size(text: str) -> tuple[int, int]:
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise InputError(f"--size {text}: not a size; write WIDTHxHEIGHT, such as 480x320")
    width, height = map(int, sides)
    return width, height


def _print(results: dict[str, Any], how: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("model, runtime")
    for name in ("ms", "fastest", "MP/s", "GMACs", "GFLOP/s", "of peak", "peak MB"):
        table.add_column(name, justify="right")
    for row in results["rows"]:
        table.add_row(
            f"{row['model']}, {row['runtime']} {row['precision']}",
            f"{row['milliseconds']:.0f}",
            f"{row['fastest']:.0f}",
            f"{row['megapixels']:.2f}",
            f"{row['gmacs']:.1f}",
            f"{row['gflops']:.0f}",
            f"{100 * row['of_peak']:.0f} %",
            f"{row['peak_mb']:.0f}" if row["peak_mb"] is not None else "?",
        )
    console = Console()
    console.print(table)
    peaks = ", ".join(f"{peak:.0f} GFLOP/s ({what})" for what, peak in results["peak_gflops"].items())
    summary = f"{how}, {results['threads']} threads, {results['cpu']}, matrix product: {peaks}"
    console.print(summary, highlight=False, soft_wrap=True)
