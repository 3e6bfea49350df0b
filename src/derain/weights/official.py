"""Official checkpoints of the papers' repositories, read safely and converted."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from derain.errors import ModelError
from derain.fetch import home
from derain.files import sha256_of, what_instead
from derain.models.base import HasOfficialCheckpoints, HasSegmenter
from derain.models.registry import MODELS, create_model, model_class

from .manifest import manifest
from .store import check_finite, plain_key, save_file

_WRAPPERS = ("state_dict", "params_ema", "params", "net", "model", "network")
#: What Lightning and other trainers call the network among their own parts, such as losses.
_ATTRIBUTES = ("model.", "net.", "network.", "generator.")


@dataclass(frozen=True)
class Imported:
    """An imported checkpoint."""

    name: str
    model: str
    settings: dict[str, Any]
    file: Path


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` or ``.safetensors`` file, unwrapped, ``module.`` and ``_orig_mod.`` removed.

    Nothing in the file is executed: PyTorch's restricted unpickler refuses all but tensors and plain
    containers.

    Raises:
        ModelError: missing, unreadable, holding other objects than tensors, no state dictionary, or NaN or infinite
            values.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; check the name")
    if (instead := what_instead(path)) is not None:
        raise ModelError(f"{path}: {instead}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on old pickle protocols, before the error that follows anyway
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path}: holds objects other than tensors, which could run code; not loaded. "
            "Get a file of tensors from its authors"
        ) from None
    except Exception as error:
        raise ModelError(f"{path}: not a readable checkpoint ({type(error).__name__}); download it again") from None
    while isinstance(content, Mapping) and not any(isinstance(v, Tensor) for v in content.values()):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()) or not content:
        raise ModelError(f"{path}: holds no state dictionary; give a file of network weights")
    state = {plain_key(str(key)): value for key, value in content.items()}
    check_finite(state, path)
    return state


def _parts(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """A state dictionary, then what it holds of the network if a trainer saved it among its own parts."""
    yield state
    for attribute in _ATTRIBUTES:
        part = {plain_key(key[len(attribute) :]): value for key, value in state.items() if key.startswith(attribute)}
        if part:
            yield from _parts(part)


def find_network(state: dict[str, Tensor], model: str | None = None) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Which network a checkpoint belongs to, also if Lightning or another trainer wrapped it.

    Args:
        state: from :func:`read_checkpoint`.
        model: key of the network if it is known.

    Returns:
        Key of the network, the settings that its tensors imply, and its own part of the state.

    Raises:
        ModelError: the network is unknown.
    """
    for part in _parts(state):
        for name in MODELS if model is None else [model]:
            network = model_class(name)
            if (
                issubclass(network, HasOfficialCheckpoints)
                and (settings := network.official_settings(part)) is not None
            ):
                return name, settings, part
    if model is not None:
        return model, {}, state
    some = ", ".join(list(state)[:3])
    raise ModelError(f"unknown checkpoint (its keys: {some}, …); name its network with --as")


def recognize(state: dict[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """Which network a state dictionary in official names belongs to, and with what settings.

    Raises:
        ModelError: the network is unknown.
    """
    name, settings, _ = find_network(state)
    return name, settings


def convert_official(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an official checkpoint.

    Args:
        name: key of the network.
        state: from :func:`read_checkpoint`.

    Returns:
        A state dictionary for ``create_model(name, …)``.

    Raises:
        ModelError: the network has no official layout, or a key does not belong to it.
    """
    network = model_class(name)
    if not issubclass(network, HasOfficialCheckpoints):
        raise ModelError(f"{name}: no official checkpoints are known for it")
    try:
        return network.rename_official(state)
    except KeyError as error:
        raise ModelError(f"{name}: {error} is not a key of its official checkpoints") from None


def _find_segmenter(path: Path, network: nn.Module, model: str) -> Path | None:
    """The file of a network's frozen segmenter, in the same folder; ``None`` for networks without one.

    Raises:
        ModelError: it is missing.
    """
    if not isinstance(network, HasSegmenter):
        return None
    names = network.segmenter_files
    for name in names:
        if (path.parent / name).is_file():
            return path.parent / name
    raise ModelError(f"{path}: {model} needs its segmenter too; put {' or '.join(names)} into the same folder")


def import_checkpoint(
    path: Path,
    *,
    model: str | None = None,
    name: str | None = None,
    settings: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Imported:
    """Convert an official checkpoint so that it can be used by name.

    Args:
        path: the file. SGINet's frozen segmenter is read from its own file in the same folder.
        model: the network it belongs to; recognized by its keys if ``None``.
        name: what ``--model`` will take; the file's stem if ``None``.
        settings: settings that the keys do not determine, such as ``iterations``.
        overwrite: replace an earlier import of that name.

    Returns:
        The float32 safetensors file below :func:`derain.fetch.home`, with its provenance.

    Raises:
        ModelError: unreadable, unknown, does not fit, NaN or infinite values, or the name is taken.
    """
    name = name or path.stem
    known = manifest()
    if name in known.models or name in known.aliases or Path(name).name != name or name.startswith("."):
        raise ModelError(f"{name!r} cannot be the name of an import; choose another with --name")
    output = home() / "imported" / f"{name}.safetensors"
    if output.exists() and not overwrite:
        raise ModelError(f"{name!r} was imported before; add --overwrite or choose another --name")
    model, found, state = find_network(read_checkpoint(path), model)
    chosen = {**found, **(settings or {})}
    network = create_model(model, **chosen)
    origin = {"imported_from": path.name, "imported_sha256": sha256_of(path)}
    segmenter = _find_segmenter(path, network, model)
    try:
        if segmenter is not None and isinstance(network, HasSegmenter):
            origin |= {"segmenter_from": segmenter.name, "segmenter_sha256": sha256_of(segmenter)}
            network.load_segmenter(read_checkpoint(segmenter))
        network.load_state_dict(convert_official(model, state))
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise ModelError(f"{path}: its weights do not fit {model} {chosen} ({reason})") from None
    save_file(network, output, model=model, settings=chosen, half=False, origin=origin)
    return Imported(name, model, chosen, output)
