"""Export to ONNX or OpenVINO: a file that describes itself, compared with torch before it is kept."""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from derain.arrays import FloatArray
from derain.errors import DerainError, DeviceError, ModelError, OutputError
from derain.files import check_output, remove_stale, temporary_prefix
from derain.models import SizeRule, describe_network
from derain.weights.store import file_settings, find_file, load_file

from .base import METADATA, Description, is_exported
from .onnx import OnnxRuntime
from .openvino import OpenVinoRuntime
from .torch import TorchRuntime

#: Largest difference to torch that an export may have, of 1: rounding for fp32, half an 8-bit step for fp16.
BOUNDS = {"fp32": 2e-4, "fp16": 2e-3}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
_OPSET = 18


def export_model(
    model: str | Path, path: Path, *, to: str = "onnx", precision: str = "fp32", overwrite: bool = False
) -> float:
    """Export a pretrained model.

    Args:
        model: a name that ``derain models`` lists, or a safetensors file.
        path, to, precision, overwrite: as for :func:`export`.

    Returns:
        The largest difference to torch, of 1.

    Raises:
        DerainError: as :func:`export`; ModelError also for a model that is exported already.
    """
    if is_exported(model):
        raise ModelError(f"{model}: is exported already; give a name or a .safetensors file")
    source = find_file(model)
    network, key = load_file(source)
    description = Description(str(model), key, file_settings(source), describe_network(key, network))
    return export(network, path, description, to=to, precision=precision, overwrite=overwrite)


def export(
    network: nn.Module,
    path: Path,
    description: Description,
    *,
    to: str = "onnx",
    precision: str = "fp32",
    overwrite: bool = False,
) -> float:
    """Export a network for another runtime; height and width are dynamic, the batch size is 1.

    Args:
        network: maps ``(N, 3, H, W)`` to the same shape; switched to ``eval``.
        path: the file; for OpenVINO an ``.xml``, with its ``.bin`` beside it.
        description: goes into the file's metadata.
        to: ``onnx`` or ``openvino``.
        precision: how weights are stored, ``fp32`` or ``fp16`` (half the size; computed in fp32).
        overwrite: replace an existing file.

    Returns:
        The largest difference to torch over images of two sizes, of 1.

    Raises:
        DeviceError: onnx, onnxruntime or openvino is missing; unknown format or precision.
        ModelError: the network cannot be exported, or the exported file gives other results.
        OutputError: the file exists, or cannot be written.
    """
    if to not in SUFFIXES:
        raise DeviceError(f"cannot export to {to!r}; choose {' or '.join(SUFFIXES)}")
    if precision not in BOUNDS:
        raise DeviceError(f"cannot store weights as {precision!r}; choose {' or '.join(BOUNDS)}")
    if path.suffix.lower() != SUFFIXES[to]:
        raise OutputError(f"{path}: a file for {to} ends in {SUFFIXES[to]}")
    check_output(path, overwrite)
    rule = description.info.size
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        with tempfile.TemporaryDirectory(prefix=temporary_prefix(), dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            graph = temporary.with_suffix(".onnx")
            _trace(network.eval(), graph, rule, description, half=precision == "fp16")
            if to == "openvino":
                _convert(graph, temporary, description, half=precision == "fp16")
            difference = _compare(network, temporary, rule)
            if not difference <= BOUNDS[precision]:
                raise ModelError(
                    f"{description.name}: the exported file differs from torch by {difference:.2g} "
                    f"(at most {BOUNDS[precision]:g}); it was not kept"
                )
            if to == "openvino":
                os.replace(temporary.with_suffix(".bin"), path.with_suffix(".bin"))
            os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    return difference


def _test_image(height: int, width: int, rule: SizeRule) -> FloatArray:
    """``(1, 3, H, W)``: soft colors with bright slanted streaks, as networks expect."""
    y, x = np.mgrid[0 : rule.fit(height), 0 : rule.fit(width)].astype(np.float32)
    soft = np.stack([0.45 + 0.35 * np.sin(x / (17 + 5 * c) + c) * np.cos(y / (29 - 4 * c)) for c in range(3)])
    streaks = 0.4 * (np.sin(1.3 * x + 0.35 * y) > 0.93)
    image: FloatArray = np.clip(soft + streaks, 0, 1).astype(np.float32)[None]
    return image


def _trace(network: nn.Module, file: Path, rule: SizeRule, description: Description, *, half: bool) -> None:
    try:
        import onnx
    except ImportError:
        raise DeviceError("export needs onnx; pip install 'derain[onnx]'") from None
    dynamic = {2: "height", 3: "width"}
    with torch.no_grad(), warnings.catch_warnings():
        # The tracing exporter is deprecated, but takes a tenth of the time and needs no further package; the
        # comparison afterwards finds what it might trace incorrectly.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network,
                (torch.from_numpy(_test_image(64, 96, rule)),),
                str(file),
                dynamo=False,
                input_names=["rainy"],
                output_names=["derained"],
                dynamic_axes={"rainy": dynamic, "derained": dynamic},
                opset_version=_OPSET,
            )
        except Exception as error:  # of many kinds, for unsupported operations
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
    """Store weights as float16 and cast them when loading: runtimes fold the casts."""
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
        image = _test_image(*size, rule)
        try:
            output = exported(image)
        except DerainError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"the exported file fails at {size[1]}×{size[0]} pixels ({reason[:160]})") from None
        difference = float(np.abs(output - reference(image)).max())
        if math.isnan(difference):  # which max() would ignore
            return difference
        worst = max(worst, difference)
    return worst
