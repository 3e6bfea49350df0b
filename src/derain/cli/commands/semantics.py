"""``derain segment`` and ``semantics``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from derain.cli.options import DEBUG, DEVICE, OVERWRITE, PRESETS, QUIET, SEED, one_of

commands = typer.Typer()

_SEGMENTER = Annotated[
    Path, typer.Option("--segmenter", metavar="FILE", help="Weights that `derain train camvid-segmenter` wrote.")
]


@commands.command()
def segment(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders or globs.")],
    segmenter: _SEGMENTER,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the colored PNGs.")],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Look into subfolders.")] = False,
    device: DEVICE = "auto",
    overwrite: OVERWRITE = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
) -> None:
    """Color each pixel of pictures by what a segmenter sees there."""
    from derain.cli.semantics import segment_command

    raise typer.Exit(
        segment_command(inputs, output, segmenter, recursive=recursive, device=device, overwrite=overwrite, quiet=quiet)
    )


@commands.command()
def semantics(
    split: Annotated[Path, typer.Argument(metavar="SPLIT", help="Folder with images/ and labels/, such as CamVid's.")],
    segmenter: _SEGMENTER,
    models: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", help="A name from `derain models`, or a file; may be repeated."),
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", callback=one_of(*PRESETS), help=f"What rain: {', '.join(PRESETS)}.")
    ] = "heavy",
    seed: SEED = 0,
    count: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--count", min=1, help="Only so many pictures, spread evenly."),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", metavar="FILE", help="Write all figures."),
    ] = None,
    sheet: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--sheet", metavar="FILE", help="Write four pictures as shown and as seen; mind their license."),
    ] = None,
    device: DEVICE = "auto",
    overwrite: OVERWRITE = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
) -> None:
    """Measure what a segmenter still sees: mIoU on pictures as they are, rained on, and derained by models."""
    from derain.cli.semantics import SemanticsOptions, semantics_command

    options = SemanticsOptions(
        split=split,
        segmenter=segmenter,
        models=models or [],
        preset=preset,
        seed=seed,
        count=count,
        json_file=json_file,
        sheet=sheet,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(semantics_command(options))
