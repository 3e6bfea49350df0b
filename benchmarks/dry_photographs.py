"""What models do to dry photographs: Y-PSNR of output to input, dB, over the photographs that scikit-image ships.

python benchmarks/dry_photographs.py [--model default,sapnet]
"""

from __future__ import annotations

import argparse

import numpy as np
import skimage.data
from PIL import Image

from derain import Derainer
from derain.metrics import psnr

PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "rocket")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="with commas")
    for model in parser.parse_args().model.split(","):
        derainer = Derainer(model)
        found = {}
        for name in PHOTOGRAPHS:
            photograph = np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))
            found[name] = float(psnr(derainer(photograph), photograph, "y"))
        each = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
        print(f"{model}: mean {np.mean(list(found.values())):.2f} ({each})", flush=True)


if __name__ == "__main__":
    main()
