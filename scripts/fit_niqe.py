"""Fit the model of clean photographs behind NIQE-derain.

    python scripts/fit_niqe.py --data ../shared/data

Takes the sharp patches of all clean backgrounds that are stored without loss or at high quality.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from derain.data.layouts import read_rgb
from derain.metrics.no_reference import _MODEL, PATCH, SHARP, niqe_features

FOLDERS = ("backgrounds/bsds500", "backgrounds/urban100", "backgrounds/sunhays80", "backgrounds/kodak24")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    kept = []
    files = [p for folder in FOLDERS for p in sorted((args.data / folder).iterdir())]
    for path in files:
        picture = torch.from_numpy(read_rgb(path)).permute(2, 0, 1) / 255
        if min(picture.shape[1:]) >= PATCH:
            features, sharpness = niqe_features(picture)
            kept.append(features[sharpness > SHARP * sharpness.max()].numpy())
    stacked = np.concatenate(kept)
    np.savez(_MODEL, mean=stacked.mean(axis=0), covariance=np.cov(stacked, rowvar=False))
    print(f"{len(stacked)} patches of {len(files)} photographs → {_MODEL}")


if __name__ == "__main__":
    main()
