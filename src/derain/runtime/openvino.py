"""OpenVINO as a runtime: no torch anywhere."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from derain.errors import DeviceError, ModelError

from .base import METADATA, Description, FloatArray, pick_threads, read_description


class OpenVinoRuntime:
    """Runs a file that ``derain export`` wrote, on the CPU.

    Args:
        file: an ``.xml`` file with its ``.bin`` beside it, or an ``.onnx`` file.
        device: ``auto`` or ``cpu``.
        precision: ``auto`` and ``fp32`` are exact; ``bf16`` is OpenVINO's own habit on CPUs that compute
            it, all layers in bf16, which shifts colours a little.
        threads: of one call; ``None`` as ``OMP_NUM_THREADS`` says, else all cores.

    Raises:
        DeviceError: openvino is not installed, or cannot do what is asked.
        ModelError: the file cannot be read.
    """

    def __init__(self, file: Path, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError:
            raise DeviceError("--runtime openvino needs openvino; pip install 'derain[openvino]'") from None
        if device not in ("auto", "cpu"):
            raise DeviceError(f"the OpenVINO runtime runs on the CPU, not on {device!r}; use --device cpu")
        if precision not in ("auto", "fp32", "bf16"):
            raise DeviceError(f"unknown precision {precision!r}; choose auto, fp32 or bf16")
        self._precision = "bf16" if precision == "bf16" else "fp32"
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceError("this CPU does not compute bf16; use --precision fp32")
        if not file.is_file():
            raise ModelError(f"{file}: no such model file; check the name")
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if count := pick_threads(threads):
            hints["INFERENCE_NUM_THREADS"] = str(count)
        try:
            model = core.read_model(file)
            place = ["framework", METADATA] if file.suffix == ".onnx" else [METADATA]
            text = model.get_rt_info(place).astype(str) if model.has_rt_info(place) else None
            self.description: Description = read_description(text, file)
            self._compiled = core.compile_model(model, "CPU", hints)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{file}: not a file that OpenVINO can run ({reason[:200]})") from None
        self._local = threading.local()  # a request serves one thread at a time

    @property
    def device(self) -> str:
        """Where it runs."""
        return "cpu"

    @property
    def precision(self) -> str:
        """How it computes."""
        return self._precision

    def __call__(self, batch: FloatArray) -> FloatArray:
        """See :class:`derain.runtime.base.Runtime`."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        request = self._local.request
        outputs = []
        for one in batch:
            request.infer([np.ascontiguousarray(one[None])])
            outputs.append(request.get_output_tensor(0).data.copy())
        return np.concatenate(outputs)
