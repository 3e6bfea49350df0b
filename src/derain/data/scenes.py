"""Labeled images under rain that already exists: what a segmenter is measured on.

| layout | clean | rainy | labels |
|---|---|---|---|
| CamVid's | ``images/X.png`` | none: rain is added | ``labels/X.png`` |
| with ready-made rain | ``images/`` or ``norain/`` …, or none | ``rain/``, ``rainy/``, ``input/`` … | ``labels/`` |
| SGINet's Cityscapes | ``norain/norain-1.png`` | ``rain/norain-1.png`` | a folder of its own |
| Cityscapes | ``leftImg8bit/val/…/X_leftImg8bit.png`` | RainCityscapes: ``X_leftImg8bit_rain_….png`` | \
``gtFine/val/…/X_gtFine_labelTrainIds.png`` or ``…_labelIds.png`` |

Files belong together by name alone, as in :mod:`derain.data.matching`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from derain.data.labels import VOID, Labels, read_labels
from derain.data.layouts import CLEAN_FOLDERS, RAINY_FOLDERS, find_images, read_rgb
from derain.data.matching import key_of
from derain.errors import InputError

# Cityscapes' label numbers of the 19 classes that are trained on, in the order of their training numbers.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CITYSCAPES_NAME = re.compile(r"^(.+?)_(leftimg8bit|gtfine|gtcoarse)(_.*)?$", re.IGNORECASE)
_NO_LABELS = ("_color", "_instanceids", "_instancetrainids")
_LABEL_FOLDERS = ("labels", "label", "gtfine")
_CLEAN_FOLDERS = ("images", *(name for name in CLEAN_FOLDERS if name not in _LABEL_FOLDERS))

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabeledScene:
    """The files of a labeled scene.

    Attributes:
        name: unique within its set.
        labels: class numbers; Cityscapes' ``_labelIds`` are converted to training numbers.
        clean: the image without rain, or ``None``.
        rainy: the image with rain, or ``None`` if rain is to be added to the clean one. One of both is there.
    """

    name: str
    labels: Path
    clean: Path | None
    rainy: Path | None = None

    def read(self, classes: int) -> tuple[Image | None, Image | None, Labels]:
        """Clean and rainy image, ``(H, W, 3)`` RGB, and ``(H, W)`` class numbers, ``VOID`` where there is none.

        Raises:
            InputError: unreadable, or of different sizes.
        """
        labels = read_labels(self.labels)
        if self.labels.stem.lower().endswith("_labelids"):
            labels = _TRAINING_NUMBERS[labels]
        images = [None if path is None else read_rgb(path) for path in (self.clean, self.rainy)]
        for path, image in zip((self.clean, self.rainy), images, strict=True):
            if image is not None and image.shape[:2] != labels.shape:
                (h, w), (lh, lw) = image.shape[:2], labels.shape
                raise InputError(f"{self.labels}: {lw}×{lh}, but {path} is {w}×{h}; make them the same size")
        return images[0], images[1], np.where(labels < classes, labels, np.uint8(VOID))


def _training_numbers() -> Labels:
    numbers = np.full(256, VOID, np.uint8)
    numbers[list(_CITYSCAPES_IDS)] = np.arange(len(_CITYSCAPES_IDS))
    return numbers


_TRAINING_NUMBERS = _training_numbers()


def find_scenes(
    split: str | Path, *, labels: str | Path | None = None, rainy: str | Path | None = None
) -> list[LabeledScene]:
    """The labeled scenes of a folder, by name.

    Args:
        split: a folder of one of the layouts above; with ``labels``, it may be the folder of the clean images, or
            the same as ``rainy`` if there are none.
        labels: the folder of the label images; default: the one in ``split``.
        rainy: the folder of the rainy images; default: the one in ``split``, if any.

    Returns:
        One scene for each rainy image, or where there are none, for each clean one.

    Raises:
        InputError: no such layout, nothing in it, an image without labels, or files of one name.
    """
    root = Path(split)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder of labeled images")
    below = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()}
    label_folder = Path(labels) if labels is not None else _first(below, _LABEL_FOLDERS)
    rainy_folder = Path(rainy) if rainy is not None else _first(below, RAINY_FOLDERS)
    clean_folder = _first(below, _CLEAN_FOLDERS)
    alone = rainy is not None and Path(rainy).resolve() == root.resolve()
    if clean_folder is None and labels is not None and (rainy is not None or rainy_folder is None) and not alone:
        clean_folder = root
    if label_folder is None or (clean_folder is None and rainy_folder is None):
        raise InputError(
            f"{root}: no images/ and labels/ in it; lay out labeled images like CamVid's splits, or name the folders"
        )
    for folder in (label_folder, rainy_folder):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder}: no such folder; check the name")
    shown = rainy_folder or clean_folder
    assert shown is not None
    files = find_images(shown)
    if not files:
        raise InputError(f"{shown}: no images here; put the split's images there")
    partners = {"labels": _labels_by_key(label_folder)}
    if clean_folder is not None and rainy_folder is not None:
        partners["a clean image"] = _by_key(find_images(clean_folder))
    for what, known in partners.items():
        if missing := [path for path in files if scene_key(path) not in known]:
            where = label_folder if what == "labels" else clean_folder
            raise InputError(f"{missing[0]}: {what} missing in {where}, for {len(missing)} of {len(files)} images")
    scenes = []
    for path in files:
        key, name = scene_key(path), str(path.relative_to(shown).with_suffix(""))
        clean = partners["a clean image"][key] if "a clean image" in partners else None
        pair = (path, None) if rainy_folder is None else (clean, path)
        scenes.append(LabeledScene(name, partners["labels"][key], *pair))
    return scenes


def scene_key(path: Path) -> str:
    """What names of the same scene have in common; of Cityscapes' also without what follows the frame's number."""
    found = _CITYSCAPES_NAME.match(path.stem)
    return key_of(Path(f"{found[1]}.png")) if found else key_of(path)


def _first(folders: dict[str, Path], names: tuple[str, ...]) -> Path | None:
    return next((folders[name] for name in names if name in folders), None)


def _labels_by_key(folder: Path) -> dict[str, Path]:
    """The label images of a folder. Of Cityscapes' files for a scene: the training numbers, else the label numbers."""
    files = [p for p in find_images(folder) if not p.stem.lower().endswith(_NO_LABELS)]
    trained = {scene_key(p) for p in files if p.stem.lower().endswith("_labeltrainids")}
    return _by_key([p for p in files if not (p.stem.lower().endswith("_labelids") and scene_key(p) in trained)])


def _by_key(files: list[Path]) -> dict[str, Path]:
    grouped: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        grouped[scene_key(path)].append(path)
    for first, *others in grouped.values():
        if others:
            raise InputError(f"{first}: has the same name as {others[0]} except for spelling; keep one")
    return {key: paths[0] for key, paths in grouped.items()}
