"""``derain run --adapt`` on photographs under rain that the shipped weights never saw, and on Rain100L's slice.

python benchmarks/adapt.py --data ../shared/data                       # the final set: noise and real
python benchmarks/adapt.py --data ../shared/data --set choosing
python benchmarks/adapt.py --data ../shared/data --rain100l            # rain that they know: must not get worse
python benchmarks/adapt.py --sheet docs/images/adapt.png               # scikit-image's pictures alone

Photographs are reduced to 320×240. Rain is drawn once a picture, by its name. Y-PSNR on 8 bits against the
picture without streaks and camera, but with the veil of far rain that ``real`` may hold: no network here was
taught to lift that. The last column is against the clean picture itself.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage import data

from derain import Derainer, Picture
from derain.data.layouts import find_pairs
from derain.images import read
from derain.metrics import psnr
from derain.rain import apply_rain, sample_rain
from derain.rain2avoid import adapt

HEIGHT, WIDTH = 240, 320
#: skimage's, COCO's by their place in the sorted folder (the weights saw neither); Kodak and Urban100 were among
#: the clean photographs that the weights were trained on.
SETS = {
    "choosing": "chelsea rocket coco1 coco3 coco16 coco22 coco34 coco48 kodim05 kodim19",
    "final": "astronaut coffee coco7 coco9 coco10 coco17 coco26 coco58",
    "fresh": "coco36 coco51 coco63 kodim08 img_012",
    "skimage": "astronaut coffee chelsea rocket",
}


def scene(name: str, folder: Path | None) -> np.ndarray:
    """``(240, 320, 3)`` float32, the middle of a photograph."""
    if folder is None or name in SETS["skimage"].split():
        picture = getattr(data, name)().astype(np.float32) / 255
    elif name.startswith("coco"):
        picture = read(sorted((folder / "coco64" / "images").glob("*.jpg"))[int(name[4:])]).pixels
    else:
        picture = read(next((folder / "backgrounds").glob(f"*/{name}*"))).pixels
    height, width = picture.shape[:2]
    scale = max(HEIGHT / height, WIDTH / width)
    size = max(WIDTH, round(width * scale)), max(HEIGHT, round(height * scale))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    top, left = (picture.shape[0] - HEIGHT) // 2, (picture.shape[1] - WIDTH) // 2
    return picture[top : top + HEIGHT, left : left + WIDTH]


def rained(clean: np.ndarray, name: str, preset: str) -> tuple[np.ndarray, np.ndarray]:
    """The rainy picture, and the same without streaks and camera."""
    rng = np.random.default_rng([0, zlib.crc32(f"{name} {preset}".encode())])
    recipe = sample_rain(preset, rng)
    rainy = apply_rain(clean, recipe, rng)
    return eight(rainy), eight(apply_rain(clean, replace(recipe, layers=(), camera=None), rng))


def eight(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.float32) / 255


def db(result: np.ndarray, truth: np.ndarray) -> float:
    both = (torch.from_numpy(np.ascontiguousarray(eight(p))).permute(2, 0, 1)[None] for p in (result, truth))
    return psnr(*both, "y").item()


def cases(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Name, rainy, truth, clean."""
    if options.rain100l:
        for pair in find_pairs(options.data / "dev" / "rain100l").pairs:
            rainy, truth = (p.astype(np.float32) / 255 for p in pair.read())
            yield pair.name, rainy, truth, truth
        return
    chosen = options.set if options.data else "skimage"
    for name in SETS[chosen].split():
        clean = eight(scene(name, options.data))
        for preset in options.presets.split(","):
            rainy, truth = rained(clean, name, preset) if preset != "dry" else (clean, clean)
            yield f"{name} {preset}", rainy, truth, clean


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", choices=tuple(SETS), default="final")
    parser.add_argument("--presets", default="noise,real", help="with commas; dry is no rain at all")
    parser.add_argument("--rain100l", action="store_true")
    parser.add_argument("--model", default="default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip-rain2avoid", action="store_true")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    derainer = Derainer(options.model, device="cpu", precision="fp32")
    rows: dict[str, list[list[float]]] = {}
    sheet = []
    print("picture: rainy, pretrained, rain2avoid, adapted | gain | against clean: pretrained, adapted | seconds")
    for name, rainy, truth, clean in cases(options):
        plain = derainer(rainy)
        picture, tuned = derainer.adapt(Picture(np.ascontiguousarray(rainy)), seed=options.seed)
        adapted = picture.pixels
        alone = float("nan") if options.skip_rain2avoid else db(adapt(rainy).pixels, truth)
        row = [db(rainy, truth), db(plain, truth), alone, db(adapted, truth)]
        row += [row[3] - row[1], db(plain, clean), db(adapted, clean), tuned.seconds]
        rows.setdefault(name.split()[-1] if " " in name else "all", []).append(row)
        print(f"{name}:", *(f"{value:.2f}" for value in row), tuned.refused or f"share {tuned.share:.2f}", flush=True)
        sheet.append(np.concatenate([rainy, plain, adapted, truth], axis=1))
    for kind, found in rows.items():
        table = np.array(found)
        print(f"mean of {len(table)} {kind}:", *(f"{v:.2f}" for v in table.mean(axis=0)), end="; ")
        print(f"gain {table[:, 4].min():.2f} to {table[:, 4].max():.2f}")
    if options.sheet:
        Picture(np.concatenate(sheet)).save(options.sheet, overwrite=True)


if __name__ == "__main__":
    main()
