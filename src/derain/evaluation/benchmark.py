"""Speed of models on this machine: medians, operations, the machine's measured peak, memory."""

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
from derain.runtime.exported import FileRuntime
from derain.weights.manifest import imported_files, manifest
from derain.weights.store import file_settings, is_file_name, load_file

_MATRIX_SIDE = 2048  # of the multiplied matrices


@dataclass(frozen=True)
class Timing:
    """One model on one runtime.

    Attributes:
        model: name or file, as given.
        runtime: ``torch``, ``onnx`` or ``openvino``.
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32`` or ``bf16``.
        width, height: of the image, pixels.
        milliseconds: median time per image, network and tiling, without file I/O.
        fastest: minimum time, milliseconds.
        megapixels: per second, at the median.
        gmacs: 10⁹ multiply-accumulates per image; tile overlaps are not counted.
        gflops: effective 10⁹ operations per second, two for each multiply-accumulate.
        of_peak: ``gflops`` relative to :func:`machine_peak`; above 1 where a runtime saves operations.
        peak_mb: peak memory of the process during the first call, 2²⁰ bytes; ``None`` except on Linux.
        psnr: Y-PSNR in dB listed in the manifest, by protocol.
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
    """Measured 10⁹ operations per second of a large matrix product, with torch's threads.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32`` or ``bf16``.
        repeats: number of products; the fastest counts.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(_MATRIX_SIDE, _MATRIX_SIDE, device=device).to(dtype) for _ in range(2))

    def multiply() -> float:
        return (a @ b)[0, 0].item()  # reading a value synchronizes with a GPU

    return 2 * _MATRIX_SIDE**3 / min(_timed(multiply) for _ in range(repeats)) / 1e9


def measure_speed(
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
    """Time models on runtimes. Calls are interleaved, so that other load on the machine affects all alike.

    Args:
        models: names or files.
        runtimes: ``auto``, ``torch``, ``onnx``, ``openvino``.
        width, height: of the image, pixels.
        repeats: timed calls of each, after one warm-up call.
        threads: per call; ``None`` keeps torch's current setting.
        precision: as in ``Derainer``.
        on_call: called after each call.

    Returns:
        ``{"threads", "peak_gflops", "torch", "cpu", "rows"}``: rows are :class:`Timing` as dicts, peaks are
        keyed by ``"DEVICE PRECISION"``.

    Raises:
        DerainError: see ``Derainer``; InputError for sizes or counts below 1.
    """
    if min(width, height, repeats) < 1 or (threads is not None and threads < 1):
        raise InputError("size, repeats and threads must be at least 1")
    previous = torch.get_num_threads()
    torch.set_num_threads(threads or previous)
    try:
        derainers = [
            Derainer(model, runtime=runtime, threads=torch.get_num_threads(), precision=precision)
            for model in models
            for runtime in runtimes
        ]
        return _measure(derainers, (height, width), repeats, on_call)
    finally:
        torch.set_num_threads(previous)


def _measure(
    derainers: list[Derainer], size: tuple[int, int], repeats: int, on_call: Callable[[], None]
) -> dict[str, Any]:
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    kinds = [(derainer.runtime.device, derainer.runtime.precision) for derainer in derainers]
    peaks = {kind: machine_peak(*kind) for kind in dict.fromkeys(kinds)}
    memory = []
    for derainer in derainers:
        _reset_peak_memory()
        derainer(image)
        memory.append(_peak_memory_mb())
        on_call()
    seconds: list[list[float]] = [[] for _ in derainers]
    for _ in range(repeats):
        for derainer, times in zip(derainers, seconds, strict=True):
            times.append(_timed(lambda call=derainer: call(image)))  # type: ignore[misc]
            on_call()
    rows = []
    for derainer, kind, times, peak_mb in zip(derainers, kinds, seconds, memory, strict=True):
        median, gmacs = statistics.median(times), _gmacs(derainer, size)
        rows.append(
            Timing(
                model=derainer.model,
                runtime=derainer.runtime.name,
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
                peak_mb=peak_mb,
                psnr=_manifest_psnr(derainer.model),
            )
        )
    return {
        "threads": torch.get_num_threads(),
        "peak_gflops": {" ".join(kind): peak for kind, peak in peaks.items()},
        "torch": torch.__version__,
        "cpu": _cpu_model(),
        "rows": [asdict(row) for row in rows],
    }


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _gmacs(derainer: Derainer, size: tuple[int, int]) -> float:
    """10⁹ multiply-accumulates of the network run by torch, counted on the meta device."""
    if isinstance(derainer.runtime, FileRuntime):
        key, settings = derainer.runtime.description.model, derainer.runtime.description.settings
    else:
        key, settings = load_file(derainer.file)[1], file_settings(derainer.file)
    height, width = map(derainer.info.size.fit, size)
    with torch.device("meta"), torch.no_grad():
        network = create_model(key, **settings).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, height, width))
    return float(counter.get_total_flops()) / 2e9


def _manifest_psnr(model: str) -> dict[str, float]:
    if is_file_name(model) or model in imported_files():
        return {}
    figures = manifest().find(model).figures
    # Only figures on rainy input, which name its PSNR; the others are on rain-free images.
    return {name: value for name, value in figures.items() if "PSNR-Y" in name and "(rainy" in name}


# psutil reports the current memory of a process on Linux, not its peak, and cannot reset a peak.
def _reset_peak_memory() -> None:
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb() -> float | None:
    if sys.platform != "linux":
        return None
    match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) / 1024 if match else None


def _cpu_model() -> str:
    file = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.+)", file.read_text()) if file.exists() else None
    return match[1] if match else sys.platform


def plot_quality(results: dict[str, Any], file: Path) -> None:
    """Plot quality over time: the Y-PSNR on each set in the manifest over milliseconds.

    Args:
        results: of :func:`measure_speed`.
        file: output path; its suffix determines the format.

    Raises:
        InputError: matplotlib is not installed, or no model has figures.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
    except ImportError:
        raise InputError("--plot needs matplotlib; pip install 'derain[train]'") from None
    series: dict[str, list[tuple[float, float, str]]] = {}
    for row in results["rows"]:
        for protocol, value in row["psnr"].items():
            series.setdefault(protocol, []).append((row["milliseconds"], value, f"{row['model']}, {row['runtime']}"))
    if not series:
        raise InputError("none of these models has measured figures to plot; name one of `derain models`")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for protocol, points in series.items():
        points.sort()
        axes.plot([p[0] for p in points], [p[1] for p in points], "o", label=protocol)
        for index, (x, y, name) in enumerate(points):
            offset = 9 if index % 2 == 0 else -17  # alternately above and below, to keep labels apart
            axes.annotate(name, (x, y), textcoords="offset points", xytext=(0, offset), ha="center", fontsize=8)
    axes.set_xscale("log")  # models differ by a factor of 20; on a linear scale the fast ones overlap
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
