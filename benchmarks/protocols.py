"""One pair of images under every protocol: why papers disagree. Prints the table of docs/guide/measurement.md.

python benchmarks/protocols.py
"""

from __future__ import annotations

import numpy as np
import skimage.data
import torch

from derain.metrics import PROTOCOLS, protocol_named, psnr, ssim
from derain.rain import add_streaks, render, sample_rain


def main() -> None:
    # Tiled 2×2, so that Wang's downsampling has an effect (factor 4).
    clean = np.tile(skimage.data.astronaut(), (2, 2, 1)).astype(np.float32) / 255
    rng = np.random.default_rng(0)
    layer = render(sample_rain("light", rng), clean.shape[:2], rng)
    rainy, truth = (torch.from_numpy(p).permute(2, 0, 1)[None] for p in (add_streaks(clean, layer), clean))
    print("| protocol | used by | PSNR | SSIM |\n|---|---|---|---|")
    for name, protocol in PROTOCOLS.items():
        # The rainy image is no result of a script that truncates: rounded, it is the same under all protocols.
        rule = protocol if protocol.quantizer is None else protocol_named(name, "round")
        values = psnr(rainy, truth, rule).item(), ssim(rainy, truth, rule).item()
        print(f"| `{name}` | {protocol.used_by} | {values[0]:.2f} | {values[1]:.4f} |")


if __name__ == "__main__":
    main()
