"""Images with labeled boxes: YOLO text files and COCO JSON.

- YOLO: ``images/NAME.jpg``; ``labels/NAME.txt`` with class, center x, center y, width and height on each line,
  relative to the image; the class names as ``names`` in a YAML file.
- COCO: one JSON file with ``images``, ``annotations`` (``bbox``: left, top, width, height in pixels) and
  ``categories``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from derain.errors import InputError

from .layouts import find_images
from .matching import natural_key

#: How far a relative box may reach beyond the image, for rounding in the file.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Box:
    """A labeled box: class number, left, top, width and height in pixels; crowds are ignored by the metric."""

    category: int
    x: float
    y: float
    width: float
    height: float
    crowd: bool = False


@dataclass(frozen=True)
class RelativeBox:
    """A box of a YOLO file: class number, center, width and height as shares of the image."""

    category: int
    x: float
    y: float
    width: float
    height: float

    def in_pixels(self, width: int, height: int) -> Box:
        """The box in an image of that size."""
        left, top = (self.x - self.width / 2) * width, (self.y - self.height / 2) * height
        return Box(self.category, left, top, self.width * width, self.height * height)


@dataclass(frozen=True)
class BoxedImage:
    """An image and its boxes."""

    name: str
    path: Path
    boxes: tuple[Box | RelativeBox, ...]

    def boxes_in_pixels(self, width: int, height: int) -> list[Box]:
        """All boxes, for an image of that size."""
        return [b.in_pixels(width, height) if isinstance(b, RelativeBox) else b for b in self.boxes]


@dataclass(frozen=True)
class BoxedSet:
    """A set of images with boxes.

    Attributes:
        classes: names, in the order of the class numbers.
        images: in natural order of their names.
        problems: one line for each image or label that was left out.
    """

    classes: tuple[str, ...]
    images: tuple[BoxedImage, ...]
    problems: tuple[str, ...] = ()


def find_boxes(path: Path, images: Path | None = None) -> BoxedSet:
    """The images with boxes of a YOLO folder or a COCO JSON file.

    Args:
        path: a folder with ``images/``, ``labels/`` and a YAML file with ``names``; or a COCO JSON file.
        images: the folder of a JSON file's images; by default ``images/`` beside the file, else its own folder.

    Raises:
        InputError: neither layout, no class names, or no image.
    """
    if path.is_file() and path.suffix.lower() == ".json":
        found = _coco(path, images)
    elif (path / "images").is_dir() and (path / "labels").is_dir():
        found = _yolo(path)
    else:
        raise InputError(f"{path}: no labeled boxes; give a folder with images/ and labels/, or a COCO .json file")
    if not found.images:
        first = f" ({found.problems[0]})" if found.problems else ""
        raise InputError(f"{path}: no image with labels in it{first}; check the folder")
    return found


def _yolo(root: Path) -> BoxedSet:
    classes = _class_names(root)
    images, problems = [], []
    for path in find_images(root / "images"):
        relative = path.relative_to(root / "images").with_suffix("")
        labels = root / "labels" / relative.with_suffix(".txt")
        if not labels.is_file():
            problems.append(f"{path}: no labels ({labels.relative_to(root)}); left out")
            continue
        boxes = []
        for number, line in enumerate(labels.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                if line.strip():
                    boxes.append(_relative_box(line.split(), len(classes)))
            except ValueError as error:
                problems.append(f"{labels}: line {number}: {error}; left out")
        images.append(BoxedImage(str(relative), path, tuple(boxes)))
    return BoxedSet(classes, tuple(images), tuple(problems))


def _relative_box(words: list[str], classes: int) -> RelativeBox:
    if len(words) != 5:
        raise ValueError(f"{len(words)} values instead of five")
    category, (x, y, width, height) = int(words[0]), map(float, words[1:])
    if not 0 <= category < classes:
        raise ValueError(f"class {category} is not one of the {classes} classes")
    inside = min(x - width / 2, y - height / 2) >= -_TOLERANCE and max(x + width / 2, y + height / 2) <= 1 + _TOLERANCE
    if not (width > 0 and height > 0 and inside):
        raise ValueError("the box is empty or reaches beyond the image")
    return RelativeBox(category, x, y, width, height)


def _class_names(root: Path) -> tuple[str, ...]:
    for file in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            names = [names[key] for key in sorted(names)]
        if isinstance(names, list) and names:
            return tuple(map(str, names))
    raise InputError(f"{root}: no class names; add a YAML file with a list `names`")


def _coco(file: Path, folder: Path | None) -> BoxedSet:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        categories = sorted(content["categories"], key=lambda category: category["id"])
        records: list[dict[str, Any]] = content["images"]
        annotations: list[dict[str, Any]] = content["annotations"]
        number_of = {category["id"]: number for number, category in enumerate(categories)}
        classes = tuple(str(category["name"]) for category in categories)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not a COCO file ({type(error).__name__}: {error}); give instances_*.json") from None
    if folder is None:
        folder = file.parent / "images" if (file.parent / "images").is_dir() else file.parent
    boxes: dict[Any, list[Box]] = {record["id"]: [] for record in records}
    problems = []
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        if annotation["image_id"] not in boxes or annotation["category_id"] not in number_of:
            problems.append(f"{file}: annotation {annotation.get('id')}: unknown image or category; left out")
        elif not (width > 0 and height > 0):
            problems.append(f"{file}: annotation {annotation.get('id')}: the box is empty; left out")
        else:
            crowd = bool(annotation.get("iscrowd", 0))
            category = number_of[annotation["category_id"]]
            boxes[annotation["image_id"]].append(Box(category, x, y, width, height, crowd))
    images = []
    for record in records:
        path = folder / record["file_name"]
        if not path.is_file():
            problems.append(f"{path}: named in {file.name}, but missing; left out")
        else:
            images.append(BoxedImage(Path(record["file_name"]).stem, path, tuple(boxes[record["id"]])))
    return BoxedSet(classes, tuple(sorted(images, key=lambda image: natural_key(image.name))), tuple(problems))
