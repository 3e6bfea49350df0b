"""``derain``: the root command, a table of names. A command's module is imported when the command is called."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from derain._version import __version__
from derain.streams import safe_streams

#: Name -> (module, whose ``app`` is the command; one-line help).
COMMANDS = {
    "run": ("derain.cli.run", "Remove rain from images and clips."),
    "serve": ("derain.cli.serve", "Serve a web page and an HTTP API, by default to this computer only."),
    "models": ("derain.cli.models", "List the models: size, speed, license, training data and measured figures."),
    "export": (
        "derain.cli.export",
        "Export a model to a file that runs without torch: derain run photo.jpg --model FILE.",
    ),
    "bench": ("derain.cli.bench", "Measure how fast models run here: time, share of the machine's peak, memory."),
    "synth": ("derain.cli.synth", "Add rain to clean images: PAIRS/input, PAIRS/target and PAIRS/manifest.json."),
    "data": ("derain.cli.data", "Check paired datasets, and convert them to a plain layout."),
    "eval": ("derain.cli.eval", "Evaluate models, or existing results, on paired datasets."),
    "train": ("derain.cli.train", "Train a network from a recipe."),
    "ablate": ("derain.cli.ablate", "Train each row of an ablation for the same time or steps, and print the table."),
    "segment": ("derain.cli.segment", "Write the classes that a segmenter predicts as colored images."),
    "eval-segmentation": (
        "derain.cli.eval_segmentation",
        "Measure a segmenter's mIoU on clean, rainy and derained images.",
    ),
    "eval-detection": (
        "derain.cli.eval_detection",
        "Measure a detector's average precision on clean, rainy and derained images.",
    ),
    "rain2avoid": ("derain.cli.rain2avoid", "Rain2Avoid: derain by a network that learns from the images alone."),
}

#: Old name -> words of today's command.
ALIASES = {"adapt": "rain2avoid run", "semantics": "eval-segmentation"}


class LazyGroup(TyperGroup):
    """Lists the commands of the table, and imports the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, line) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=line))
        for name in ALIASES:
            self.add_command(TyperCommand(name, hidden=True))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments name, and the arguments left for it."""
        if args and args[0] in ALIASES:
            words = ALIASES[args[0]]
            typer.echo(f"note: `derain {args[0]}` is now `derain {words}`", err=True)
            args = [*words.split(), *args[1:]]
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """Import a command of the table."""
    command = get_command(importlib.import_module(COMMANDS[name][0]).app)
    command.name = name
    return command


app = typer.Typer(
    name="derain",
    cls=LazyGroup,
    help="Remove rain from photographs and clips.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"derain {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: an error is one line and an exit code, never a traceback, except with ``--debug``."""
    with safe_streams() as exit_code:
        sys.exit(exit_code(_call()))


def _call() -> int:
    """Run the command of ``sys.argv``; returns its exit code."""
    try:
        app(prog_name="derain")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        from .console import describe

        typer.echo(f"error: {describe(error)}", err=True)
        return 1
    return 0


if __name__ == "__main__":
    main()
