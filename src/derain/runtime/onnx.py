"""ONNX Runtime as a runtime: no torch anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from derain.errors import DeviceError, ModelError

from .base import METADATA, Description, FloatArray, pick_threads, read_description


class OnnxRuntime:
    """Runs a file that ``derain export`` wrote.

    Args:
        file: the ``.onnx`` file.
        device: ``auto`` or ``cpu``; ``cuda`` where onnxruntime-gpu is installed.
        precision: ``auto`` or ``fp32``; the file decides.
        threads: of one call; ``None`` as ``OMP_NUM_THREADS`` says, else all cores.

    Raises:
        DeviceError: onnxruntime is not installed, or lacks the device or precision.
        ModelError: the file cannot be read.
    """

    def __init__(self, file: Path, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise DeviceError("--runtime onnx needs onnxruntime; pip install 'derain[onnx]'") from None
        cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        self._device = ("cuda" if cuda else "cpu") if device == "auto" else device
        if self._device not in ("cpu", "cuda"):
            raise DeviceError(f"ONNX Runtime does not run on device {device!r} here; use --device cpu")
        if self._device == "cuda" and not cuda:
            raise DeviceError("this onnxruntime has no CUDA; use --device cpu, or install onnxruntime-gpu")
        if precision not in ("auto", "fp32"):
            raise DeviceError(f"ONNX Runtime computes in fp32, not {precision}; leave --precision away")
        if not file.is_file():
            raise ModelError(f"{file}: no such model file; check the name")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = pick_threads(threads)
        providers = ["CUDAExecutionProvider"] if self._device == "cuda" else []
        try:
            self._session = onnxruntime.InferenceSession(file, options, [*providers, "CPUExecutionProvider"])
        except Exception as error:  # it raises its own kinds for every fault of a file
            reason = " ".join(str(error).split())
            raise ModelError(f"{file}: not an ONNX file that ONNX Runtime can run ({reason[:200]})") from None
        self.description: Description = read_description(
            self._session.get_modelmeta().custom_metadata_map.get(METADATA), file
        )
        self._input = self._session.get_inputs()[0].name

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._device

    @property
    def precision(self) -> str:
        """How it computes."""
        return "fp32"

    def __call__(self, batch: FloatArray) -> FloatArray:
        """See :class:`derain.runtime.base.Runtime`."""
        outputs = [self._session.run(None, {self._input: np.ascontiguousarray(one[None])})[0] for one in batch]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
