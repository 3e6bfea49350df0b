"""ONNX detectors of the YOLOX and FastestDet families."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray, UInt8Array
from derain.errors import DeviceError, ModelError

from .base import Detection, DetectorSpec, select

_STRIDES = (8, 16, 32)  # of YOLOX's three grids


class OnnxDetector:
    """Runs an ONNX file by ONNX Runtime on the CPU.

    Args:
        file: the model.
        spec: how to feed it and read its output.
        threads: of one call; 0 is the runtime's default.

    Raises:
        DeviceError: onnxruntime is not installed.
        ModelError: the file cannot be read, or does not fit the description.
    """

    def __init__(self, file: Path, spec: DetectorSpec, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise DeviceError("detectors need onnxruntime; pip install 'derain[detect]'") from None
        if not file.is_file():
            raise ModelError(f"{file}: no such detector; check the name")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        try:
            self._session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
        except Exception as error:  # of many kinds
            raise ModelError(f"{file}: not a model that ONNX Runtime can run ({str(error)[:120]})") from None
        self.file, self.spec = file, spec
        self._input = self._session.get_inputs()[0].name
        expected = self._session.get_inputs()[0].shape[2:]
        if [side for side in expected if isinstance(side, int)] not in ([], [spec.size[1], spec.size[0]]):
            raise ModelError(f"{file}: takes {expected[1]}×{expected[0]}, its description says {spec.size}; fix `size`")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the description."""
        return self.spec.classes

    def __call__(self, image: UInt8Array) -> list[Detection]:
        """See :class:`~derain.detection.base.Detector`."""
        batch, across, down = self.spec.prepare(image)
        output = np.asarray(self._session.run(None, {self._input: batch})[0])[0]
        decode = _yolox if self.spec.family == "yolox" else _fastestdet
        try:
            boxes, scores, categories = decode(output, self.spec)
        except ValueError as error:
            raise ModelError(f"{self.file}: its output does not fit family {self.spec.family} ({error})") from None
        return select(boxes, scores, categories, self.spec, (across, down))


_Decoded = tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]


def _yolox(output: FloatArray, spec: DetectorSpec) -> _Decoded:
    """``(n, 5 + classes)``: center and log size relative to a grid cell, objectness, class probabilities.

    Ge et al., YOLOX (arXiv 2107.08430), section 2.1: anchor-free, grids of stride 8, 16 and 32 one after another.
    """
    width, height = spec.size
    grids, strides = [], []
    for stride in _STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        grids.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((grids[-1].shape[0], 1), stride))
    cells, steps = np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)
    if output.shape != (len(cells), 5 + len(spec.classes)):
        raise ValueError(f"shape {output.shape}, expected {(len(cells), 5 + len(spec.classes))}")
    center, size = (output[:, :2] + cells) * steps, np.exp(output[:, 2:4]) * steps
    scores = output[:, 4:5] * output[:, 5:]
    best = scores.argmax(axis=1)
    return np.concatenate([center - size / 2, size], axis=1), scores[np.arange(len(best)), best], best


def _fastestdet(output: FloatArray, spec: DetectorSpec) -> _Decoded:
    """``(5 + classes, rows, columns)``: objectness, box terms, class probabilities, on one grid.

    Score objectness^0.6 · class^0.4; center ((column + tanh b0), (row + tanh b1)) in cells; size (sigmoid b2,
    sigmoid b3) of the input.
    """
    channels, rows, columns = output.shape if output.ndim == 3 else (0, 0, 0)
    if channels != 5 + len(spec.classes):
        raise ValueError(f"shape {output.shape}, expected {5 + len(spec.classes)} channels")
    width, height = spec.size
    row, column = np.mgrid[:rows, :columns].astype(np.float32)
    x, y = (column + np.tanh(output[1])) * width / columns, (row + np.tanh(output[2])) * height / rows
    w, h = (size / (1 + np.exp(-output[place])) for place, size in ((3, width), (4, height)))
    best = output[5:].argmax(axis=0)
    probability = output[5:].max(axis=0)
    scores = np.maximum(output[0], 0) ** 0.6 * np.maximum(probability, 0) ** 0.4
    boxes = np.stack([x - w / 2, y - h / 2, w, h], axis=-1).reshape(-1, 4)
    return boxes.astype(np.float32), scores.ravel().astype(np.float32), best.ravel()
