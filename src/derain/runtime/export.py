"""Write a network as an ONNX or OpenVINO file that describes itself, and compare it with torch before it counts."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from derain.errors import DerainError, DeviceError, ModelError, OutputError
from derain.models import SizeRule

from .base import METADATA, Description, FloatArray
from .onnx import OnnxRuntime
from .openvino import OpenVinoRuntime
from .torch import TorchRuntime

#: Largest difference to torch that an export may have, of 1: rounding for fp32, half an 8-bit step for fp16.
BOUNDS = {"fp32": 2e-4, "fp16": 2e-3}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
_OPSET = 18


def export(
    network: nn.Module,
    path: Path,
    description: Description,
    *,
    to: str = "onnx",
    precision: str = "fp32",
    overwrite: bool = False,
) -> float:
    """Write a network for another runtime; height and width stay free, the batch is one picture.

    Args:
        network: maps ``(N, 3, H, W)`` to the same shape; set to ``eval``.
        path: the file; for OpenVINO an ``.xml``, whose ``.bin`` comes beside it.
        description: goes into the file's metadata.
        to: ``onnx`` or ``openvino``.
        precision: how weights are stored, ``fp32`` or ``fp16`` (half the size; computed in fp32).
        overwrite: replace an existing file.

    Returns:
        The largest difference to torch over pictures of two sizes, of 1.

    Raises:
        DeviceError: onnx, onnxruntime or openvino is missing; unknown format or precision.
        ModelError: the network cannot be exported, or the file computes something else.
        OutputError: the file exists, or cannot be written.
    """
    if to not in SUFFIXES:
        raise DeviceError(f"cannot export to {to!r}; choose {' or '.join(SUFFIXES)}")
    if precision not in BOUNDS:
        raise DeviceError(f"cannot store weights as {precision!r}; choose {' or '.join(BOUNDS)}")
    if path.suffix.lower() != SUFFIXES[to]:
        raise OutputError(f"{path}: a file for {to} ends in {SUFFIXES[to]}")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; add --overwrite or choose another output")
    rule = description.info.size
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".derain-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            graph = made.with_suffix(".onnx")
            _trace(network.eval(), graph, rule, description, half=precision == "fp16")
            if to == "openvino":
                _convert(graph, made, description, half=precision == "fp16")
            difference = _compare(network, made, rule)
            if not difference <= BOUNDS[precision]:
                raise ModelError(
                    f"{description.name}: the exported file differs from torch by {difference:.2g} "
                    f"(at most {BOUNDS[precision]:g}); it was not kept"
                )
            if to == "openvino":
                os.replace(made.with_suffix(".bin"), path.with_suffix(".bin"))
            os.replace(made, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    return difference


def _sized(side: int, rule: SizeRule) -> int:
    return -(-max(side, rule.minimum) // rule.multiple_of) * rule.multiple_of


def _picture(height: int, width: int, rule: SizeRule) -> FloatArray:
    """``(1, 3, H, W)``: soft colors with bright slanted streaks, as the network will see."""
    y, x = np.mgrid[0 : _sized(height, rule), 0 : _sized(width, rule)].astype(np.float32)
    soft = np.stack([0.45 + 0.35 * np.sin(x / (17 + 5 * c) + c) * np.cos(y / (29 - 4 * c)) for c in range(3)])
    streaks = 0.4 * (np.sin(1.3 * x + 0.35 * y) > 0.93)
    picture: FloatArray = np.clip(soft + streaks, 0, 1).astype(np.float32)[None]
    return picture


def _trace(network: nn.Module, file: Path, rule: SizeRule, description: Description, *, half: bool) -> None:
    try:
        import onnx
    except ImportError:
        raise DeviceError("export needs onnx; pip install 'derain[onnx]'") from None
    free = {2: "height", 3: "width"}
    with torch.no_grad(), warnings.catch_warnings():
        # The tracing exporter is told obsolete, but needs a tenth of the time and no further package;
        # what it might trace wrongly, the comparison finds.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network,
                (torch.from_numpy(_picture(64, 96, rule)),),
                str(file),
                dynamo=False,
                input_names=["rainy"],
                output_names=["derained"],
                dynamic_axes={"rainy": free, "derained": free},
                opset_version=_OPSET,
            )
        except Exception as error:  # many kinds, for what the exporter does not know
            reason = " ".join(str(error).split())
            raise ModelError(f"{description.name}: this network cannot be exported ({reason[:200]})") from None
    model = onnx.load(file)
    model.producer_name = "derain"
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, description.to_text()
    if half:
        _store_half(model)
    onnx.save(model, file)


def _store_half(model: onnx.ModelProto) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Keep weights as float16 and cast them at load time: runtimes fold that away."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _convert(graph: Path, file: Path, description: Description, *, half: bool) -> None:
    try:
        import openvino
    except ImportError:
        raise DeviceError("export to openvino needs openvino; pip install 'derain[onnx,openvino]'") from None
    model = openvino.convert_model(graph)
    model.set_rt_info(description.to_text(), [METADATA])
    openvino.save_model(model, file, compress_to_fp16=half)


def _compare(network: nn.Module, file: Path, rule: SizeRule) -> float:
    """Largest difference between torch and the file, over two sizes that were not traced."""
    reference = TorchRuntime(network, "cpu", "fp32")
    exported = OnnxRuntime(file, "cpu") if file.suffix == ".onnx" else OpenVinoRuntime(file, "cpu")
    worst = 0.0
    for size in ((160, 224), (97, 75)):
        picture = _picture(*size, rule)
        try:
            found = exported(picture)
        except DerainError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"the exported file fails at {size[1]}×{size[0]} pixels ({reason[:160]})") from None
        worst = max(worst, float(np.abs(found - reference(picture)).max()))
    return worst
