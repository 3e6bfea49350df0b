"""Fit the model of clean photographs behind NIQE-derain.

    python scripts/fit_niqe.py --data ../shared/data

Uses the sharp patches of all clean backgrounds that are stored losslessly or at high quality.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from derain.data.layouts import read_rgb
from derain.metrics.no_reference import _MODEL, MIN_SHARPNESS, PATCH, niqe_features

FOLDERS = ("backgrounds/bsds500", "backgrounds/urban100", "backgrounds/sunhays80", "backgrounds/kodak24")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    features_of_patches = []
    files = [p for folder in FOLDERS for p in sorted((args.data / folder).iterdir())]
    for path in files:
        image = torch.from_numpy(read_rgb(path)).permute(2, 0, 1) / 255
        if min(image.shape[1:]) >= PATCH:
            features, sharpness = niqe_features(image)
            features_of_patches.append(features[sharpness > MIN_SHARPNESS * sharpness.max()].numpy())
    stacked = np.concatenate(features_of_patches)
    np.savez(_MODEL, mean=stacked.mean(axis=0), covariance=np.cov(stacked, rowvar=False))
    print(f"{len(stacked)} patches of {len(files)} photographs → {_MODEL}")


if __name__ == "__main__":
    main()
