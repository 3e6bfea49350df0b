"""``derain models``: what weights there are."""

from __future__ import annotations

import json
from dataclasses import asdict

from derain.weights.store import Weight, locate, manifest


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
        table.add_row("licence", weight.licence)
        table.add_row("trained on", weight.data)
        for protocol, value in weight.figures.items():
            table.add_row("measured", f"{protocol}: {value:g}")
        console.print(table)


def _aliases(name: str) -> list[str]:
    return [alias for alias, target in manifest().aliases.items() if target == name]


def _size(weight: Weight) -> str:
    path = locate(weight) if not weight.url else None
    return f"{path.stat().st_size / 1e6:.1f} MB" if path is not None else "fetched on first use"
