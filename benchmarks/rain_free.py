"""What models change in rain-free images: Y-PSNR of output against input, dB.

Photographs that scikit-image ships, and those of folders, such as CamVid's streets with masts, fences and branches.

python benchmarks/rain_free.py [--model default,sapnet] [--data ../shared/data/camvid/val/images ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from derain import Derainer
from derain.data.layouts import find_images, read_rgb
from derain.metrics import psnr

PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "rocket")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="comma-separated")
    parser.add_argument("--data", nargs="*", type=Path, default=[], help="folders of rain-free images")
    arguments = parser.parse_args()
    for model in arguments.model.split(","):
        derainer = Derainer(model)

        def fidelity(image: np.ndarray, derainer: Derainer = derainer) -> float:
            return float(psnr(derainer(image), image, "y"))

        photographs = {
            name: np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB")) for name in PHOTOGRAPHS
        }
        print_summary(model, "scikit-image", {name: fidelity(image) for name, image in photographs.items()})
        for folder in arguments.data:
            files = find_images(folder)
            print_summary(model, str(folder), {file.name: fidelity(read_rgb(file)) for file in files})


def print_summary(model: str, data: str, values_by_name: dict[str, float]) -> None:
    values = np.array(list(values_by_name.values()))
    lowest = sorted(values_by_name, key=values_by_name.__getitem__)[:8]
    worst = ", ".join(f"{name} {values_by_name[name]:.1f}" for name in lowest)
    below = f"{(values < 40).mean():.0%} below 40"
    print(f"{model}, {data}: mean {values.mean():.2f} of {len(values)}, {below}; worst {worst}", flush=True)


if __name__ == "__main__":
    main()
