"""The statistics of our rain compared with Rain100L and Rain100H, and the speed of rendering.

    python benchmarks/rain_statistics.py --data ../shared/data --plot docs/images/rain-statistics.png

Both are measured in the same way: rain is ``rainy - clean`` where a channel is unsaturated.
Needs matplotlib for the plot: ``pip install -e .[train]``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray, UInt8Array, to_uint8
from derain.data import find_pairs
from derain.metrics import psnr
from derain.rain import StreakLibrary, add_streaks, apply_rain, render, sample_rain

COLUMNS = ("covered", "p50", "p90", "p99", "white", "PSNR-Y", "angle", "spread", "across", "along")
ANGLES = np.linspace(-90, 90, 46)
LEVELS = np.linspace(0, 256, 33)


@dataclass
class Rain:
    """Statistics of the rain of one image.

    Attributes:
        row: values of COLUMNS. Covered: fraction of pixels above 4/255; percentiles of the layer, 0..255;
            white: fraction of pixels saturated in all channels; angle (degrees from vertical, positive when
            streaks lean to the right going down) and its spread, from the structure tensor; across and along:
            half-widths at half autocorrelation, pixels.
        angles: fraction of gradient energy in each bin of ANGLES.
        levels: fraction of rainy pixels in each bin of LEVELS.
    """

    row: list[float]
    angles: npt.NDArray[np.float64]
    levels: npt.NDArray[np.float64]


def measure(rainy: UInt8Array, clean: UInt8Array) -> Rain:
    unsaturated = rainy < 255
    valid = unsaturated.any(axis=2)
    rain = np.where(unsaturated, rainy.astype(int) - clean, -1).max(axis=2)
    values = rain[valid]
    # Saturated pixels are filled with the mean, which adds no direction.
    filled = np.where(valid, rain, values.mean()).astype(np.float32)
    smooth = cv2.GaussianBlur(filled, (0, 0), 1.0)
    gx, gy = (cv2.Sobel(smooth, cv2.CV_32F, *order) * valid for order in ((1, 0), (0, 1)))
    xx, yy, xy = (cv2.GaussianBlur(p, (0, 0), 2.0) for p in (gx * gx, gy * gy, gx * gy))
    local = np.degrees(0.5 * np.arctan2(-2 * xy, xx - yy))
    angles, _ = np.histogram(local, ANGLES, weights=xx + yy)
    xx, yy, xy = xx.mean(), yy.mean(), xy.mean()
    angle = 0.5 * np.arctan2(-2 * xy, xx - yy)
    coherence = np.clip(np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-9), 1e-6, 1)
    spread = np.degrees(0.5 * np.sqrt(-2 * np.log(coherence)))
    levels, _ = np.histogram(values[values > 4], LEVELS)
    across, along = ((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle)))
    correlation = autocorrelation(filled)
    row = [(values > 4).mean(), *np.percentile(values, [50, 90, 99]), 1 - valid.mean(), psnr(rainy, clean).item()]
    row += [np.degrees(angle), spread, half_width(correlation, across), half_width(correlation, along)]
    return Rain([float(v) for v in row], angles / max(angles.sum(), 1e-9), levels / max(levels.sum(), 1))


def autocorrelation(layer: FloatArray) -> FloatArray:
    spectrum = np.fft.rfft2(layer - layer.mean(), s=[2 * n for n in layer.shape])
    full = np.fft.fftshift(np.fft.irfft2(np.abs(spectrum) ** 2))
    return (full / max(full.max(), 1e-9)).astype(np.float32)


def half_width(correlation: FloatArray, direction: tuple[float, float]) -> float:
    """Distance from the center at which the autocorrelation falls to a half, pixels."""
    middle_y, middle_x = (n // 2 for n in correlation.shape)
    steps = np.arange(0, 80, 0.25)
    places = [(middle_x + steps * direction[0]), (middle_y + steps * direction[1])]
    along = cv2.remap(correlation, *(p.astype(np.float32)[None] for p in places), cv2.INTER_LINEAR)[0]
    below = np.flatnonzero(along < 0.5)
    return float(steps[below[0]]) if below.size else float(steps[-1])


def dataset_rain(folder: Path) -> tuple[list[Rain], list[UInt8Array]]:
    pairs = [pair.read() for pair in find_pairs(folder).pairs]
    return [measure(*pair) for pair in pairs], [clean for _, clean in pairs]


def our_rain(preset: str, cleans: list[UInt8Array], count: int, library: StreakLibrary | None) -> list[Rain]:
    statistics = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        clean = cleans[seed % len(cleans)]
        layer = render(sample_rain(preset, rng, library), clean.shape[:2], rng, library)
        statistics.append(measure(to_uint8(add_streaks(clean / 255, layer)), clean))
    return statistics


def show(name: str, statistics: list[Rain]) -> None:
    rows = np.array([f.row for f in statistics])
    for q, line in zip((0, 25, 50, 75, 100), np.percentile(rows, (0, 25, 50, 75, 100), axis=0), strict=True):
        print(f"{name:<18} q{q:<3} " + " ".join(f"{value:7.2f}" for value in line))


def plot(rows: list[tuple[str, list[Rain], str, list[Rain]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(len(rows), 5, figsize=(17, 3.4 * len(rows)), layout="constrained")
    headings = ("direction, degrees", "half-width along, px", "half-width across, px", "brightness, 0..255", "covered")
    for axes, (their_name, theirs, our_name, ours) in zip(grid, rows, strict=True):
        for statistics, name, color in ((theirs, their_name, "#d95f02"), (ours, our_name, "#1b6ca8")):
            style = {"color": color, "alpha": 0.45, "label": f"{name} ({len(statistics)})"}
            table = np.array([f.row for f in statistics])
            for axis, edges, shares in (
                (axes[0], ANGLES, [f.angles for f in statistics]),
                (axes[3], LEVELS, [f.levels for f in statistics]),
            ):
                axis.stairs(np.mean(shares, axis=0), edges, fill=True, **style)
            for axis, column, edges in (
                (axes[1], 9, np.linspace(0, 40, 17)),
                (axes[2], 8, np.linspace(0, 3, 13)),
                (axes[4], 0, np.linspace(0, 1, 21)),
            ):
                shares, _ = np.histogram(np.clip(table[:, column], edges[0], edges[-1]), edges)
                axis.stairs(shares / shares.sum(), edges, fill=True, **style)
        for axis, heading in zip(axes, headings, strict=True):
            axis.set_xlabel(heading)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("fraction")
        axes[1].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def speed(library: StreakLibrary, patches: int) -> None:
    patch = np.full((128, 128, 3), 0.4, np.float32)
    for preset in ("light", "heavy", "mixed", "noise", "real"):
        start = time.process_time()
        for seed in range(patches):
            rng = np.random.default_rng(seed)
            apply_rain(patch, sample_rain(preset, rng, library), rng, library)
        print(f"{preset}: {patches / (time.process_time() - start):.0f} patches of 128×128 per second of CPU time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    library = StreakLibrary(args.data / "streaks")
    print(" " * 24 + " ".join(f"{h:>7}" for h in COLUMNS))
    rows = []
    for name, preset in (("Rain100L", "light"), ("Rain100H", "heavy")):
        theirs, cleans = dataset_rain(args.data / "dev" / name.lower())
        show(name, theirs)
        ours = our_rain(preset, cleans, args.images, library)
        show(preset, ours)
        show(f"{preset}, no library", our_rain(preset, cleans, args.images, None))
        rows.append((f"{name} slice", theirs, preset, ours))
    if args.plot is not None:
        plot(rows, args.plot)
    speed(library, args.images)


if __name__ == "__main__":
    main()
