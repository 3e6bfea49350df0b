"""``derain train`` and ``derain ablate``: recipes run, shown and tried out."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain.errors import DerainError, InputError, RecipeError

from .models import check_weight_file

if TYPE_CHECKING:
    from derain.training.recipe import AnyRecipe
    from derain.training.run import OnStep, RunEstimate


@dataclass(frozen=True)
class TrainOptions:
    """The command's options, as typed."""

    recipe: str | None
    overrides: list[str]
    data: list[Path]
    out: Path | None = None
    steps: int | None = None
    minutes: float | None = None
    resume: bool = False
    show: bool = False
    dry_run: bool = False
    quiet: bool = False


def need_training() -> None:
    """Say what to install if the training extra is missing.

    Raises:
        RecipeError: it is.
    """
    from importlib.util import find_spec

    missing = [name for name in ("lightning", "tensorboard", "matplotlib") if find_spec(name) is None]
    if missing:
        raise RecipeError(f"training needs {', '.join(missing)}; install them with: pip install 'derain[train]'")


def list_command() -> None:
    """Print the shipped recipes."""
    from rich.console import Console
    from rich.table import Table

    from derain.training.recipe import load_recipe, shipped

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold green", no_wrap=True)
    table.add_column(overflow="fold")
    for name in shipped():
        table.add_row(name, load_recipe(name).about)
    Console().print(table)


def train_command(options: TrainOptions) -> int:
    """Run the command; returns the exit code."""
    recipe = _recipe(options)
    if options.show:
        print(recipe.as_yaml(), end="")
        return 0
    need_training()
    from derain.training.recipe import Recipe
    from derain.training.run import estimate, fit_to, train

    if options.minutes is not None:
        recipe = fit_to(recipe, options.minutes)
    if options.dry_run:
        _print_cost(recipe, estimate(recipe))
        return 0
    out = options.out if options.out is not None else Path("runs") / recipe.name
    if not options.quiet:
        print(f"{recipe.name}: {recipe.schedule.steps} steps, into {out}/", flush=True)
    try:
        with _bar(recipe.name, options.quiet) as on_step:
            weights = train(recipe, out, resume=options.resume, on_step=on_step)
    except KeyboardInterrupt:
        print(f"stopped; go on with: derain train --resume --out {shlex.quote(str(out))}", file=sys.stderr)
        return 130
    if not options.quiet:
        derains = isinstance(recipe, Recipe)
        use = "run photo.jpg --model" if derains else "segment photo.jpg -o seen --segmenter"
        print(f"{weights}: the weights of the best validation; use them with: derain {use} {weights}")
        course, samples = ("PSNR", "rainy | derained | clean") if derains else ("mIoU", "picture | seen | labels")
        print(f"{out / 'curves.png'}: loss and {course}; {out / 'samples'}/: {samples}")
    return 0


def ablate_command(
    name: str,
    data: list[Path],
    overrides: list[str],
    out: Path | None,
    *,
    minutes: float,
    steps: int | None,
    quiet: bool,
) -> int:
    """Train each row of an ablation for a budget of minutes, or of steps if they are told, and print the table."""
    need_training()
    from derain.training.ablation import load_ablation, run_row

    length = [] if steps is None else [f"schedule.steps={steps}"]
    ablation = load_ablation(name, [*_data_overrides(data), *overrides, *length])
    folder = out if out is not None else Path("runs") / f"ablation-{name}"
    results = []
    for row in ablation.rows:
        with _bar(row.name, quiet) as bar:
            results += run_row(row, folder, minutes if steps is None else None, bar)
    _print_ablation(results, ablation.about)
    return 0


def pack_command(checkpoint: Path, output: Path, *, single: bool, overwrite: bool) -> None:
    """Write a checkpoint's weights and say so."""
    need_training()
    from derain.training.run import pack

    check_weight_file(output, overwrite)
    sha256 = pack(checkpoint, output, half=not single)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")


