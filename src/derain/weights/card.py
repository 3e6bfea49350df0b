"""Model cards: what the manifest says about a pretrained model, as Markdown."""

from __future__ import annotations

from typing import Any

from derain.models import model_info

from .manifest import PretrainedModel, manifest
from .store import file_settings, local_file, locate


def model_card(name: str) -> str:
    """A pretrained model's card as Markdown.

    Args:
        name: a name or an alias of the manifest.

    Raises:
        ModelError: unknown name.
    """
    entry = manifest().find(name)
    info = model_info(entry.model)
    file = local_file(entry)
    settings = "stored in its file, which is not downloaded yet" if file is None else _as_words(file_settings(file))
    tiles = (
        "It averages over its whole input, so tiles may differ from the whole image."
        if info.global_pooling
        else f"Large images run in tiles that overlap by {info.overlap} pixels."
    )
    sections = {
        "What it is": [
            entry.summary + ".",
            f"Network: `{entry.model}`, settings: {settings}. {info.paper}.",
            f"Size: {size_text(entry)}. Speed class: {entry.speed}. {tiles}",
            f"sha256 of the file: `{entry.sha256}`.",
        ],
        "Trained on": [f"{entry.data}."],
        "How": [f"{entry.recipe}; seed {entry.seed}."],
        "Measured": [f"- {what}: **{value:g}**" for what, value in entry.figures.items()],
        "Where it fails": [f"- {limit}" for limit in entry.limits] or ["Not examined yet."],
        "License": [f"{entry.license}."],
    }
    body = [f"## {head}\n\n" + "\n".join(lines) for head, lines in sections.items()]
    return "\n\n".join([f"# {title(entry)}", *body])


def title(entry: PretrainedModel) -> str:
    """A pretrained model's name and its aliases."""
    aliases = manifest().aliases_of(entry.name)
    return entry.name + (f" (also: {', '.join(aliases)})" if aliases else "")


def size_text(entry: PretrainedModel) -> str:
    """The size of a pretrained model's file, if it is part of the package."""
    return "downloaded on first use" if entry.url else f"{locate(entry).stat().st_size / 1e6:.1f} MB"


def _as_words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "the defaults"
