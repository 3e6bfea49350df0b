"""How fast models run here: medians, operations, the machine's own peak, memory."""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from derain.derainer import Derainer
from derain.errors import InputError, OutputError
from derain.models import create_model
from derain.runtime.base import is_exported
from derain.weights.store import file_settings, imported_files, is_file_name, load_file, manifest

_MATRIX = 2048  # side of the multiplied matrices


@dataclass(frozen=True)
class Timing:
    """One model on one runtime.

    Attributes:
        model: as asked for.
        runtime: ``torch``, ``onnx`` or ``openvino``.
        device: where it ran.
        precision: how it computed.
        width: of the picture, pixels.
        height: of the picture, pixels.
        milliseconds: median of a picture, network and tiles, without files.
        fastest: the least, milliseconds.
        megapixels: a second, at the median.
        gmacs: multiply-accumulates of one picture, 10⁹; a tiled one's overlaps are not counted.
        gflops: effective 10⁹ operations a second, two for each multiply-accumulate.
        of_peak: ``gflops`` against :func:`machine_peak`; above 1 where a runtime saves operations.
        peak_mb: the process's peak memory during the first call, 2²⁰ bytes; ``None`` where Linux does not tell.
        psnr: Y-PSNR in dB that the manifest tells, by its protocol.
    """

    model: str
    runtime: str
    device: str
    precision: str
    width: int
    height: int
    milliseconds: float
    fastest: float
    megapixels: float
    gmacs: float
    gflops: float
    of_peak: float
    peak_mb: float | None
    psnr: dict[str, float]


def machine_peak(device: str = "cpu", precision: str = "fp32", repeats: int = 5) -> float:
    """Measured operations a second of a large matrix product, 10⁹, with torch's threads.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32`` or ``bf16``.
        repeats: products, of which the fastest counts.
    """
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(_MATRIX, _MATRIX, device=device).to(kind) for _ in range(2))

    def multiply() -> float:
        return (a @ b)[0, 0].item()  # reading a number waits for a GPU

    return 2 * _MATRIX**3 / min(_timed(multiply) for _ in range(repeats)) / 1e9


