"""Mean Y-PSNR of a model on the development slice: pairs 1–20 of the Rain100L and Rain100H test sets.

    python benchmarks/dev_slice.py --data ../shared/data [--model default] [--sheets DIR]

Protocol: luma of MATLAB's rgb2ycbcr on 8-bit pictures, peak 255, mean over the pictures. The slice
serves to choose models; it is not the whole test sets of the literature, and never trained on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from derain import Derainer
from derain.metrics import psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds dev/rain100l and dev/rain100h")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--sheets", type=Path, help="write rainy | derained | clean sheets here")
    args = parser.parse_args()
    derainer = Derainer(args.model, device=args.device, precision=args.precision)
    runtime = derainer.runtime
    print(f"{args.model} on {runtime.device}, {runtime.precision}, {torch.get_num_threads()} threads")
    for name in ("rain100l", "rain100h"):
        before, after, seconds = [], [], []
        for path in sorted((args.data / "dev" / name / "input").glob("*.png"), key=lambda p: int(p.stem)):
            rainy = np.asarray(Image.open(path).convert("RGB"))
            clean = np.asarray(Image.open(args.data / "dev" / name / "target" / path.name).convert("RGB"))
            start = time.perf_counter()
            derained = derainer(rainy)
            seconds.append(time.perf_counter() - start)
            before.append(psnr(rainy, clean).item())
            after.append(psnr(derained, clean).item())
            if args.sheets is not None:
                args.sheets.mkdir(parents=True, exist_ok=True)
                sheet = np.concatenate([rainy, derained, clean], axis=1)
                Image.fromarray(sheet).save(args.sheets / f"{name}_{path.stem}.png")
        pace = statistics.median(seconds)
        spread = statistics.stdev(after) / len(after) ** 0.5
        print(
            f"{name}: {len(after)} pairs, rainy {statistics.mean(before):.2f} dB, "
            f"derained {statistics.mean(after):.2f} ± {spread:.2f} dB, median {pace:.2f} s a picture"
        )


if __name__ == "__main__":
    main()
