"""``derain models``: what weights there are."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from derain.errors import ModelError, OutputError
from derain.weights.store import Weight, file_settings, find_file, imported_files, local_file, locate, manifest


def models_command(as_json: bool) -> None:
    """Print the manifest as a table, or as JSON."""
    known = manifest()
    if as_json:
        listing = [{**asdict(w), "aliases": _aliases(name)} for name, w in known.weights.items()]
        print(json.dumps(listing, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for name, weight in known.weights.items():
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        aliases = _aliases(name)
        console.print(f"[bold green]{name}[/]" + (f"  (also: {', '.join(aliases)})" if aliases else ""))
        table.add_row("what", weight.summary)
        table.add_row("network", f"{weight.model}, {_size(weight)}, {weight.speed}")
        table.add_row("license", weight.license)
        table.add_row("trained on", weight.data)
        for protocol, value in weight.figures.items():
            table.add_row("measured", f"{protocol}: {value:g}")
        console.print(table)
    for name, path in imported_files().items():
        console.print(f"[bold green]{name}[/]  imported, {path}")


def card_command(name: str) -> None:
    """Print a weight's model card as Markdown, typeset on a terminal."""
    text = model_card(name)
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


def model_card(name: str) -> str:
    """A weight's card as Markdown; ModelError for an unknown name."""
    from derain.models import model_info

    weight = manifest().find(name)
    info = model_info(weight.model)
    file = local_file(weight)  # which says itself how its network is made
    made = "told by its file, which is not here yet" if file is None else _in_words(file_settings(file))
    tiles = (
        "It averages over its whole input, so tiles may differ from the whole picture."
        if info.global_pooling
        else f"Large pictures run in tiles that overlap by {info.overlap} pixels."
    )
    other = _aliases(weight.name)
    sections = {
        "What it is": [
            weight.summary + ".",
            f"Network: `{weight.model}`, settings: {made}. {info.paper}.",
            f"Size: {_size(weight)}. Speed class: {weight.speed}. {tiles}",
            f"sha256 of the file: `{weight.sha256}`.",
        ],
        "Trained on": [f"{weight.data}."],
        "How": [f"{weight.recipe}; seed {weight.seed}."],
        "Measured": [f"- {what}: **{value:g}**" for what, value in weight.figures.items()],
        "Where it fails": [f"- {limit}" for limit in weight.limits] or ["Not examined yet."],
        "License": [f"{weight.license}."],
    }
    title = f"# {weight.name}" + (f" (also: {', '.join(other)})" if other else "")
    body = [f"## {head}\n\n" + "\n".join(lines) for head, lines in sections.items()]
    return "\n\n".join([title, *body])


def import_command(file: Path, model: str | None, name: str | None, settings: list[str], overwrite: bool) -> None:
    """Import a checkpoint and say what it became."""
    from derain.weights.official import import_checkpoint

    chosen = dict(_setting(text) for text in settings)
    made = import_checkpoint(file, model=model, name=name, settings=chosen, overwrite=overwrite)
    details = ", ".join(f"{k}={v}" for k, v in made.settings.items()) or "default settings"
    print(f"{made.name}: {made.model}, {details}; kept at {made.file}")
    print(f"use it with: derain run photo.jpg --model {made.name}")


def average_command(models: list[str], output: Path, shares: str | None, *, single: bool, overwrite: bool) -> None:
    """Write the average of several weights and say so."""
    check_weight_file(output, overwrite)
    try:
        parts = None if shares is None else [float(share) for share in shares.split(",")]
    except ValueError:
        raise ModelError(f"--shares {shares}: not numbers; write one for each weight, as 0.6,0.4") from None
    from derain.weights import average, save_file

    network, key = average(models, parts)
    origin = {"average": ", ".join(models), "shares": shares or "equal"}
    settings = file_settings(find_file(models[0]))
    sha256 = save_file(network, output, model=key, settings=settings, half=not single, origin=origin)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")


def check_weight_file(output: Path, overwrite: bool) -> None:
    """Whether a weight may be written there."""
    if output.suffix != ".safetensors":
        raise OutputError(f"{output}: weights are written as .safetensors; change the name")
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already; add --overwrite or choose another name")


def export_command(model: str, to: str, output: Path | None, precision: str, overwrite: bool) -> None:
    """Export a model and say how near to torch it is."""
    from derain.derainer import export_model
    from derain.runtime.export import SUFFIXES

    file = output if output is not None else Path(Path(model).stem + SUFFIXES[to])
    difference = export_model(model, file, to=to, precision=precision, overwrite=overwrite)
    size = sum(part.stat().st_size for part in {file, file.with_suffix(".bin") if to == "openvino" else file}) / 1e6
    print(f"{model} → {file} ({size:.1f} MB), largest difference to torch {difference:.1e} of 1")
    print(f"use it with: derain run photo.jpg --model {file}")


def _setting(text: str) -> tuple[str, Any]:
    """``iterations=7`` to a key and a value as JSON reads it, else as text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ModelError(f"--set {text}: not a setting; write KEY=VALUE, such as iterations=7")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _in_words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "the defaults"


def _aliases(name: str) -> list[str]:
    return [alias for alias, target in manifest().aliases.items() if target == name]


def _size(weight: Weight) -> str:
    path = locate(weight) if not weight.url else None
    return f"{path.stat().st_size / 1e6:.1f} MB" if path is not None else "fetched on first use"
