"""``derain bench``: how fast models run here."""

from __future__ import annotations

from pathlib import Path

from derain.cli.console import Report
from derain.errors import InputError


def bench_command(
    models: list[str],
    runtimes: list[str],
    size: str,
    repeats: int,
    threads: int | None,
    precision: str,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Measure, print a table, and write what is asked for."""
    from derain.evaluation.benchmark import draw, measure
    from derain.files import write_json
    from derain.weights.store import imported_files, manifest

    sides = size.lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise InputError(f"--size {size}: not a size; write WIDTHxHEIGHT, such as 480x320")
    width, height = map(int, sides)
    if "all" in models:
        models = [name for name in models if name != "all"] + [*manifest().weights, *imported_files()]
    models = list(dict.fromkeys(models))
    with Report(quiet=False).progress(len(models) * len(runtimes) * (repeats + 1), "measuring") as bar:
        results = measure(
            models,
            runtimes,
            width=width,
            height=height,
            repeats=repeats,
            threads=threads,
            precision=precision,
            on_call=bar.advance,
        )
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("model, runtime")
    for name in ("ms", "fastest", "MP/s", "GMACs", "GFLOP/s", "of peak", "peak MB"):
        table.add_column(name, justify="right")
    for row in results["rows"]:
        memory = f"{row['peak_mb']:.0f}" if row["peak_mb"] is not None else "?"
        table.add_row(
            f"{row['model']}, {row['runtime']} {row['precision']}",
            f"{row['milliseconds']:.0f}",
            f"{row['fastest']:.0f}",
            f"{row['megapixels']:.2f}",
            f"{row['gmacs']:.1f}",
            f"{row['gflops']:.0f}",
            f"{100 * row['of_peak']:.0f} %",
            memory,
        )
    console = Console()
    console.print(table)
    console.print(
        f"{width}×{height}, median of {repeats}, {results['threads']} threads, {results['cpu']}, matrix product: "
        + ", ".join(f"{peak:.0f} GFLOP/s ({what})" for what, peak in results["peak_gflops"].items()),
        highlight=False,
        soft_wrap=True,
    )
    if json_file is not None:
        write_json(results, json_file)
    if plot is not None:
        draw(results, plot)
