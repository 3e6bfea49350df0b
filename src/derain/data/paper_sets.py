"""COCO150 and CityScape150: sets like those of SAPNet's Table 5, made from the user's own COCO and Cityscapes.

SAPNet (Zheng et al., WACV 2022 workshops) measures detection and segmentation on 150 images each, with rain. Which
images and which rain is not published. Here a seed draws the images, the rain is a preset of :mod:`derain.rain`, and
``manifest.json`` records both.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from derain import images
from derain.arrays import UInt8Array, to_float, to_uint8
from derain.errors import InputError, OutputError
from derain.files import write_bytes, write_json
from derain.rain import apply_rain, sample_rain

from .layouts import find_images, read_rgb

COUNT = 150
SETS = ("coco150", "cityscape150")
#: Cityscapes' label numbers of the 19 evaluated classes, in the order of their training numbers.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_CLASSES = tuple(
    "road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,person,rider,car,truck,"
    "bus,train,motorcycle,bicycle".replace("\n", "").split(",")
)
_VOID = 255


def make_set(
    name: str,
    source: Path,
    output: Path,
    *,
    preset: str = "heavy",
    seed: int = 0,
    count: int = COUNT,
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write one of :data:`SETS`: ``images/`` (clean), ``rainy/``, labels and ``manifest.json``.

    Args:
        name: ``coco150``: labels as ``instances.json``; ``cityscape150``: as ``labels/NAME.png`` with training numbers.
        source: the folder of COCO (``val2017/``, ``annotations/instances_val2017.json``) or of Cityscapes
            (``leftImg8bit/val``, ``gtFine/val``).
        output: a new or empty folder.
        preset: rain, a key of :data:`derain.rain.PRESETS`.
        seed: of the choice of images and of the rain.
        count: number of images.
        on_image: called after each image.

    Returns:
        The manifest.

    Raises:
        InputError: the source is not laid out so, or has fewer images.
        OutputError: the output folder is not empty, or cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output}: exists and is not empty; give a new folder")
    chosen = _coco(source, output, seed, count) if name == "coco150" else _cityscapes(source, output, seed, count)
    entries = []
    for index, file in enumerate(chosen):
        clean = read_rgb(file)
        rng = np.random.default_rng([seed, index])
        spec = sample_rain(preset, rng)
        rainy = to_uint8(apply_rain(to_float(clean), spec, rng))
        stem = _stem(file)
        _write_png(clean, output / "images" / f"{stem}.png")
        _write_png(rainy, output / "rainy" / f"{stem}.png")
        entries.append(
            {"image": f"images/{stem}.png", "rainy": f"rainy/{stem}.png", "source": file.name, "rain": spec.describe()}
        )
        on_image()
    manifest = {"set": name, "seed": seed, "preset": preset, "images": entries}
    write_json(manifest, output / "manifest.json")
    return manifest


def _stem(file: Path) -> str:
    return file.stem.removesuffix("_leftImg8bit")


def _write_png(image: UInt8Array, file: Path) -> None:
    encoded, data = cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])
    assert encoded
    write_bytes(data.tobytes(), file)


def _draw(names: list[str], seed: int, count: int, source: Path) -> list[str]:
    if len(names) < count:
        raise InputError(f"{source}: {len(names)} labeled images, {count} are needed; give the whole validation set")
    return sorted(random.Random(seed).sample(sorted(names), count))


def _coco(source: Path, output: Path, seed: int, count: int) -> list[Path]:
    """150 images of COCO's validation set that have objects; their labels go to ``instances.json``."""
    labels, folder = source / "annotations" / "instances_val2017.json", source / "val2017"
    if not (labels.is_file() and folder.is_dir()):
        raise InputError(f"{source}: not COCO; it needs val2017/ and annotations/instances_val2017.json")
    content = json.loads(labels.read_text(encoding="utf-8"))
    with_objects = {annotation["image_id"] for annotation in content["annotations"]}
    records = {record["file_name"]: record for record in content["images"] if record["id"] in with_objects}
    chosen = _draw([name for name in records if (folder / name).is_file()], seed, count, source)
    kept = {records[name]["id"] for name in chosen}
    subset = {
        "categories": content["categories"],
        "images": [{**records[name], "file_name": f"{Path(name).stem}.png"} for name in chosen],
        "annotations": [a for a in content["annotations"] if a["image_id"] in kept],
    }
    write_json(subset, output / "instances.json")
    return [folder / name for name in chosen]


def _cityscapes(source: Path, output: Path, seed: int, count: int) -> list[Path]:
    """150 images of Cityscapes' validation set; their labels go to ``labels/`` with training numbers."""
    shown, labeled = source / "leftImg8bit" / "val", source / "gtFine" / "val"
    if not (shown.is_dir() and labeled.is_dir()):
        raise InputError(f"{source}: not Cityscapes; it needs leftImg8bit/val and gtFine/val")
    label_of = {}
    for file in find_images(shown):
        label = labeled / file.parent.name / f"{_stem(file)}_gtFine_labelIds.png"
        if label.is_file():
            label_of[str(file)] = label
    chosen = [Path(name) for name in _draw(list(label_of), seed, count, source)]
    train_id = np.full(256, _VOID, np.uint8)
    train_id[list(CITYSCAPES_IDS)] = range(len(CITYSCAPES_IDS))
    for file in chosen:
        ids = np.array(images.read(label_of[str(file)]).to_pil().convert("L"))
        _write_png(train_id[ids], output / "labels" / f"{_stem(file)}.png")
    return chosen
