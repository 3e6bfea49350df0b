"""What a folder or list file offers for training: pairs, or clean photographs.

Pairs are recognized by the names that :func:`derain.data.find_pairs` knows. A folder without such names holds clean
photographs only if nothing suggests otherwise: rain rendered onto rainy images, or onto images that hold both
halves of a pair, would train a network on nonsense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from derain.data.catalog import find_info
from derain.data.check import fingerprint, same_scene
from derain.data.layouts import (
    CLEAN_FOLDERS,
    HALVES,
    RAINY_FOLDERS,
    Layout,
    PairedFolder,
    check_one_split,
    find_images,
    find_pairs,
    pair_folders_below,
    read_rgb,
    split_of,
)
from derain.data.locate import locate
from derain.data.matching import is_named_clean, is_named_rainy, key_of
from derain.errors import InputError

_T = TypeVar("_T")
_SAMPLES = 8  # images that are looked at
#: At least this share of the sampled images must show one scene in both halves. Of 405 photographs 5 do; of
#: Rain100L's and Rain100H's pairs side by side, all (docs/guide/data.md).
_MOST = 0.5
_MAX_FOLDERS = 6  # subfolders that are compared with each other


@dataclass(frozen=True)
class TrainingSet:
    """What a folder or list file holds.

    Attributes:
        path: the folder or file; of a set given by name, where it was found.
        layout: as for :func:`derain.data.find_pairs`.
        pairs: ``None`` for clean photographs.
        images: number of image files, or of pairs.
    """

    path: Path
    layout: Layout
    pairs: PairedFolder | None
    images: int

    def describe(self) -> str:
        """One line for the user."""
        if self.pairs is None:
            return f"{self.path}: {self.images} clean photographs"
        left_out = len(self.pairs.problems)
        hint = f"; {left_out} files in no pair, see `derain data check`" if left_out else ""
        return f"{self.path}: {self.images} pairs ({self.pairs.layout}){hint}"


def recognize(path: Path, layout: Layout = "auto") -> TrainingSet:
    """What a folder, a list file or a set by name holds.

    Args:
        path: as for :func:`derain.data.locate.locate`. Of a set by name, the part ``train`` is used if there is
            one, and the layout of the catalog where names pair nothing.
        layout: that of folders whose names pair nothing.

    Raises:
        InputError: nothing there, several splits, or images that are neither pairs nor clean photographs; the
            message says what to give instead.
    """
    folder = locate(path)
    if folder == path:
        return _recognize(folder, layout)
    info = find_info(str(path))
    if info is not None and info.option == "real":
        raise InputError(f"{folder}: {info.name} has no clean images; it cannot be trained on")
    parts = [p for p in sorted(folder.iterdir()) if p.is_dir() and split_of(p.name) == "train"]
    part = parts[0] if len(parts) == 1 else folder
    if layout == "auto" and info is not None and info.option in HALVES:
        layout = info.option
    return _recognize(part, layout)


def open_pairs(path: Path, layout: Layout = "auto") -> PairedFolder:
    """The pairs of :func:`recognize`.

    Raises:
        InputError: as there, or no pairs.
    """
    found = recognize(path, layout)
    return found.pairs or find_pairs(found.path)  # which says what it needs


def _recognize(path: Path, layout: Layout) -> TrainingSet:
    if path.is_file():
        pairs = find_pairs(path)
        return TrainingSet(path, "auto", pairs, len(pairs.pairs))
    try:
        pairs = find_pairs(path)
    except InputError as error:
        if layout in HALVES:
            pairs = _open_halves(path, layout)
            return TrainingSet(path, layout, pairs, len(pairs.pairs))
        files = find_images(path)
        _check_photographs(path, files, error)
        return TrainingSet(path, "auto", None, len(files))
    _check_split_of_pairs(path, [pair.rainy for pair in pairs.pairs])
    return TrainingSet(path, "auto", pairs, len(pairs.pairs))


def _open_halves(folder: Path, layout: Layout) -> PairedFolder:
    pairs = find_pairs(folder, layout)
    if not _hold_both_halves([pair.rainy for pair in pairs.pairs]):
        raise InputError(
            f"{folder}: the halves of its images show different scenes, so data.layout={layout} does not fit; "
            f"give clean photographs as data.clean=[{folder}]"
        )
    return pairs


def _check_split_of_pairs(root: Path, rainy: list[Path]) -> None:
    """Two folders, rainy and clean, may each contain all splits."""
    try:
        check_one_split(root, [path for path in rainy if root in path.parents])
    except InputError as error:
        text = str(error).partition("; ")[0]
        raise InputError(
            f"{text}; make pairs of one: derain data import RAINY/train --clean CLEAN/train -o PAIRS"
        ) from None


def _check_photographs(folder: Path, files: list[Path], no_pairs: InputError) -> None:
    """Check that a folder without recognized pairs holds clean photographs.

    Raises:
        InputError: it does not, or it is not certain.
    """
    if not files:
        raise InputError(f"{folder}: neither photographs nor pairs in it; see `derain data check`")
    names = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir()}
    rainy = [path for name, path in names.items() if name in RAINY_FOLDERS]
    clean = [path for name, path in names.items() if name in CLEAN_FOLDERS]
    if rainy and clean:
        _check_split_of_pairs(folder, find_images(rainy[0]))
        raise no_pairs
    check_one_split(folder, files)
    if pair_folders_below(folder):
        raise no_pairs
    if rainy:
        raise InputError(f"{rainy[0]}: by its name, rainy images, but no clean ones beside it; add them, or rename it")
    if clean:
        subfolders = ", ".join(map(str, list(names.values())[:_MAX_FOLDERS]))
        raise InputError(
            f"{folder}: no rainy images beside {clean[0].name}; for clean photographs give one of {subfolders}"
        )
    if partner := _clean_partner(folder):
        raise InputError(
            f"{folder}: by its name, the rainy images of pairs, with clean ones in {partner}; give {partner.parent}"
        )
    if 2 * sum(is_named_rainy(p) and not is_named_clean(p) for p in files) > len(files):
        raise InputError(f"{folder}: rainy images by their names, without clean ones; add those, or rename the files")
    if _hold_both_halves(files):
        raise InputError(
            f"{folder}: both halves of its images show the same scene; add data.layout=clean-left (JDNet, Rain800) or "
            f"data.layout=clean-right, or give clean photographs as data.clean=[{folder}]"
        )
    if twins := _twin_folders(folder, files):
        first, second = twins
        raise InputError(
            f"{folder}: {first.name} and {second.name} show the same scenes; make pairs of them with: derain data "
            f"import RAINY --clean CLEAN -o PAIRS, or give the one with clean photographs"
        )


def _clean_partner(folder: Path) -> Path | None:
    """The folder with the clean images of a folder of rainy ones, such as ``norain`` of ``rain`` or ``rain/X2``."""
    absolute = folder.absolute()
    for path in (absolute, absolute.parent):
        if path.name.lower() in RAINY_FOLDERS:
            for beside in sorted(path.parent.iterdir()):
                if beside.is_dir() and beside.name.lower() in CLEAN_FOLDERS:
                    return beside
    return None


def _hold_both_halves(files: Sequence[Path]) -> bool:
    """Whether left and right halves show one scene, by a sample of the images."""
    verdicts = []
    for path in _sample(files):
        try:
            image = read_rgb(path)
        except InputError:
            continue
        half = image.shape[1] // 2
        verdicts.append(image.shape[1] % 2 == 0 and _same(image[:, :half], image[:, half:]))
    return _mostly(verdicts)


def _twin_folders(root: Path, files: list[Path]) -> tuple[Path, Path] | None:
    """Two subfolders whose files of equal names show one scene in one size."""
    children: dict[str, dict[str, Path]] = {}
    for path in files:
        first, *rest = path.relative_to(root).parts
        if rest:
            children.setdefault(first, {})["/".join([*rest[:-1], key_of(path)])] = path
    if len(children) > _MAX_FOLDERS:
        return None
    for one, other in combinations(children, 2):
        common = sorted(children[one].keys() & children[other].keys())
        if 2 * len(common) < min(len(children[one]), len(children[other])):
            continue
        verdicts = []
        for key in _sample(common):
            try:
                images = [read_rgb(children[name][key]) for name in (one, other)]
            except InputError:
                continue
            verdicts.append(images[0].shape == images[1].shape and _same(*images))
        if _mostly(verdicts):
            return root / one, root / other
    return None


def _same(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> bool:
    prints = [fingerprint(np.ascontiguousarray(image))[None] for image in (first, second)]
    return bool(same_scene(*prints)[0, 0])


def _sample(items: Sequence[_T]) -> list[_T]:
    """At most so many items, evenly spaced."""
    count = min(_SAMPLES, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _mostly(verdicts: Sequence[bool]) -> bool:
    return bool(verdicts) and Counter(verdicts)[True] >= _MOST * len(verdicts)
