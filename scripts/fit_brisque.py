"""Fit the regression behind BRISQUE-derain.

    python scripts/fit_brisque.py --data ../shared/data

Clean photographs are distorted; what the features must tell is 100·(1 - SSIM) against the clean picture. A
full-reference measure in the place of people's opinions is the idea of Ye, Kumar and Doermann, "Beyond Human
Opinion Scores", CVPR 2014. A fifth of the photographs is kept out of the fit to report how well it does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from derain.data.layouts import pictures_in, read_rgb
from derain.metrics import ssim
from derain.metrics.brisque import _FILE, BrisqueModel, brisque_features, kernel
from derain.rain import add_streaks, render, sample_rain

Picture = npt.NDArray[np.uint8]
FOLDERS = ("backgrounds/bsds500", "backgrounds/urban100", "backgrounds/sunhays80", "backgrounds/kodak24")
GAMMA, RIDGE, VECTORS = 0.05, 0.03, 700


def noise(picture: Picture, rng: np.random.Generator) -> Picture:
    sigma = np.exp(rng.uniform(np.log(2), np.log(50)))
    return np.clip(picture + rng.normal(0, sigma, picture.shape) + 0.5, 0, 255).astype(np.uint8)


def blur(picture: Picture, rng: np.random.Generator) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), np.exp(rng.uniform(np.log(0.4), np.log(5)))), np.uint8)


def coded(suffix: str, option: int, low: float, high: float) -> Callable[[Picture, np.random.Generator], Picture]:
    def code(picture: Picture, rng: np.random.Generator) -> Picture:
        strength = int(np.exp(rng.uniform(np.log(low), np.log(high))))
        _, data = cv2.imencode(suffix, picture[..., ::-1], [option, strength])
        return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])

    return code


def rain(preset: str) -> Callable[[Picture, np.random.Generator], Picture]:
    def fall(picture: Picture, rng: np.random.Generator) -> Picture:
        layer = render(sample_rain(preset, rng), picture.shape[:2], rng) * rng.uniform(0.2, 1)
        return (add_streaks(picture / 255, layer) * 255 + 0.5).astype(np.uint8)

    return fall


DISTORTIONS: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "clean": lambda picture, _rng: picture,
    "noise": noise,
    "blur": blur,
    "JPEG": coded(".jpg", cv2.IMWRITE_JPEG_QUALITY, 4, 90),
    "JPEG 2000": coded(".jp2", cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 4, 300),
    "light rain": rain("light"),
    "heavy rain": rain("heavy"),
}


def unit(picture: Picture) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255


def rank_correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photographs", type=int, default=300)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    files = [p for folder in FOLDERS for p in pictures_in(args.data / folder)]
    files = [files[i] for i in rng.permutation(len(files))[: args.photographs]]
    rows = []
    for number, file in enumerate(files):
        photo = read_rgb(file)[:480, :480]
        for kind, distort in DISTORTIONS.items():
            seen = distort(photo, rng)
            target = 100 * (1 - ssim(unit(seen)[None], unit(photo)[None]).item())
            rows.append((number < len(files) // 5, kind, target, brisque_features(unit(seen))))
    held, kinds = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    targets, features = np.array([r[2] for r in rows]), np.stack([r[3] for r in rows])
    low, high = features[~held].min(axis=0), features[~held].max(axis=0)
    chosen = rng.permutation(np.flatnonzero(~held))[:VECTORS]
    empty = BrisqueModel(low, high, np.zeros((0, 36)), np.zeros(0), 0, GAMMA, "paper", "BRISQUE-derain")
    # Kernel ridge regression on a subset of regressors, about the mean.
    vectors = empty.scale(features[chosen]).astype(np.float32).astype(np.float64)
    all_, own = (kernel(x, vectors, GAMMA) for x in (empty.scale(features[~held]), vectors))
    offset = float(targets[~held].mean())
    normal = all_.T @ all_ + RIDGE * own + 1e-8 * np.eye(len(vectors))
    weights = np.linalg.solve(normal, all_.T @ (targets[~held] - offset))
    model = BrisqueModel(low, high, vectors, weights, offset, GAMMA, "paper", "BRISQUE-derain")
    for name, part in (("fitted", ~held), ("held out", held)):
        found = np.clip(model.predict(features[part]), 0, 100)
        error = np.abs(found - targets[part]).mean()
        print(f"{name}: rank correlation {rank_correlation(found, targets[part]):.3f}, mean error {error:.1f}")
        for kind in DISTORTIONS:
            mine, wanted = found[kinds[part] == kind], targets[part][kinds[part] == kind]
            rank = rank_correlation(mine, wanted) if kind != "clean" else float("nan")
            print(f"    {kind:<11} rank correlation {rank:.3f}, mean {mine.mean():.1f}, target {wanted.mean():.1f}")
    np.savez_compressed(
        _FILE, low=low, high=high, vectors=vectors.astype(np.float32), weights=weights, offset=offset, gamma=GAMMA
    )
    print(f"{len(files)} photographs, {len(rows)} pictures → {_FILE}, {_FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
