"""Small scenes, and the same scenes in rain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from derain.arrays import UInt8Array, to_float, to_uint8
from derain.rain import apply_rain, sample_rain

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry")


def clean_scene(index: int, size: tuple[int, int] = (96, 64)) -> UInt8Array:
    """A photograph of scikit-image, width × height as given."""
    image = getattr(skimage.data, NAMES[index % len(NAMES)])()
    return np.asarray(Image.fromarray(image).convert("RGB").resize(size))


def rainy_scene(index: int, size: tuple[int, int] = (96, 64)) -> UInt8Array:
    """The same in rain."""
    rng = np.random.default_rng(index)
    return to_uint8(apply_rain(to_float(clean_scene(index, size)), sample_rain("light", rng), rng))


def write_image(path: Path, image: UInt8Array) -> Path:
    """Write an image, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def write_pairs(
    root: Path,
    count: int = 3,
    rainy: str = "input/{}.png",
    clean: str = "target/{}.png",
    size: tuple[int, int] = (96, 64),
) -> Path:
    """Pairs of width × height under names with a number from 1."""
    for i in range(count):
        write_image(root / rainy.format(i + 1), rainy_scene(i, size))
        write_image(root / clean.format(i + 1), clean_scene(i, size))
    return root


def write_halves(root: Path, count: int = 4, clean: str = "left") -> Path:
    """Images that hold the clean scene in one half and the rainy one in the other."""
    for i in range(count):
        halves = [clean_scene(i), rainy_scene(i)][:: 1 if clean == "left" else -1]
        write_image(root / f"{i + 1}.png", np.concatenate(halves, axis=1))
    return root


def write_photos(root: Path, count: int = 4) -> Path:
    """Clean photographs."""
    for i in range(count):
        write_image(root / f"photo{i}.png", clean_scene(i))
    return root
