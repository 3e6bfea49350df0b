"""``derain``: the root command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from derain._version import __version__
from derain.cli.commands import data, models, pictures, rain2avoid, semantics, training
from derain.errors import DerainError

app = typer.Typer(
    name="derain",
    help="Take the rain out of photographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (pictures, models, data, rain2avoid, training, semantics):
    app.add_typer(group.commands)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"derain {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: a user's mistake is one line and an exit code, never a traceback."""
    try:
        app()
    except DerainError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
