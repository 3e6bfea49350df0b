"""Which fingerprint recognizes a scene? The one of ``derain data check`` against perceptual hashes.

    python benchmarks/near_duplicates.py --data ../shared/data

Scenes are the clean backgrounds; each is altered like copies in public sets. Reported is the share of altered
images that are still recognized: by derain (thumbnail and hash together), and by single fingerprints with the
threshold at which one in 100,000 comparisons of different scenes is a false match.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import UInt8Array
from derain.data.check import fingerprint, mirrored, same_scene
from derain.data.layouts import find_images, read_rgb
from derain.rain import add_streaks, render, sample_rain

Vector = npt.NDArray[np.float32]
FOLDERS = ("bsds500", "urban100", "sunhays80", "kodak24", "mcmaster")


def thumbnail(image: UInt8Array) -> Vector:
    """A 24×24 gray thumbnail, centered and of length one."""
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (24, 24), interpolation=cv2.INTER_AREA)
    values = gray.astype(np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-3)


def phash(image: UInt8Array) -> Vector:
    """64 signs of the low frequencies of a 32×32 thumbnail, about their median."""
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    return np.where(low > np.median(low[1:]), 1, -1).astype(np.float32) / 8


def dhash(image: UInt8Array) -> Vector:
    """64 signs of horizontal differences of a 9×8 thumbnail."""
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    return np.where(np.diff(small, axis=1).ravel() > 0, 1, -1).astype(np.float32) / 8


def jpeg(image: UInt8Array, quality: int) -> UInt8Array:
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


def crop(image: UInt8Array, share: float) -> UInt8Array:
    dy, dx = (round(n * share) for n in image.shape[:2])
    return image[dy:, dx:]


def half_size(image: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def rained(image: UInt8Array, preset: str) -> UInt8Array:
    rng = np.random.default_rng(image.size)
    layer = render(sample_rain(preset, rng), image.shape[:2], rng)
    return np.asarray(add_streaks(image / 255, layer) * 255, np.uint8)


ALTERED: dict[str, Callable[[UInt8Array], UInt8Array]] = {
    "JPEG at quality 30": lambda p: jpeg(p, 30),
    "half the size": half_size,
    "one row and column lost": lambda p: p[:-1, :-1],
    "3 % cropped off two sides": lambda p: crop(p, 0.03),
    "8 % cropped off two sides": lambda p: crop(p, 0.08),
    "gamma 1.5": lambda p: np.asarray((p / 255) ** 1.5 * 255, np.uint8),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "light rain": lambda p: rained(p, "light"),
    "heavy rain": lambda p: rained(p, "heavy"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=300)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    files = [f for folder in FOLDERS for f in find_images(args.data / "backgrounds" / folder)]
    files = files[:: max(1, len(files) // args.scenes)]
    scenes = [half_size(p) if max((p := read_rgb(f)).shape) > 600 else p for f in files]
    kinds: dict[str, Callable[[UInt8Array], Vector]] = {"thumbnail": thumbnail, "pHash": phash, "dHash": dhash}
    own = {name: np.stack([kind(p) for p in scenes]) for name, kind in kinds.items()}
    flipped = {name: np.stack([kind(ALTERED["mirrored"](p)) for p in scenes]) for name, kind in kinds.items()}
    prints = np.stack([fingerprint(p) for p in scenes])
    different = ~np.eye(len(scenes), dtype=bool)
    limits = {
        n: np.quantile(np.concatenate([(own[n] @ m[n].T)[different] for m in (own, flipped)]), 1 - 1e-5) for n in kinds
    }
    false_matches = sum(int(same_scene(prints, others)[different].sum()) for others in (prints, mirrored(prints)))
    print(f"{len(scenes)} scenes; derain: {false_matches} false matches in {2 * different.sum()} comparisons\n")
    print("| | derain | " + " | ".join(f"{name} > {limits[name]:.2f}" for name in kinds) + " |\n|---|---|---|---|---|")
    for what, alter in ALTERED.items():
        altered = [alter(p) for p in scenes]
        copies = np.stack([fingerprint(p) for p in altered])
        shares = [(same_scene(copies, prints) | same_scene(copies, mirrored(prints))).diagonal().mean()]
        for name, kind in kinds.items():
            vectors = np.stack([kind(p) for p in altered])
            best = np.maximum((own[name] * vectors).sum(1), (flipped[name] * vectors).sum(1))
            shares.append((best > limits[name]).mean())
        print(f"| {what} | " + " | ".join(f"{100 * s:.0f} %" for s in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
