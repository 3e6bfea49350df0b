"""What models do to dry photographs: Y-PSNR of output to input, dB.

Photographs that scikit-image ships, and those of folders: CamVid's streets with their masts, fences and branches, say.

python benchmarks/dry_photographs.py [--model default,sapnet] [--data ../shared/data/camvid/val/images ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from derain import Derainer
from derain.data.layouts import pictures_in, read_rgb
from derain.metrics import psnr

PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "rocket")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="with commas")
    parser.add_argument("--data", nargs="*", type=Path, default=[], help="folders of dry photographs")
    arguments = parser.parse_args()
    for model in arguments.model.split(","):
        derainer = Derainer(model)

        def kept(simulate_camera: np.ndarray, derainer: Derainer = derainer) -> float:
            return float(psnr(derainer(simulate_camera), simulate_camera, "y"))

        shipped = {
            name: np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB")) for name in PHOTOGRAPHS
        }
        _tell(model, "scikit-image", {name: kept(simulate_camera) for name, simulate_camera in shipped.items()})
        for folder in arguments.data:
            files = pictures_in(folder)
            _tell(model, str(folder), {file.name: kept(read_rgb(file)) for file in files})


def _tell(model: str, data: str, found: dict[str, float]) -> None:
    values = np.array(list(found.values()))
    worst = ", ".join(f"{name} {found[name]:.1f}" for name in sorted(found, key=found.__getitem__)[:8])
    below = f"{(values < 40).mean():.0%} below 40"
    print(f"{model}, {data}: mean {values.mean():.2f} of {len(values)}, {below}; worst {worst}", flush=True)


if __name__ == "__main__":
    main()
