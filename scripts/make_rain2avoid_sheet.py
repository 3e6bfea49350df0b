"""The sheet of docs/rain2avoid.md: rainy | map | fused | learned | truth, on a photograph of scikit-image.

python scripts/make_rain2avoid_sheet.py docs/images/rain2avoid.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from derain.metrics import psnr
from derain.rain import StreakParams, add_streaks, render_streaks
from derain.rain2avoid import adapt


def db(found: np.ndarray, truth: np.ndarray) -> float:
    both = (torch.from_numpy(np.ascontiguousarray(p)).permute(2, 0, 1)[None] for p in (found, truth))
    return psnr(*both, "y").item()


def main(goal: Path) -> None:
    rows = []
    for name, clean, angle in (
        ("cat", data.chelsea()[:288, :432], -20.0),
        ("coffee", data.coffee()[100:388, 100:532], 12.0),
    ):
        truth = clean.astype(np.float32) / 255
        streaks = StreakParams(density=12, length=(14, 50), angle=angle, brightness=(0.1, 0.5), depth_layers=2)
        rainy = add_streaks(truth, render_streaks(truth.shape[:2], streaks, np.random.default_rng(3)))
        learned = adapt(rainy)
        mask = np.repeat(learned.rain_map[..., None], 3, axis=2) / np.float32(255)
        figures = [f"{db(p, truth):.2f}" for p in (rainy, learned.reference, learned.pixels)]
        print(f"{name}: rainy, fused, learned {' '.join(figures)} dB; {learned.steps} steps, {learned.seconds:.0f} s")
        rows.append(np.concatenate([rainy, mask, learned.reference, learned.pixels, truth], axis=1))
    sheet = Image.fromarray((np.clip(np.concatenate(rows), 0, 1) * 255 + 0.5).astype(np.uint8))
    goal.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(goal, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
