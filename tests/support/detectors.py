"""Small ONNX detectors whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def constant_detector(file: Path, size: tuple[int, int], output: np.ndarray) -> Path:
    """An ONNX file that answers every image of ``size`` (width, height) with the same output."""
    values = numpy_helper.from_array(output[None].astype(np.float32), "answer")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size[1], size[0]])
    answer = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, *output.shape])
    node = helper.make_node("Identity", ["answer"], ["output"])
    graph = helper.make_graph([node], "detector", [image], [answer], [values])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, file)
    return file


def brightness_detector(file: Path, size: tuple[int, int]) -> Path:
    """FastestDet's layout with one cell and one class: a box over the image, scored by the mean of the input."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size[1], size[0]])
    answer = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 6, 1, 1])
    # Center in the middle (atanh 0.5), width and height near the image's (a large logit).
    box = np.array([np.arctanh(0.5), np.arctanh(0.5), 20, 20], np.float32).reshape(1, 4, 1, 1)
    constants = [
        numpy_helper.from_array(box, "box"),
        numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "one"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=1),
        helper.make_node("Concat", ["mean", "box", "one"], ["output"], axis=1),
    ]
    graph = helper.make_graph(nodes, "detector", [image], [answer], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, file)
    return file
