"""What the runtimes of exported files share. torch is never imported here."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from derain.arrays import FloatArray
from derain.errors import DeviceError, ModelError
from derain.files import what_instead
from derain.models import ModelInfo

from .base import Description, device_name, read_description


class FileRuntime(ABC):
    """Runs a file that ``derain export`` wrote.

    Args:
        file: the model file.
        device: ``auto``, or what the subclass names.
        precision: ``auto``, or what the subclass names.
        threads: of one call; ``None`` takes ``OMP_NUM_THREADS``, else all cores.

    Attributes:
        description: what the file says about itself.

    Raises:
        DeviceError: the package that runs it is not installed, or cannot do what is asked.
        ModelError: the file cannot be read.
    """

    #: The imported package; the name of the runtime and of the extra that installs it; its name in messages.
    package: ClassVar[str]
    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, file: Path, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        try:
            package = importlib.import_module(self.package)
        except ImportError:
            raise DeviceError(
                f"--runtime {self.name} needs {self.package}; pip install 'derain[{self.name}]'"
            ) from None
        self._arguments = (file.absolute(), device, precision, threads)
        self._device, self._precision = self._choose(package, device_name(device), precision)
        if not file.is_file():
            raise ModelError(f"{file}: no such model file; check the name")
        try:
            text = self._load(package, file, pick_threads(threads))
        except Exception as error:  # each package raises its own kinds
            if (instead := what_instead(file)) is not None:
                raise ModelError(f"{file}: {instead}") from None
            reason = " ".join(str(error).split())
            raise ModelError(f"{file}: not a file that {self.title} can run ({reason[:200]})") from None
        self.description: Description = read_description(text, file)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its arguments: another process opens the file itself."""
        return type(self), self._arguments

    @property
    def info(self) -> ModelInfo:
        """What the network needs, as the file describes it."""
        return self.description.info

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._device

    @property
    def precision(self) -> str:
        """How it computes."""
        return self._precision

    def __call__(self, batch: FloatArray) -> FloatArray:
        """See :class:`derain.runtime.base.Runtime`."""
        outputs = [self._run(np.ascontiguousarray(one[None])) for one in batch]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    @abstractmethod
    def _choose(self, package: Any, device: str, precision: str) -> tuple[str, str]:
        """Turn ``auto`` into a device and a precision; raise DeviceError for what is not there."""

    @abstractmethod
    def _load(self, package: Any, file: Path, threads: int) -> str | None:
        """Read the file and return its description. 0 threads: the package's default."""

    @abstractmethod
    def _run(self, image: FloatArray) -> FloatArray:
        """``(1, 3, H, W)`` to the same shape."""


def pick_threads(threads: int | None) -> int:
    """Threads for runtimes that do not use OpenMP: as given, else ``OMP_NUM_THREADS``, else 0 (the default)."""
    if threads is not None:
        return threads
    configured = os.environ.get("OMP_NUM_THREADS", "")
    return int(configured) if configured.isdigit() else 0
