"""ONNX Runtime as a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from derain.arrays import FloatArray
from derain.errors import DeviceError

from .base import METADATA
from .exported import FileRuntime


class OnnxRuntime(FileRuntime):
    """ONNX Runtime: ``.onnx`` files in ``fp32`` on ``cpu``, or ``cuda`` where onnxruntime-gpu is installed."""

    package, name, title = "onnxruntime", "onnx", "ONNX Runtime"

    def _choose(self, package: Any, device: str, precision: str) -> tuple[str, str]:
        cuda = "CUDAExecutionProvider" in package.get_available_providers()
        chosen = ("cuda" if cuda else "cpu") if device == "auto" else device
        kind, _, number = chosen.partition(":")
        if kind not in ("cpu", "cuda") or not (number or "0").isdecimal():
            raise DeviceError(f"ONNX Runtime does not run on device {device!r} here; use --device cpu")
        if kind == "cuda" and not cuda:
            raise DeviceError("this onnxruntime has no CUDA; use --device cpu, or install onnxruntime-gpu")
        if precision not in ("auto", "fp32"):
            raise DeviceError(f"ONNX Runtime computes in fp32, not {precision}; omit --precision")
        return chosen, "fp32"

    def _load(self, package: Any, file: Path, threads: int) -> str | None:
        options = package.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        kind, _, number = self._device.partition(":")
        providers = [("CUDAExecutionProvider", {"device_id": number or "0"})] if kind == "cuda" else []
        self._session = package.InferenceSession(file, options, [*providers, "CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        text: str | None = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        return text

    def _run(self, image: FloatArray) -> FloatArray:
        output: FloatArray = self._session.run(None, {self._input: image})[0]
        return output
