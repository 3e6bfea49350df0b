"""From a model's name to a runtime that executes it. torch is imported only if the runtime needs it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from derain._version import __version__
from derain.errors import ModelError
from derain.fetch import home
from derain.weights.store import find_file, load_file

from .base import Runtime, device_name, is_exported, pick_runtime

if TYPE_CHECKING:
    import torch


def load_runtime(
    model: str | Path,
    runtime: str = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> tuple[Path, Runtime]:
    """Load a model for inference.

    Args:
        model, runtime, device, precision, threads: as for :class:`derain.Derainer`.

    Returns:
        The model's file, and what executes it.

    Raises:
        ModelError: unknown model, or a damaged file.
        DeviceError: the device, precision or runtime is not available.
    """
    kind, device = pick_runtime(runtime, model), device_name(device)
    if kind == "torch":
        from derain.models import describe_network

        from .torch import TorchRuntime, pick_device, pick_precision

        pick_precision(precision, pick_device(device))  # wrong names are reported before weights are read
        file = find_file(model)
        network, key = load_file(file)
        return file, TorchRuntime(network, device, precision, describe_network(key, network))
    file = Path(model) if is_exported(model) else exported_file(model)
    if kind == "onnx":
        from .onnx import OnnxRuntime

        return file, OnnxRuntime(file, device, precision, threads)
    from .openvino import OpenVinoRuntime

    return file, OpenVinoRuntime(file, device, precision, threads)


def exported_file(model: str | Path) -> Path:
    """A model's ONNX file below ``DERAIN_HOME``, exported when it is first needed."""
    source = find_file(model)
    if not source.is_file():
        raise ModelError(f"{source}: no such checkpoint; check the name")
    digest = hashlib.sha256(source.read_bytes() + __version__.encode()).hexdigest()[:16]
    file = home() / "exported" / f"{source.stem}-{digest}.onnx"
    if not file.exists():
        from .export import export_model

        export_model(model, file, overwrite=True)
    return file
