"""What every runtime offers: one padded batch in, one batch out, as numpy arrays."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from derain.arrays import FloatArray
from derain.errors import DeviceError, ModelError
from derain.models import ModelInfo, SizeRule

RUNTIMES = ("auto", "torch", "onnx", "openvino")
#: The entry of an exported file's metadata that describes it.
METADATA = "derain"
#: What is assumed of a network that is not in the table.
UNLISTED = ModelInfo(target="", paper="")
_INFO_FIELDS = {field.name for field in fields(ModelInfo)}
_BY_SUFFIX = {".onnx": "onnx", ".xml": "openvino"}


class Runtime(Protocol):
    """Executes one network. Instances are safe to call from several threads."""

    @property
    def name(self) -> str:
        """``torch``, ``onnx`` or ``openvino``."""

    @property
    def info(self) -> ModelInfo:
        """What image sizes, overlap and memory the network needs."""

    @property
    def device(self) -> str:
        """Where it runs: ``cpu``, ``cuda``, ``mps``."""

    @property
    def precision(self) -> str:
        """How it computes: ``fp32`` or ``bf16``."""

    def __call__(self, batch: FloatArray) -> FloatArray:
        """Map ``(N, 3, H, W)`` float32 in [0, 1], sized as the network wants, to the same shape."""


@dataclass(frozen=True)
class Description:
    """What an exported file says about itself, enough to run it without the package's tables.

    Attributes:
        name: what the model was called when it was exported.
        model: key of the network.
        settings: the network's settings.
        info: its sizes, overlap and memory for these settings.
    """

    name: str
    model: str
    settings: dict[str, Any]
    info: ModelInfo

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)


def read_description(text: str | None, file: Path) -> Description:
    """Read what :meth:`Description.to_text` wrote.

    Raises:
        ModelError: the file has none, or one that this version cannot read.
    """
    if not text:
        raise ModelError(f"{file}: does not say which network it holds; use a file written by derain export")
    try:
        found = json.loads(text)
        info = {key: value for key, value in found["info"].items() if key in _INFO_FIELDS}  # others: other versions
        info["size"] = SizeRule(**info["size"])
        return Description(found["name"], found["model"], found["settings"], ModelInfo(**info))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ModelError(f"{file}: its description is damaged or of another version; export it again") from None


def device_name(device: object) -> str:
    """The name of a device, given as one or as a ``torch.device``; a CPU has no number."""
    name = str(device)
    return "cpu" if name.startswith("cpu:") else name


def pick_runtime(runtime: str, model: str | Path) -> str:
    """Turn ``auto`` into the runtime that a model needs: by the suffix of an exported file, else ``torch``.

    Raises:
        DeviceError: unknown runtime.
        ModelError: a runtime that cannot run this file.
    """
    if runtime not in RUNTIMES:
        raise DeviceError(f"unknown runtime {runtime!r}; choose {', '.join(RUNTIMES)}")
    suffix = Path(model).suffix.lower()
    own = _BY_SUFFIX.get(suffix)
    if runtime == "auto":
        return own or "torch"
    if own not in (None, runtime) and not (suffix == ".onnx" and runtime == "openvino"):
        raise ModelError(f"{model}: --runtime {runtime} cannot run {suffix} files; use --runtime {own}")
    return runtime


def is_exported(model: str | Path) -> bool:
    """Whether a model is a file that ``derain export`` wrote, by its suffix."""
    return Path(model).suffix.lower() in _BY_SUFFIX
