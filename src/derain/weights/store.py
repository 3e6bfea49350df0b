"""Checkpoint files: where they are, how they become a network, and how they are written.

A checkpoint is a safetensors file. Some are part of the package; others are downloaded once by URL, checked
by sha256 and kept under ``DERAIN_HOME``. The header of every file names the network it belongs to, so that a
path works wherever a name does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain.errors import ModelError
from derain.fetch import fetch, home
from derain.files import what_instead, write_bytes

from .manifest import PretrainedModel, imported_files, manifest

if TYPE_CHECKING:
    from torch import Tensor, nn

_FILES = Path(__file__).parent / "files"
#: ``kind`` in the header of a segmenter's checkpoint; deraining networks have none.
SEGMENTER = "segmenter"


def local_file(entry: PretrainedModel) -> Path | None:
    """The file of a pretrained model if it is on this machine already."""
    paths = (_FILES / entry.file, home() / "weights" / entry.file)
    return next((path for path in paths if path.exists()), None)


def locate(entry: PretrainedModel) -> Path:
    """The file of a pretrained model, downloaded if necessary.

    Raises:
        ModelError: it cannot be downloaded, or its sha256 is not the one of the manifest.
    """
    if (packaged := _FILES / entry.file).exists():
        return packaged
    if not entry.url:
        raise ModelError(f"{entry.name}: its file {entry.file} is missing; reinstall derain")
    return fetch(entry.name, entry.url, entry.sha256, home() / "weights" / entry.file)


def load_model(name_or_path: str | Path = "default") -> nn.Module:
    """A network with its pretrained weights, on the CPU, in ``eval`` mode.

    Args:
        name_or_path: a name that ``derain models`` lists, or a safetensors file written by derain.

    Raises:
        ModelError: unknown name, missing or damaged file, or weights that do not fit.
    """
    return load_file(find_file(name_or_path))[0]


def find_file(name_or_path: str | Path) -> Path:
    """The file behind a name, downloaded if necessary; a path is returned as it is."""
    if is_file_name(name_or_path):
        return Path(name_or_path)
    imported = imported_files().get(str(name_or_path))
    return imported if imported is not None else locate(manifest().find(str(name_or_path)))


def is_file_name(name_or_path: str | Path) -> bool:
    """Whether ``--model`` means a file rather than a name of the manifest."""
    text = str(name_or_path)
    suffixes = (".safetensors", ".onnx", ".xml")
    return isinstance(name_or_path, Path) or text.endswith(suffixes) or "/" in text or os.sep in text


def file_settings(path: Path) -> dict[str, Any]:
    """The network's settings, from the header of a safetensors file."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    settings: dict[str, Any] = json.loads(header.get("__metadata__", {}).get("settings", "{}"))
    return settings


def load_file(path: Path) -> tuple[nn.Module, str]:
    """The network of a safetensors file with its weights, and its key in :data:`derain.models.MODELS`."""
    from derain.models import create_model

    header, tensors = read_weights(path)
    if "model" not in header:
        raise ModelError(f"{path}: does not name its network; use a file written by derain")
    if header.get("kind") == SEGMENTER:
        raise ModelError(f"{path}: holds a segmenter, not a deraining network; use it with `derain segment`")
    network = create_model(header["model"], **json.loads(header.get("settings", "{}")))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ModelError(f"{path}: its weights do not fit {header['model']} ({first})") from None
    return network.eval(), header["model"]


def read_weights(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and float32 tensors of a safetensors file.

    Raises:
        ModelError: missing or damaged; NaN or infinite values.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint; check the name")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {plain_key(key): file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        if (instead := what_instead(path)) is not None:
            raise ModelError(f"{path}: {instead}") from None
        raise ModelError(f"{path}: not a safetensors file ({error}); use a file written by derain") from None
    check_finite(tensors, path)
    return header, tensors


def check_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """Refuse weights with which a network computes nothing but black or white images.

    Args:
        tensors: a state dictionary.
        source: what messages call it, a path for example.

    Raises:
        ModelError: NaN or infinite values.
    """
    bad = [key for key, value in tensors.items() if not value.isfinite().all()]
    if bad:
        raise ModelError(
            f"{source}: NaN or infinite values in {bad[0]} ({len(bad)} of {len(tensors)} tensors), "
            "as after a training that diverged; use an earlier checkpoint, or get the file again"
        )


def plain_key(key: str) -> str:
    """A tensor's name without what ``torch.compile`` and ``DataParallel`` insert when they wrap a module."""
    while key.startswith(("module.", "_orig_mod.")):
        key = key.partition(".")[2]
    return key.replace("._orig_mod.", ".")


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
        path: the file; written atomically.
        model: the network's key in :data:`derain.models.MODELS`.
        settings: the settings it was created with.
        half: store float16, half the size; loading returns float32.
        origin: where the weights come from, as further entries of the header.

    Returns:
        sha256 of the file.

    Raises:
        ModelError: NaN or infinite values, or values beyond float16.
        OutputError: it cannot be written.
    """
    import torch
    from safetensors.torch import save

    kind = torch.float16 if half else torch.float32
    state = {plain_key(k): v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    check_finite(state, path)
    # The counters of batch normalization stay integers.
    tensors = {k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}
    if large := [key for key, value in tensors.items() if not value.isfinite().all()]:
        raise ModelError(f"{path}: {large[0]} has values beyond float16; store float32 (--fp32)")
    data = save(tensors, metadata={**(origin or {}), "model": model, "settings": json.dumps(settings)})
    write_bytes(data, path)
    return hashlib.sha256(data).hexdigest()