def _recipe(options: TrainOptions) -> AnyRecipe:
    from derain.training.recipe import Recipe, load_recipe

    name: str | Path
    if options.recipe is not None:
        name = options.recipe
    elif options.resume and options.out is not None:
        name = options.out / "recipe.yaml"
    else:
        raise RecipeError("which recipe? give a name of `derain train --list` or a file, or --resume with --out")
    overrides = [*options.overrides]
    if options.steps is not None:
        overrides.append(f"schedule.steps={options.steps}")
    if isinstance(load_recipe(name, overrides), Recipe):
        return load_recipe(name, [*_data_overrides(options.data), *overrides])
    if len(options.data) > 1:
        raise RecipeError(f"{name}: a segmenter learns from one folder, with train and val in it; give one --data")
    return load_recipe(name, [*(f"data.folder={json.dumps(str(folder))}" for folder in options.data), *overrides])


def _data_overrides(folders: list[Path]) -> list[str]:
    """``--data`` folders as overrides: pairs where names pair, else clean photographs."""
    from derain.data.layouts import find_pairs, pictures_in

    pairs: list[str] = []
    clean: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give a folder of clean photographs or of pairs")
        try:
            find_pairs(folder)
        except DerainError:
            if not pictures_in(folder):
                raise InputError(f"{folder}: neither photographs nor pairs in it; see `derain data check`") from None
            clean.append(str(folder))
        else:
            pairs.append(str(folder))
    found = [f"data.clean={clean}"] if clean else []
    return [*found, f"data.pairs={pairs}"] if pairs else found


def _print_cost(recipe: AnyRecipe, cost: RunEstimate) -> None:
    print(f"{recipe.name}: {recipe.network.name}, {cost.parameters:,} parameters; one batch of each phase went through")
    for phase, seconds, steps in zip(recipe.patches, cost.seconds, cost.steps, strict=True):
        print(f"  {steps} steps of {phase.batch}×{phase.size}×{phase.size}: {seconds:.2f} s each")
    for name, value in cost.losses.items():
        print(f"  {name}: {value:.4f}")
    print(f"  peak memory {cost.memory / 1e9:.1f} GB; the whole run some {_duration(cost.total_seconds)}")


def _print_ablation(results: list[dict[str, Any]], about: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=about, box=SIMPLE_HEAD)
    of_paper = any(row["paper"] for row in results)
    for heading in ("model", "set", "steps", "PSNR", "SSIM", *(("paper PSNR", "paper SSIM") if of_paper else ())):
        table.add_column(heading, justify="left" if heading in ("model", "set") else "right")
    for row in results:
        measured = (f"{row['psnr']:.2f}", f"{row['ssim']:.4f}")
        table.add_row(row["name"], row["set"], str(row["steps"]), *measured, *map(str, row["paper"] or ()))
    Console().print(table)
    note = "; the paper's in RGB, of full training" if of_paper else ""
    print(f"PSNR and SSIM in protocol {results[0]['protocol']}{note}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@contextmanager
def _bar(what: str, quiet: bool) -> Iterator[OnStep]:
    """A bar with loss and remaining time on a terminal; else a line each validation."""
    if quiet or not sys.stderr.isatty():
        say = (lambda _line: None) if quiet else partial(print, flush=True)
        yield lambda step, _total, numbers: _validation_line(step, numbers, say)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=None, loss="")

        def on_step(step: int, total: int, numbers: dict[str, float]) -> None:
            if "loss" in numbers:
                progress.update(task, completed=step, total=total, loss=f"loss {numbers['loss']:.4f}")
            _validation_line(step, numbers, progress.console.print)

        yield on_step


def _validation_line(step: int, numbers: dict[str, float], say: Callable[[str], None]) -> None:
    if "miou" in numbers:
        say(f"step {step}: mIoU {numbers['miou']:.4f}")
    if "psnr" in numbers:
        from derain.training.metrics_log import scored_sets

        sets = [f"{label} {numbers[name]:.2f} dB" for name, label in scored_sets(numbers).items()]
        say(f"step {step}: " + ", ".join(sets))