def measure(
    models: list[str],
    runtimes: list[str],
    *,
    width: int = 480,
    height: int = 320,
    repeats: int = 7,
    threads: int | None = None,
    precision: str = "auto",
    on_call: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Time models on runtimes, one call of each in turn, so that a busy machine is the same for all.

    Args:
        models: names or files.
        runtimes: ``auto``, ``torch``, ``onnx``, ``openvino``.
        width: of the picture.
        height: of the picture.
        repeats: timed calls of each, after one that warms up.
        threads: of a call; ``None`` as torch has them.
        precision: as ``Derainer`` takes it.
        on_call: called after each call.

    Returns:
        ``{"threads", "peak_gflops", "torch", "cpu", "rows"}``; rows as :class:`Timing`, peaks by
        ``"DEVICE PRECISION"``.

    Raises:
        DerainError: see ``Derainer``; InputError for sizes or counts below 1.
    """
    if min(width, height, repeats) < 1 or (threads is not None and threads < 1):
        raise InputError("size, repeats and threads must be at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return _measure(models, runtimes, (height, width), repeats, torch.get_num_threads(), precision, on_call)
    finally:
        torch.set_num_threads(before)


def _measure(
    models: list[str],
    runtimes: list[str],
    size: tuple[int, int],
    repeats: int,
    threads: int,
    precision: str,
    on_call: Callable[[], None],
) -> dict[str, Any]:
    picture = np.random.default_rng(0).random((*size, 3), np.float32)
    derainers = [
        Derainer(model, runtime=runtime, threads=threads, precision=precision)
        for model in models
        for runtime in runtimes
    ]
    kinds = [(derainer.runtime.device, derainer.runtime.precision) for derainer in derainers]
    peaks = {kind: machine_peak(*kind) for kind in dict.fromkeys(kinds)}
    memory = []
    for derainer in derainers:
        _forget_peak()
        derainer(picture)
        memory.append(_peak_mb())
        on_call()
    seconds: list[list[float]] = [[] for _ in derainers]
    for _ in range(repeats):
        for derainer, row in zip(derainers, seconds, strict=True):
            row.append(_timed(lambda call=derainer: call(picture)))  # type: ignore[misc]
            on_call()
    rows = []
    for derainer, kind, times, used in zip(derainers, kinds, seconds, memory, strict=True):
        median, gmacs = statistics.median(times), _gmacs(derainer, size)
        rows.append(
            Timing(
                model=derainer.model,
                runtime=type(derainer.runtime).__module__.rsplit(".", 1)[1],
                device=kind[0],
                precision=kind[1],
                width=size[1],
                height=size[0],
                milliseconds=1000 * median,
                fastest=1000 * min(times),
                megapixels=size[0] * size[1] / median / 1e6,
                gmacs=gmacs,
                gflops=2 * gmacs / median,
                of_peak=2 * gmacs / median / peaks[kind],
                peak_mb=used,
                psnr=_figures(derainer.model),
            )
        )
    return {
        "threads": threads,
        "peak_gflops": {" ".join(kind): peak for kind, peak in peaks.items()},
        "torch": torch.__version__,
        "cpu": _cpu(),
        "rows": [asdict(row) for row in rows],
    }


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _gmacs(derainer: Derainer, size: tuple[int, int]) -> float:
    """Multiply-accumulates of the network as torch would run it, counted without computing."""
    if is_exported(derainer.file):
        description = derainer.runtime.description  # type: ignore[attr-defined]
        key, settings = description.model, description.settings
    else:
        key, settings = load_file(derainer.file)[1], file_settings(derainer.file)
    rule = derainer.info.size
    height, width = (-(-max(side, rule.minimum) // rule.multiple_of) * rule.multiple_of for side in size)
    with torch.device("meta"), torch.no_grad():
        network = create_model(key, **settings).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, height, width))
    return float(counter.get_total_flops()) / 2e9


def _figures(model: str) -> dict[str, float]:
    if is_file_name(model) or model in imported_files():
        return {}
    figures = manifest().find(model).figures
    # Against what rain left; other figures compare with dry input.
    return {name: value for name, value in figures.items() if "PSNR-Y" in name and "(rainy" in name}


def _forget_peak() -> None:
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float | None:
    if sys.platform != "linux":
        return None
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else None


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", file.read_text()) if file.exists() else None
    return found[1] if found else sys.platform


def draw(results: dict[str, Any], file: Path) -> None:
    """Draw quality over time: Y-PSNR of every set that the manifest tells over milliseconds.

    Args:
        results: of :func:`measure`.
        file: where the picture goes; the suffix chooses its format.

    Raises:
        InputError: matplotlib is missing, or no model has figures.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
    except ImportError:
        raise InputError("--plot needs matplotlib; pip install 'derain[train]'") from None
    points: dict[str, list[tuple[float, float, str]]] = {}
    for row in results["rows"]:
        for protocol, value in row["psnr"].items():
            points.setdefault(protocol, []).append((row["milliseconds"], value, f"{row['model']}, {row['runtime']}"))
    if not points:
        raise InputError("none of these models has measured figures to draw; name one of `derain models`")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for protocol, found in points.items():
        found.sort()
        axes.plot([p[0] for p in found], [p[1] for p in found], "o", label=protocol)
        for place, (x, y, name) in enumerate(found):
            above = place % 2 == 0
            axes.annotate(
                name, (x, y), textcoords="offset points", xytext=(0, 9 if above else -17), ha="center", fontsize=8
            )
    axes.set_xscale("log")  # models differ by a factor of 20; on a plain scale the quick ones lie on one another
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    row = results["rows"][0]
    axes.set_xlabel(f"milliseconds for {row['width']}×{row['height']}, {results['threads']} threads, {results['cpu']}")
    axes.set_ylabel("PSNR-Y, dB")
    axes.margins(0.25, 0.15)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center")
    try:
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: cannot be written ({error}); choose another name, such as speed.png") from None
