"""``derain models``: list, import, pack and average pretrained models."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from derain.errors import ModelError, OutputError
from derain.files import check_output
from derain.weights.card import model_card, size_text, title
from derain.weights.manifest import imported_files, manifest
from derain.weights.store import file_settings, find_file

from . import options as opt
from .console import Report

app = typer.Typer(invoke_without_command=True, add_completion=False)


@app.callback()
def models(
    context: typer.Context,
    as_json: opt.JSON_STDOUT = False,
    card: Annotated[str | None, Option(metavar="NAME", help="Print a model's card: data, limits, license.")] = None,
) -> None:
    """List the models: size, speed, license, training data and measured figures."""
    if context.invoked_subcommand is not None:
        return
    if card is not None:
        _print_card(model_card(card))
    elif as_json:
        listing = [{**asdict(e), "aliases": manifest().aliases_of(name)} for name, e in manifest().models.items()]
        print(json.dumps(listing, indent=2, ensure_ascii=False))
    else:
        _print_models()


@app.command("import")
def import_(
    file: Annotated[Path, Argument(metavar="FILE", help="Official checkpoint; see above.")],
    model: Annotated[str | None, Option("--as", metavar="NETWORK", help="Default: recognized by its keys.")] = None,
    name: Annotated[str | None, Option(help="Name for --model; default: the file's name.")] = None,
    settings: Annotated[
        list[str] | None, Option("--set", metavar="KEY=VALUE", help="A setting not in the keys: iterations=7.")
    ] = None,
    overwrite: opt.OVERWRITE = False,
) -> None:
    """Make an official checkpoint usable by name. Files that could run code are rejected.

    Of PReNet and its variants, SAPNet, JDNet, SGINet, AIDNet, BRN, MPRNet, RESCAN, NAFNet, Restormer, DRSformer, and
    Rain2Avoid's UNet, ResNet and DnCNN.
    """
    from derain.weights.official import import_checkpoint

    chosen = dict(_parse_setting(text) for text in settings or [])
    imported = import_checkpoint(file, model=model, name=name, settings=chosen, overwrite=overwrite)
    details = ", ".join(f"{k}={v}" for k, v in imported.settings.items()) or "default settings"
    print(f"{imported.name}: {imported.model}, {details}; stored at {imported.file}")
    print(f"use it with: derain run photo.jpg --model {imported.name}")


@app.command()
def pack(
    checkpoint: Annotated[Path, Argument(metavar="CHECKPOINT", help="RUN/checkpoints/best.ckpt or last.ckpt.")],
    output: opt.CHECKPOINT_OUTPUT,
    fp32: opt.FP32 = False,
    overwrite: opt.OVERWRITE = False,
) -> None:
    """Convert a training checkpoint to a file for --model."""
    from .train import require_training

    require_training()
    from derain.training.checkpoint import pack as pack_checkpoint

    _check_checkpoint_output(output, overwrite)
    with Report().busy("packing"):
        sha256 = pack_checkpoint(checkpoint, output, half=not fp32)
    _print_file(output, sha256)


@app.command("average")
def average_(
    models: Annotated[list[str], Argument(metavar="MODEL...", help="Two or more: names, .safetensors files.")],
    output: opt.CHECKPOINT_OUTPUT,
    shares: Annotated[str | None, Option(metavar="A,B,...", help="As 0.6,0.4; default: equal.")] = None,
    fp32: opt.FP32 = False,
    overwrite: opt.OVERWRITE = False,
) -> None:
    """Average checkpoints that were trained from the same start: often better than each."""
    _check_checkpoint_output(output, overwrite)
    try:
        parts = None if shares is None else [float(share) for share in shares.split(",")]
    except ValueError:
        raise ModelError(f"--shares {shares}: not numbers; write one for each model, as 0.6,0.4") from None
    with Report().busy("averaging"):
        from derain.weights.soup import average
        from derain.weights.store import save_file

        network, key = average(models, parts)
        origin = {"average": ", ".join(models), "shares": shares or "equal"}
        settings = file_settings(find_file(models[0]))
        sha256 = save_file(network, output, model=key, settings=settings, half=not fp32, origin=origin)
    _print_file(output, sha256)


def _print_card(text: str) -> None:
    """Print Markdown, typeset on a terminal."""
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


def _print_models() -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for entry in manifest().models.values():
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        console.print(f"[bold green]{title(entry)}[/]")
        table.add_row("what", entry.summary)
        table.add_row("network", f"{entry.model}, {size_text(entry)}, {entry.speed}")
        table.add_row("license", entry.license)
        table.add_row("trained on", entry.data)
        for protocol, value in entry.figures.items():
            table.add_row("measured", f"{protocol}: {value:g}")
        console.print(table)
    for name, path in imported_files().items():
        console.print(f"[bold green]{name}[/]  imported, {path}")


def _print_file(path: Path, sha256: str) -> None:
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")


def _check_checkpoint_output(output: Path, overwrite: bool) -> None:
    if output.suffix != ".safetensors":
        raise OutputError(f"{output}: models are written as .safetensors; change the name")
    check_output(output, overwrite)


def _parse_setting(text: str) -> tuple[str, Any]:
    """``iterations=7`` to a key and a value, which is parsed as JSON where possible."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ModelError(f"--set {text}: not a setting; write KEY=VALUE, such as iterations=7")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
