"""``derain run --adapt`` on photographs with rain unlike the training rain, and on the Rain100L slice.

python benchmarks/adapt.py --data ../shared/data                       # the final set: noise and real
python benchmarks/adapt.py --data ../shared/data --set choosing
python benchmarks/adapt.py --data ../shared/data --rain100l            # rain seen in training: must not get worse
python benchmarks/adapt.py --sheet docs/images/adapt.png               # scikit-image's photographs only

Photographs are reduced to 320×240. The rain of each image is seeded by its name. Y-PSNR on 8 bits against the
image without streaks and camera effects, but with the haze that ``real`` may add: no network here was trained to
remove haze. The last columns compare with the clean image itself.
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
from derain.arrays import to_chw, to_float
from derain.data.layouts import find_pairs
from derain.images import read
from derain.metrics import psnr
from derain.rain import apply_rain, sample_rain
from derain.rain2avoid import adapt

HEIGHT, WIDTH = 240, 320
#: From scikit-image, and from COCO by index in the sorted folder (no pretrained model saw either); Kodak and
#: Urban100 were among the clean photographs of the training data.
SETS = {
    "choosing": "chelsea rocket coco1 coco3 coco16 coco22 coco34 coco48 kodim05 kodim19",
    "final": "astronaut coffee coco7 coco9 coco10 coco17 coco26 coco58",
    "fresh": "coco36 coco51 coco63 kodim08 img_012",
    "skimage": "astronaut coffee chelsea rocket",
}


def load_scene(name: str, folder: Path | None) -> np.ndarray:
    """The center of a photograph, ``(240, 320, 3)`` float32."""
    if folder is None or name in SETS["skimage"].split():
        image = to_float(getattr(data, name)())
    elif name.startswith("coco"):
        image = read(sorted((folder / "coco64" / "images").glob("*.jpg"))[int(name[4:])]).pixels
    else:
        image = read(next((folder / "backgrounds").glob(f"*/{name}*"))).pixels
    height, width = image.shape[:2]
    scale = max(HEIGHT / height, WIDTH / width)
    size = max(WIDTH, round(width * scale)), max(HEIGHT, round(height * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (image.shape[0] - HEIGHT) // 2, (image.shape[1] - WIDTH) // 2
    return image[top : top + HEIGHT, left : left + WIDTH]


def add_rain(clean: np.ndarray, name: str, preset: str) -> tuple[np.ndarray, np.ndarray]:
    """The rainy image, and the same without streaks and camera effects."""
    rng = np.random.default_rng([0, zlib.crc32(f"{name} {preset}".encode())])
    rain = sample_rain(preset, rng)
    rainy = apply_rain(clean, rain, rng)
    return quantize(rainy), quantize(apply_rain(clean, replace(rain, layers=(), camera=None), rng))


def quantize(image: np.ndarray) -> np.ndarray:
    """Float32 in [0, 1], rounded to 8 bits."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.float32) / 255


def y_psnr(result: np.ndarray, truth: np.ndarray) -> float:
    batches = (torch.from_numpy(to_chw(quantize(image)))[None] for image in (result, truth))
    return psnr(*batches, "y").item()


def cases(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Name, rainy, truth, clean."""
    if options.rain100l:
        for pair in find_pairs(options.data / "dev" / "rain100l").pairs:
            rainy, truth = map(to_float, pair.read())
            yield pair.name, rainy, truth, truth
        return
    selected = options.set if options.data else "skimage"
    for name in SETS[selected].split():
        clean = quantize(load_scene(name, options.data))
        for preset in options.presets.split(","):
            rainy, truth = (clean, clean) if preset == "rain-free" else add_rain(clean, name, preset)
            yield f"{name} {preset}", rainy, truth, clean


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", choices=tuple(SETS), default="final")
    parser.add_argument("--presets", default="noise,real", help="comma-separated; rain-free adds no rain at all")
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
    print("image: rainy, pretrained, rain2avoid, adapted | gain | against clean: pretrained, adapted | seconds")
    for name, rainy, truth, clean in cases(options):
        pretrained = derainer(rainy)
        picture, outcome = derainer.adapt(Picture(np.ascontiguousarray(rainy)), seed=options.seed)
        adapted = picture.pixels
        from_scratch = float("nan") if options.skip_rain2avoid else y_psnr(adapt(rainy).pixels, truth)
        row = [y_psnr(rainy, truth), y_psnr(pretrained, truth), from_scratch, y_psnr(adapted, truth)]
        row += [row[3] - row[1], y_psnr(pretrained, clean), y_psnr(adapted, clean), outcome.seconds]
        rows.setdefault(name.split()[-1] if " " in name else "all", []).append(row)
        status = outcome.refused or f"share {outcome.share:.2f}"
        print(f"{name}:", *(f"{value:.2f}" for value in row), status, flush=True)
        sheet.append(np.concatenate([rainy, pretrained, adapted, truth], axis=1))
    for kind, kind_rows in rows.items():
        table = np.array(kind_rows)
        print(f"mean of {len(table)} {kind}:", *(f"{v:.2f}" for v in table.mean(axis=0)), end="; ")
        print(f"gain {table[:, 4].min():.2f} to {table[:, 4].max():.2f}")
    if options.sheet:
        Picture(np.concatenate(sheet)).save(options.sheet, overwrite=True)


if __name__ == "__main__":
    main()
