"""``derain train``: run a recipe, show it, or try it out."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from derain.errors import RecipeError

from . import options as opt
from .console import Report

if TYPE_CHECKING:
    from derain.data.layouts import Layout
    from derain.training.callbacks import OnStep
    from derain.training.cost import RunEstimate
    from derain.training.recipe import AnyRecipe

app = typer.Typer(add_completion=False)


@app.command()
def train(
    recipe: Annotated[str | None, Argument(metavar="[RECIPE]", help="A name from --list, or a file.")] = None,
    overrides: opt.OVERRIDES = None,
    data: opt.TRAINING_DATA = None,
    out: opt.RUN_FOLDER = None,
    steps: Annotated[int | None, Option(min=1, help="Length of the run.")] = None,
    minutes: Annotated[float | None, Option(min=0.1, help="As many steps as take this long here.")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
    list_: Annotated[bool, Option("--list", help="List the recipes.")] = False,
    show: Annotated[bool, Option("--show", help="Print the complete recipe and stop.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Try one batch; print time and memory.")] = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Train a network from a recipe.

    A run folder holds checkpoints, metrics.csv, curves.png, samples/, TensorBoard's events and finally
    weights.safetensors for --model. An interrupted run continues with --resume, with the same result; a finished
    one is prolonged by --resume with more --steps.
    """
    if list_:
        _print_recipes()
        return
    report = Report(quiet or show, debug)
    chosen = _load_recipe(recipe, overrides or [], data or [], out if resume else None, steps, report)
    if show:
        print(chosen.as_yaml(), end="")
        return
    require_training()
    from derain.training.cost import estimate, fit_to
    from derain.training.run import train as run_training

    if minutes is not None:
        with report.busy("measuring the time of a step"):
            chosen = fit_to(chosen, minutes)
    if dry_run:
        with report.busy("running one batch of each phase"):
            cost = estimate(chosen)
        _print_estimate(chosen, cost)
        return
    folder = out if out is not None else Path("runs") / chosen.name
    length = f"{chosen.schedule.epochs:g} epochs" if chosen.schedule.epochs else f"{chosen.schedule.length} steps"
    report.note(f"{chosen.name}: {length}, into {folder}/")
    try:
        with training_progress(chosen.name, report) as on_step:
            weights = run_training(chosen, folder, resume=resume, on_step=on_step)
    except KeyboardInterrupt:
        resumed = f"derain train --resume --out {shlex.quote(str(folder))}"
        print(f"stopped; continue with: {resumed}", file=sys.stderr)
        raise typer.Exit(130) from None
    for line in _summary(chosen, folder, weights):
        report.note(line)


def require_training() -> None:
    """Check that the training extra is installed.

    Raises:
        RecipeError: it is not; the message says what to install.
    """
    missing = [name for name in ("lightning", "tensorboard", "matplotlib") if find_spec(name) is None]
    if missing:
        raise RecipeError(f"training needs {', '.join(missing)}; install them with: pip install 'derain[train]'")


def data_overrides(paths: list[Path], layout: Layout, report: Report) -> list[str]:
    """``--data`` as overrides of a recipe; reports what each folder was recognized as.

    Args:
        paths: folders, list files and names of sets.
        layout: of the recipe; for folders of images that hold both halves.
        report: receives one line for each.

    Raises:
        InputError, RecipeError: not recognized with certainty, or layouts that exclude each other.
    """
    from derain.data.recognize import recognize

    found = [recognize(path, layout) for path in paths]
    for one in found:
        report.note(one.describe())
    layouts = {one.layout for one in found} - {"auto"}
    if len(layouts) > 1:
        raise RecipeError(f"--data: {' and '.join(sorted(layouts))} in one run; convert one with `derain data import`")
    clean, pairs = ([str(one.path) for one in found if (one.pairs is None) == photos] for photos in (True, False))
    fields = {"clean": clean, "pairs": pairs, "layout": next(iter(layouts), None)}
    return [f"data.{name}={json.dumps(value)}" for name, value in fields.items() if value]


@contextmanager
def training_progress(name: str, report: Report) -> Iterator[OnStep]:
    """Progress with the loss, and a line for each validation."""
    with report.progress(0, name, keep=True) as bar:

        def on_step(step: int, total: int, numbers: dict[str, float]) -> None:
            if "loss" in numbers:
                bar.update(step, total, f"loss {numbers['loss']:.4f}")
            if "miou" in numbers:
                report.note(f"step {step}: mIoU {numbers['miou']:.4f}")
            if "psnr" in numbers:
                from derain.training.metrics_log import scored_sets

                sets = [f"{label} {numbers[key]:.2f} dB" for key, label in scored_sets(numbers).items()]
                report.note(f"step {step}: " + ", ".join(sets))

        yield on_step


def _load_recipe(
    recipe: str | None,
    overrides: list[str],
    data: list[Path],
    resumed: Path | None,
    steps: int | None,
    report: Report,
) -> AnyRecipe:
    from derain.training.recipe import Recipe
    from derain.training.recipe_files import load_recipe

    name: str | Path
    if recipe is not None:
        name = recipe
    elif resumed is not None:
        name = resumed / "recipe.yaml"
    else:
        raise RecipeError("which recipe? give a name of `derain train --list` or a file, or --resume with --out")
    if steps is not None:
        overrides = [*overrides, f"schedule.steps={steps}"]
    if isinstance(chosen := load_recipe(name, overrides), Recipe):
        return load_recipe(name, [*data_overrides(data, chosen.data.layout, report), *overrides])
    if len(data) > 1:
        raise RecipeError(f"{name}: a segmenter learns from one folder, with train and val in it; give one --data")
    return load_recipe(name, [*(f"data.folder={json.dumps(str(folder))}" for folder in data), *overrides])


def _print_recipes() -> None:
    from rich.console import Console
    from rich.table import Table

    from derain.training.recipe_files import load_recipe, shipped

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold green", no_wrap=True)
    table.add_column(overflow="fold")
    for name in shipped():
        table.add_row(name, load_recipe(name).about)
    Console().print(table)


def _print_estimate(recipe: AnyRecipe, cost: RunEstimate) -> None:
    print(f"{recipe.name}: {recipe.network.name}, {cost.parameters:,} parameters; one batch of each phase was run")
    for phase, seconds, steps in zip(recipe.phases, cost.seconds, cost.steps, strict=True):
        print(f"  {steps} steps of {phase.batch}×{phase.size}×{phase.size}: {seconds:.2f} s each")
    for name, value in cost.losses.items():
        print(f"  {name}: {value:.4f}")
    print(f"  peak memory {cost.memory / 1e9:.1f} GB; the full run takes about {_duration(cost.total_seconds)}")


def _summary(recipe: AnyRecipe, folder: Path, weights: Path) -> list[str]:
    """What a run has written and how to use it."""
    from derain.training.recipe import Recipe

    derains = isinstance(recipe, Recipe)
    use = "run photo.jpg --model" if derains else "segment photo.jpg -o seen --segmenter"
    metric, samples = ("PSNR", "rainy | derained | clean") if derains else ("mIoU", "image | prediction | labels")
    return [
        f"{weights}: the weights of the best validation; use them with: derain {use} {weights}",
        f"{folder / 'curves.png'}: loss and {metric}; {folder / 'samples'}/: {samples}",
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
