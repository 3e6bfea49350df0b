"""Fit the regression behind BRISQUE-derain.

    python scripts/fit_brisque.py --data ../shared/data

Clean photographs are distorted; the target of the regression is 100·(1 - SSIM) to the clean image. Full-reference
metrics instead of human opinions were proposed by Ye, Kumar and Doermann, "Beyond Human Opinion Scores", CVPR 2014.
A fifth of the photographs is held out to report the quality of the fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from derain.arrays import UInt8Array, to_uint8
from derain.data.layouts import find_images, read_rgb
from derain.metrics import ssim
from derain.metrics.brisque import _FILE, BrisqueModel, brisque_features, kernel
from derain.rain import add_streaks, render, sample_rain

Distortion = Callable[[UInt8Array, np.random.Generator], UInt8Array]
FOLDERS = ("backgrounds/bsds500", "backgrounds/urban100", "backgrounds/sunhays80", "backgrounds/kodak24")
GAMMA, RIDGE, VECTORS = 0.05, 0.03, 700


def noise(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    sigma = np.exp(rng.uniform(np.log(2), np.log(50)))
    return np.clip(image + rng.normal(0, sigma, image.shape) + 0.5, 0, 255).astype(np.uint8)


def blur(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), np.exp(rng.uniform(np.log(0.4), np.log(5)))), np.uint8)


def compressed(suffix: str, option: int, low: float, high: float) -> Distortion:
    def compress(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
        strength = int(np.exp(rng.uniform(np.log(low), np.log(high))))
        _, data = cv2.imencode(suffix, image[..., ::-1], [option, strength])
        return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])

    return compress


def rain(preset: str) -> Distortion:
    def distort(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
        layer = render(sample_rain(preset, rng), image.shape[:2], rng) * rng.uniform(0.2, 1)
        return to_uint8(add_streaks(image / 255, layer))

    return distort


DISTORTIONS: dict[str, Distortion] = {
    "clean": lambda image, _rng: image,
    "noise": noise,
    "blur": blur,
    "JPEG": compressed(".jpg", cv2.IMWRITE_JPEG_QUALITY, 4, 90),
    "JPEG 2000": compressed(".jp2", cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 4, 300),
    "light rain": rain("light"),
    "heavy rain": rain("heavy"),
}


def to_tensor(image: UInt8Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


def rank_correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photographs", type=int, default=300)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    files = [p for folder in FOLDERS for p in find_images(args.data / folder)]
    files = [files[i] for i in rng.permutation(len(files))[: args.photographs]]
    rows = []
    for number, file in enumerate(files):
        photo = read_rgb(file)[:480, :480]
        for kind, distort in DISTORTIONS.items():
            distorted = distort(photo, rng)
            target = 100 * (1 - ssim(to_tensor(distorted)[None], to_tensor(photo)[None]).item())
            rows.append((number < len(files) // 5, kind, target, brisque_features(to_tensor(distorted))))
    held_out, kinds = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    targets, features = np.array([r[2] for r in rows]), np.stack([r[3] for r in rows])
    low, high = features[~held_out].min(axis=0), features[~held_out].max(axis=0)
    chosen = rng.permutation(np.flatnonzero(~held_out))[:VECTORS]
    scaler = BrisqueModel(low, high, np.zeros((0, 36)), np.zeros(0), 0, GAMMA, "paper", "BRISQUE-derain")
    # Kernel ridge regression on a subset of regressors, about the mean.
    vectors = scaler.scale(features[chosen]).astype(np.float32).astype(np.float64)
    to_all, to_vectors = (kernel(x, vectors, GAMMA) for x in (scaler.scale(features[~held_out]), vectors))
    offset = float(targets[~held_out].mean())
    normal = to_all.T @ to_all + RIDGE * to_vectors + 1e-8 * np.eye(len(vectors))
    weights = np.linalg.solve(normal, to_all.T @ (targets[~held_out] - offset))
    model = BrisqueModel(low, high, vectors, weights, offset, GAMMA, "paper", "BRISQUE-derain")
    for name, part in (("fitted", ~held_out), ("held out", held_out)):
        predicted = np.clip(model.predict(features[part]), 0, 100)
        error = np.abs(predicted - targets[part]).mean()
        print(f"{name}: rank correlation {rank_correlation(predicted, targets[part]):.3f}, mean error {error:.1f}")
        for kind in DISTORTIONS:
            of_kind = kinds[part] == kind
            outputs, expected = predicted[of_kind], targets[part][of_kind]
            rank = rank_correlation(outputs, expected) if kind != "clean" else float("nan")
            print(
                f"    {kind:<11} rank correlation {rank:.3f}, mean {outputs.mean():.1f}, target {expected.mean():.1f}"
            )
    np.savez_compressed(
        _FILE, low=low, high=high, vectors=vectors.astype(np.float32), weights=weights, offset=offset, gamma=GAMMA
    )
    print(f"{len(files)} photographs, {len(rows)} images → {_FILE}, {_FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
