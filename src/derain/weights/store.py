"""Trained weights: what exists (``manifest.toml``), where it lies, and how it becomes a network.

A weight is a safetensors file. Shipped ones lie in the package; others are fetched once by URL,
checked by sha256 and kept under ``DERAIN_HOME``. Every file also says in its own header which
network it belongs to, so that a path works wherever a name does.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain.errors import ModelError
from derain.fetch import fetch, home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from torch import Tensor, nn

_HERE = Path(__file__).parent
#: ``kind`` in the header of a segmenter's weight file; networks that derain have none.
SEGMENTER = "segmenter"


@dataclass(frozen=True)
class Weight:
    """One trained weight of the manifest.

    Attributes:
        name: what ``--model`` takes.
        model: key of the network in ``derain.models``.
        file: file name of the safetensors.
        sha256: of the file.
        summary: one line for the list of models.
        license: terms of the weight, with those of its training data.
        data: what it was trained on.
        recipe: how it was trained.
        seed: of the training.
        speed: speed class, ``fast``, ``medium`` or ``slow``.
        figures: measured results, name to value; each name states its protocol.
        limits: where it fails, a sentence each.
        url: where to fetch the file if it is not shipped.
    """

    name: str
    model: str
    file: str
    sha256: str
    summary: str
    license: str
    data: str
    recipe: str
    seed: int
    speed: str
    figures: dict[str, float] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True)
class Manifest:
    """All weights by name, and other names for them."""

    weights: dict[str, Weight]
    aliases: dict[str, str]

    def find(self, name: str) -> Weight:
        """The weight behind a name or alias.

        Raises:
            ModelError: unknown name.
        """
        target = self.aliases.get(name, name)
        if target not in self.weights:
            known = ", ".join([*self.aliases, *self.weights, *imported_files()])
            raise ModelError(f"unknown model {name!r}; choose one of {known}, or give a .safetensors file")
        return self.weights[target]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest file."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    weights = {
        name: Weight(name=name, **{**entry, "limits": tuple(entry.get("limits", ()))})
        for name, entry in content.get("weights", {}).items()
    }
    return Manifest(weights, content.get("aliases", {}))


@lru_cache(maxsize=1)
def manifest() -> Manifest:
    """The manifest that ships with the package."""
    return read_manifest(_HERE / "manifest.toml")


def list_models() -> list[str]:
    """The names that :func:`load_model` and ``Derainer`` take: aliases, shipped weights, imports."""
    return [*manifest().aliases, *manifest().weights, *imported_files()]


def locate(weight: Weight) -> Path:
    """The file of a weight: shipped, kept, or fetched now.

    Raises:
        ModelError: it cannot be fetched, or what came is not what the manifest says.
    """
    shipped = _HERE / "files" / weight.file
    if shipped.exists():
        return shipped
    if not weight.url:
        raise ModelError(f"{weight.name}: its file {weight.file} is missing; reinstall derain")
    return fetch(weight.name, weight.url, weight.sha256, home() / "weights" / weight.file)


def local_file(weight: Weight) -> Path | None:
    """The file of a weight if it lies on this machine already."""
    places = (_HERE / "files" / weight.file, home() / "weights" / weight.file)
    return next((place for place in places if place.exists()), None)


def load_model(name_or_path: str | Path = "default") -> nn.Module:
    """A network with its trained weights, on the CPU, in ``eval`` mode.

    Args:
        name_or_path: a name that ``derain models`` lists, or a safetensors file written by derain.

    Raises:
        ModelError: unknown name, missing or damaged file, or weights that do not fit.
    """
    return load_file(find_file(name_or_path))[0]


def find_file(name_or_path: str | Path) -> Path:
    """The file behind a name, fetched if need be; a path is given back."""
    if is_file_name(name_or_path):
        return Path(name_or_path)
    own = imported_files().get(str(name_or_path))
    return own if own is not None else locate(manifest().find(str(name_or_path)))


def imported_files() -> dict[str, Path]:
    """Weights that ``derain models import`` made, by name."""
    return {p.stem: p for p in sorted((home() / "imported").glob("*.safetensors"))}


def is_file_name(name_or_path: str | Path) -> bool:
    """Whether ``--model`` means a file rather than a name of the manifest."""
    text = str(name_or_path)
    suffixes = (".safetensors", ".onnx", ".xml")
    return isinstance(name_or_path, Path) or text.endswith(suffixes) or "/" in text or os.sep in text


def file_settings(path: Path) -> dict[str, Any]:
    """The network's settings that a safetensors file names."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    settings: dict[str, Any] = json.loads(header.get("__metadata__", {}).get("settings", "{}"))
    return settings


