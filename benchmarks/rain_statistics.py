"""The statistics of our rain beside those of Rain100L and Rain100H, and how fast it is made.

    python benchmarks/rain_statistics.py --data ../shared/data

Quartiles over pictures of: share of pixels above 4/255, percentiles of the rain layer (of 255), and
Y-PSNR of the rainy picture. For the slice, rain is ``input - target`` where a channel is unsaturated.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from derain.data import find_pairs
from derain.metrics import psnr
from derain.rain import StreakLibrary, add_streaks, rain_on, render, sample_recipe


def describe(layer: np.ndarray) -> list[float]:
    return [float((layer > 4).mean()), *np.percentile(layer, [50, 90, 99])]


def show(name: str, rows: list[list[float]]) -> None:
    for q, line in zip((25, 50, 75), np.percentile(np.array(rows), (25, 50, 75), axis=0), strict=True):
        print(f"{name:<12} q{q}  " + "  ".join(f"{value:8.2f}" for value in line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=60)
    args = parser.parse_args()
    library = StreakLibrary(args.data / "streaks")
    print(" " * 19 + "  ".join(f"{h:>8}" for h in ("covered", "p50", "p90", "p99", "PSNR-Y")))
    cleans = []
    for name in ("rain100l", "rain100h"):
        rows = []
        for pair in find_pairs(args.data / "dev" / name).pairs:
            rainy, clean = pair.read()
            open_ = rainy < 255
            rain = np.where(open_, rainy.astype(int) - clean, -1).max(axis=2)[open_.any(axis=2)]
            rows.append([*describe(rain), psnr(rainy, clean).item()])
            cleans.append(clean)
        show(name, rows)
    for preset in ("light", "heavy"):
        rows = []
        for seed in range(args.pictures):
            rng = np.random.default_rng(seed)
            clean = cleans[seed % len(cleans)]
            layer = np.clip(render(sample_recipe(preset, rng, library), clean.shape[:2], rng, library), 0, 1)
            rainy = (add_streaks(clean / 255, layer) * 255 + 0.5).astype(np.uint8)
            rows.append([*describe(layer * 255), psnr(rainy, clean).item()])
        show(preset, rows)
    patch = np.full((128, 128, 3), 0.4, np.float32)
    for preset in ("light", "heavy", "mixed", "noise", "real"):
        start = time.perf_counter()
        for seed in range(args.pictures):
            rng = np.random.default_rng(seed)
            rain_on(patch, sample_recipe(preset, rng, library), rng, library)
        print(f"{preset}: {args.pictures / (time.perf_counter() - start):.0f} patches of 128×128 a second")


if __name__ == "__main__":
    main()
