"""The image of docs/guide/rain2avoid.md: rainy | map | fused | derained | truth, on photographs of scikit-image.

python scripts/make_rain2avoid_sheet.py docs/images/rain2avoid.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from derain.arrays import to_chw, to_float, to_uint8
from derain.metrics import psnr
from derain.rain import StreakParams, add_streaks, render_streaks
from derain.rain2avoid import adapt


def y_psnr(result: np.ndarray, truth: np.ndarray) -> float:
    batches = (torch.from_numpy(to_chw(image))[None] for image in (result, truth))
    return psnr(*batches, "y").item()


def main(output: Path) -> None:
    rows = []
    for name, clean, angle in (
        ("cat", data.chelsea()[:288, :432], -20.0),
        ("coffee", data.coffee()[100:388, 100:532], 12.0),
    ):
        truth = to_float(clean)
        streaks = StreakParams(density=12, length=(14, 50), angle=angle, brightness=(0.1, 0.5), depth_layers=2)
        rainy = add_streaks(truth, render_streaks(truth.shape[:2], streaks, np.random.default_rng(3)))
        result = adapt(rainy)
        mask = np.repeat(result.rain_map[..., None], 3, axis=2) / np.float32(255)
        figures = [f"{y_psnr(image, truth):.2f}" for image in (rainy, result.reference, result.pixels)]
        print(f"{name}: rainy, fused, derained {' '.join(figures)} dB; {result.steps} steps, {result.seconds:.0f} s")
        rows.append(np.concatenate([rainy, mask, result.reference, result.pixels, truth], axis=1))
    sheet = Image.fromarray(to_uint8(np.concatenate(rows)))
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
