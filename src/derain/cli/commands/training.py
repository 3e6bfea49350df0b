"""``derain train`` and ``ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from derain.cli.options import DEBUG, QUIET

commands = typer.Typer()


_DATA = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option(
        "--data",
        metavar="DIR",
        help="Clean photographs, which are rained on, or pairs; may be repeated. A segmenter: CamVid.",
    ),
]
_OVERRIDES = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Argument(metavar="[FIELD=VALUE]...", help="Changes to the recipe, such as optimizer.lr=5e-4."),
]
_RUN_FOLDER = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("-o", "--out", metavar="RUN", help="Folder of the run; runs/NAME unless told."),
]


@commands.command()
def train(
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[RECIPE]", help="A name of --list, or a YAML file."),
    ] = None,
    overrides: _OVERRIDES = None,
    data: _DATA = None,
    out: _RUN_FOLDER = None,
    steps: Annotated[Optional[int], typer.Option("--steps", min=1, help="Length of the run.")] = None,  # noqa: UP045
    minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--minutes", min=0.1, help="As many steps as take so long here."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe and stop.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="One batch through everything; time and memory.")] = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
) -> None:
    """Train a network by a recipe.

    A run folder holds checkpoints, metrics.csv, curves.png, samples/, TensorBoard's events and at last
    weights.safetensors for --model. A stopped run goes on with --resume as if it had never stopped.
    """
    from derain.cli.train import TrainOptions, list_command, train_command

    if list_:
        list_command()
        return
    options = TrainOptions(recipe, overrides or [], data or [], out, steps, minutes, resume, show, dry_run, quiet)
    raise typer.Exit(train_command(options))


@commands.command()
def ablate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="sapnet, its paper's table; or losses.")],
    overrides: _OVERRIDES = None,
    data: _DATA = None,
    out: _RUN_FOLDER = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Training time of each row.")] = 60,
    steps: Annotated[Optional[int], typer.Option("--steps", min=1, help="Or steps, where time is noisy.")] = None,  # noqa: UP045
    quiet: QUIET = False,
    debug: DEBUG = False,
) -> None:
    """Train each row of an ablation for the same time, or the same steps, and print the table."""
    from derain.cli.train import ablate_command

    raise typer.Exit(ablate_command(name, data or [], overrides or [], out, minutes=minutes, steps=steps, quiet=quiet))
