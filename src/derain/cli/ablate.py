"""``derain ablate``: train the rows of an ablation and print its table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from . import options as opt
from .console import Report, new_table
from .train import data_overrides, require_training, training_progress

app = typer.Typer(add_completion=False)


@app.command()
def ablate(
    name: Annotated[str, Argument(metavar="NAME", help="sapnet: the table of its paper; or losses.")],
    overrides: opt.OVERRIDES = None,
    data: opt.TRAINING_DATA = None,
    out: opt.RUN_FOLDER = None,
    minutes: Annotated[float, Option(min=0.01, help="Training time of each row.")] = 60,
    steps: Annotated[int | None, Option(min=1, help="Or steps, where timing is unreliable.")] = None,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Train each row of an ablation for the same time or steps, and print the table."""
    require_training()
    from derain.training.ablation import load_ablation, prepare_rows, run_row

    report = Report(quiet, debug)
    changes = [*(overrides or []), *([] if steps is None else [f"schedule.steps={steps}"])]
    layout = load_ablation(name, changes).rows[0].recipe.data.layout
    ablation = load_ablation(name, [*data_overrides(data or [], layout, report), *changes])
    folder = out if out is not None else Path("runs") / f"ablation-{name}"
    with report.busy("loading what the rows need"):
        rows = prepare_rows(ablation, folder, minutes if steps is None else None)
    results = []
    for row, stopped in rows:
        with training_progress(row.name, report) as on_step:
            results += run_row(row, folder, resume=stopped, on_step=on_step)
    _print(results, ablation.about)


def _print(results: list[dict[str, Any]], about: str) -> None:
    from rich.console import Console

    of_paper = any(row["paper"] for row in results)
    headings = ("model", "set", "steps", "PSNR", "SSIM", *(("paper PSNR", "paper SSIM") if of_paper else ()))
    table = new_table(about, headings, ("model", "set"))
    for row in results:
        measured = (f"{row['psnr']:.2f}", f"{row['ssim']:.4f}")
        table.add_row(row["name"], row["set"], str(row["steps"]), *measured, *map(str, row["paper"] or ()))
    Console().print(table)
    note = "; the paper's in RGB, of full training" if of_paper else ""
    print(f"PSNR and SSIM in protocol {results[0]['protocol']}{note}")
