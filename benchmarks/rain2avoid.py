"""Rain2Avoid: agreement with the published maps, quality of references and of training, speed of NSS.

python benchmarks/rain2avoid.py --data DIR [--limit N] [--backbone B] [--threads N] [--skip-learning]
python benchmarks/rain2avoid.py --speed

DIR holds input/, target/ and, for the first check, ldgp/ (the authors' maps).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from derain.arrays import to_chw, to_float, to_uint8
from derain.data.layouts import find_pairs
from derain.metrics import psnr
from derain.rain2avoid import Sampler, Settings, adapt, ldgp, rain_mask


def y_psnr(result: np.ndarray, truth: np.ndarray) -> float:
    quantized = np.rint(np.clip(result, 0, 1) * 255).astype(np.uint8) if result.dtype != np.uint8 else result
    batches = (torch.from_numpy(to_chw(image))[None] / 255 for image in (quantized, truth))
    return psnr(*batches, "y").item()


def f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (predicted & truth).sum() / max(1, predicted.sum() + truth.sum()))


def measure(options: argparse.Namespace) -> None:
    rows = []
    differences = compared = 0
    print("image rainy | authors: f1 fused expected | streaks: f1 fused expected | trained steps cpu-s wall-s")
    for pair in find_pairs(options.data).pairs[: options.limit]:
        rainy, truth = pair.read()
        rain = (rainy.astype(int) - truth).max(axis=2) > 10
        row = [y_psnr(rainy, truth)]
        for mode in ("authors", "streaks"):
            rain_map = ldgp(rainy, mode=mode)
            published = options.data / "ldgp" / f"{pair.name}.png"
            if mode == "authors" and published.exists():
                differences += int((rain_map != cv2.imread(str(published), cv2.IMREAD_GRAYSCALE)).sum())
                compared += 1
            sampler = Sampler(rainy, rain_map)
            row += [f1(rain_mask(rain_map), rain), y_psnr(sampler.fused(), truth), y_psnr(sampler.expected(), truth)]
        if not options.skip_learning:
            start = time.process_time()
            settings = Settings(backbone=options.backbone, steps=options.steps, seed=options.seed)
            result = adapt(rainy, settings=settings, method=options.method)
            row += [y_psnr(result.pixels, truth), result.steps, time.process_time() - start, result.seconds]
        rows.append(row)
        print(pair.name, *(f"{value:.2f}" for value in row), flush=True)
    print("mean", *(f"{value:.3f}" for value in np.mean(rows, axis=0)))
    print(f"authors' maps: {compared} compared, {differences} pixels differ")


def speed() -> None:
    """The literal loop of the tests against the vectorized code: one thread, 50 references."""
    from skimage import data

    from derain.rain import apply_rain, sample_rain
    from support.literal_nss import literal_references

    clean = to_float(data.astronaut()[100:420, :480])
    rng = np.random.default_rng(1)
    rainy = to_uint8(apply_rain(clean, sample_rain("light", rng), rng))
    rain_map = ldgp(rainy, mode="authors")
    times = []
    for _ in range(7):
        start = time.process_time()
        ours = list(Sampler(rainy, rain_map).references(50))
        times.append(time.process_time() - start)
    start = time.process_time()
    literal = literal_references(rainy, rain_map, 50)
    literal_seconds = time.process_time() - start
    assert all((a == b).all() for a, b in zip(ours, literal, strict=True))
    share, fast = rain_mask(rain_map).mean(), statistics.median(times)
    print(f"480×320, {share:.1%} rain, 50 equal references: literal {literal_seconds:.1f} s, vectorized {fast:.3f} s")
    print(f"ratio {literal_seconds / fast:.0f} (processor time, one thread)")
    for part in (1, 2, 4):  # the same image with part of its rain map
        thinned = np.where(np.arange(480) % 120 < 120 // part, rain_map, 0).astype(np.uint8)
        times = []
        for _ in range(7):
            start = time.process_time()
            for _reference in Sampler(rainy, thinned).references(50):
                pass
            times.append(time.process_time() - start)
        print(f"{(thinned > 10).sum()} rain pixels: {statistics.median(times) * 1e3:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--backbone")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="single")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip-learning", action="store_true")
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    if options.speed:
        speed()
    if options.data:
        measure(options)


if __name__ == "__main__":
    main()
