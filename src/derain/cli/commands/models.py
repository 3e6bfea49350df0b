"""``derain models``, ``export`` and ``bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from derain.cli.options import PRECISION, RUNTIMES, one_of, words

commands = typer.Typer()


models_app = typer.Typer(invoke_without_command=True)
commands.add_typer(models_app, name="models")


@models_app.callback()
def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
    card: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--card", metavar="NAME", help="Print one model's card: data, figures, failures, license."),
    ] = None,
) -> None:
    """List the models: size, speed, license, training data and measured figures."""
    if context.invoked_subcommand is None:
        from derain.cli.models import card_command, models_command

        if card is not None:
            card_command(card)
        else:
            models_command(as_json)


@models_app.command("import")
def models_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Official checkpoint of PReNet or SAPNet.")],
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--as", metavar="NETWORK", help="The network it belongs to; else told by its keys."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--name", help="What --model will take; else the file's name."),
    ] = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A setting that the keys do not tell: iterations=7."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier import of that name.")] = False,
) -> None:
    """Make an official checkpoint usable by name. Files that could run code are refused."""
    from derain.cli.models import import_command

    import_command(file, model, name, settings or [], overwrite)


@models_app.command("pack")
def models_pack(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="RUN/checkpoints/best.ckpt or last.ckpt.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .safetensors file to write.")],
    single: Annotated[bool, typer.Option("--fp32", help="Keep full precision; twice the size.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Turn a training checkpoint into a weight for --model."""
    from derain.cli.train import pack_command

    pack_command(checkpoint, output, single=single, overwrite=overwrite)


@models_app.command("average")
def models_average(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Two or more: names, .safetensors files.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .safetensors file to write.")],
    shares: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--shares", metavar="A,B,...", help="Share of each, as 0.6,0.4; equal unless told."),
    ] = None,
    single: Annotated[bool, typer.Option("--fp32", help="Keep full precision; twice the size.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Average weights that were taught from the same beginning: often better than each."""
    from derain.cli.models import average_command

    average_command(models, output, shares, single=single, overwrite=overwrite)


@commands.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name from `derain models`, or a .safetensors file.")],
    to: Annotated[str, typer.Option("--to", callback=one_of("onnx", "openvino"), help="onnx or openvino.")] = "onnx",
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", metavar="FILE", help="The .onnx or .xml file; else MODEL.onnx or MODEL.xml."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", callback=one_of("fp32", "fp16"), help="How weights are stored; fp16 is half the size."
        ),
    ] = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a model as one file that runs without torch: derain run photo.jpg --model FILE.

    Any picture size; the file says what it is, and is compared with torch before it is kept.
    """
    from derain.cli.models import export_command

    export_command(model, to, output, precision, overwrite)


@commands.command()
def bench(
    model: Annotated[
        str, typer.Option("--model", metavar="A[,B...]", help="Names or files, with commas; all: every listed model.")
    ] = "default",
    runtime: RUNTIMES = "auto",
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Of the picture.")] = "480x320",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed calls of each.")] = 7,
    threads: Annotated[Optional[int], typer.Option("--threads", min=1, help="Of a call.")] = None,  # noqa: UP045
    precision: PRECISION = "auto",
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", metavar="FILE", help="Also write everything as JSON."),
    ] = None,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--plot", metavar="FILE", help="Draw quality over time, for models with measured figures."),
    ] = None,
) -> None:
    """Measure how fast models run here: time, operations against this machine's peak, memory."""
    from derain.cli.bench import bench_command

    bench_command(words(model), words(runtime), size, repeats, threads, precision, json_file, plot)
