"""OpenVINO as a runtime."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

from derain.arrays import FloatArray
from derain.errors import DeviceError

from .base import METADATA
from .exported import FileRuntime


@cache
def _core(package: Any) -> Any:
    """The one core of this process, which is never released.

    OpenVINO's CPU plugin installs a signal stack of its own for the thread and restores the previous one when
    its core is released. Of two cores that are released in the order of their creation, the second restores
    the freed stack of the first, and the next signal that Python handles crashes the process (OpenVINO 2026.4,
    Linux).
    """
    return package.Core()


class OpenVinoRuntime(FileRuntime):
    """OpenVINO on the CPU: an ``.xml`` file with its ``.bin`` beside it, or an ``.onnx`` file.

    ``auto`` means ``fp32``, which is exact. ``bf16`` is OpenVINO's default on CPUs that support it: all layers
    in bf16, which shifts colors slightly.
    """

    package = name = "openvino"
    title = "OpenVINO"

    def _choose(self, package: Any, device: str, precision: str) -> tuple[str, str]:
        if device not in ("auto", "cpu"):
            raise DeviceError(f"the OpenVINO runtime runs on the CPU, not on {device!r}; use --device cpu")
        if precision not in ("auto", "fp32", "bf16"):
            raise DeviceError(f"unknown precision {precision!r}; choose auto, fp32 or bf16")
        if precision == "bf16" and "BF16" not in _core(package).get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceError("this CPU does not compute bf16; use --precision fp32")
        return "cpu", "fp32" if precision == "auto" else precision

    def _load(self, package: Any, file: Path, threads: int) -> str | None:
        hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if self._precision == "bf16":
            hints["INFERENCE_PRECISION_HINT"] = "bf16"
        if threads:
            hints["INFERENCE_NUM_THREADS"] = str(threads)
        core = _core(package)
        model = core.read_model(file)
        self._compiled = core.compile_model(model, "CPU", hints)
        self._local = threading.local()  # a request serves one thread at a time
        place = ["framework", METADATA] if file.suffix == ".onnx" else [METADATA]
        text: str | None = model.get_rt_info(place).astype(str) if model.has_rt_info(place) else None
        return text

    def _run(self, image: FloatArray) -> FloatArray:
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        self._local.request.infer([image])
        output: FloatArray = self._local.request.get_output_tensor(0).data.copy()
        return output