def load_file(path: Path) -> tuple[nn.Module, str]:
    """The network that a safetensors file describes, filled, and its key in the table of networks."""
    from derain.models import create_model

    header, tensors = read_weights(path)
    if "model" not in header:
        raise ModelError(f"{path}: does not say which network it belongs to; use one written by derain")
    if header.get("kind") == SEGMENTER:
        raise ModelError(f"{path}: the weights of a segmenter, which does not derain; see `derain segment`")
    network = create_model(header["model"], **json.loads(header.get("settings", "{}")))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ModelError(f"{path}: its weights do not fit {header['model']} ({first})") from None
    return network.eval(), header["model"]


def average(names_or_paths: Sequence[str | Path], shares: Sequence[float] | None = None) -> tuple[nn.Module, str]:
    """One network with the average weights of several of one make, which began from the same weights.

    A model soup (Wortsman et al., ICML 2022): often better than each of them.

    Args:
        names_or_paths: two or more, as for :func:`load_model`.
        shares: of each, not negative; scaled to a sum of 1. Equal unless told.

    Returns:
        The network and its key in the table of networks.

    Raises:
        ModelError: weights of different networks, or shares that are none.
    """
    files = [find_file(name) for name in names_or_paths]
    shares = [1.0] * len(files) if shares is None else list(shares)
    if len(files) < 2 or len(shares) != len(files) or not (min(shares) >= 0 and 0 < sum(shares) < float("inf")):
        raise ModelError(f"{len(files)} weights with shares {shares}: give two or more, each with a share from 0 on")
    loaded = [load_file(file) for file in files]
    network, key = loaded[0]
    states = [other.state_dict() for other, _ in loaded]
    makes = [
        (other_key, {name: value.shape for name, value in s.items()})
        for (_, other_key), s in zip(loaded, states, strict=True)
    ]
    for file, make in zip(files, makes, strict=True):
        if make != makes[0]:
            raise ModelError(
                f"{file}: a {make[0]} of another shape than {files[0]}, a {key}; average weights of one run"
            )
    parts = [share / sum(shares) for share in shares]
    network.load_state_dict(
        {name: sum(part * state[name] for part, state in zip(parts, states, strict=True)) for name in states[0]}
    )
    return network, key


def read_weights(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and float32 tensors of a safetensors file.

    Raises:
        ModelError: missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"{path}: no such weight file; check the name")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error}); use one written by derain") from None


def save_file(
    network: nn.Module,
    path: Path,
    *,
    model: str,
    settings: dict[str, Any],
    half: bool = True,
    origin: dict[str, str] | None = None,
) -> str:
    """Write a network as a self-describing safetensors file.

    Args:
        network: whose state is written.
        path: the file; written whole or not at all.
        model: the network's key in the table of networks.
        settings: the settings it was made with.
        half: store float16, half the size; loading gives float32 again.
        origin: where the weights come from, as further entries of the header.

    Returns:
        sha256 of the file.

    Raises:
        OutputError: it cannot be written.
    """
    import torch
    from safetensors.torch import save

    from derain.files import write_bytes

    kind = torch.float16 if half else torch.float32
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    # Counters of batch normalization stay whole numbers; float16 ends at 65,504.
    tensors = {k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}
    data = save(tensors, metadata={**(origin or {}), "model": model, "settings": json.dumps(settings)})
    write_bytes(data, path)
    return hashlib.sha256(data).hexdigest()
