"""Folder layouts of paired deraining sets: which rainy image belongs to which clean one.

Nothing is guessed: files are paired by name alone (:mod:`derain.data.matching`), and every file without
exactly one partner is reported.

| layout | rainy | clean | sets |
|---|---|---|---|
| two folders | ``input/3.png`` | ``target/3.png`` | plain sets, Rain13K |
| | ``rainy/3.png`` | ``groundtruth/3.png`` | Rain12 |
| | ``rain/X2/norain-001x2.png`` | ``norain/norain-001.png`` | Rain100L/H, old release; Rain200L/H |
| | ``rainy/rain-001.png`` | ``norain-001.png``, beside the folder | Rain100L/H as PReNet gives them |
| | ``rain/norain-3.png`` | ``norain/norain-3.png`` | Cityscapes_syn |
| | ``rain/007.png`` | ``gt/007gt.png`` | SPA-Data, test |
| | ``data/5_rain.png`` | ``gt/5_clean.png`` | RainDrop |
| | ``rainy_image/901_3.jpg`` | ``ground_truth/901.jpg`` | Rain1400 (DDN): several rains per scene |
| | ``…/X_leftImg8bit_rain_alpha_0.01_….png`` | ``…/X_leftImg8bit.png`` | RainCityscapes, likewise |
| one folder | ``rain-001.png`` | ``norain-001.png`` | Rain100L/H, RainTrainL/H |
| | ``007_in.png`` | ``007_GT.png`` | other copies |
| list file | first word of a line | second word | SPA-Data, training and test |
| side by side, ``clean-left`` | right half | left half | Rain800, JDNet's files |
| side by side, ``clean-right`` (or ``rainy-left``) | left half | right half | Rain1200 (DID-MDN) |
| ``real`` | the images | none | the real ones of DDN-SIRR and MOSS |
| ``rain-free`` | the images | the same | photographs without rain: any change by a model is an error |
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from derain import images
from derain.data.matching import is_named_clean, is_named_rainy, match, natural_key
from derain.errors import InputError

Layout = Literal["auto", "clean-left", "clean-right", "rainy-left", "real", "rain-free"]
#: The clean half of the layouts whose images hold both halves.
HALVES: dict[str, Literal["left", "right"]] = {"clean-left": "left", "clean-right": "right", "rainy-left": "right"}

RAINY_FOLDERS = (
    *("input", "inputs", "rain", "rainy", "rainy_image", "rainy_images", "rainysamples", "lq", "degraded"),
    "leftimg8bit_rain",
)
CLEAN_FOLDERS = (
    *("target", "targets", "norain", "groundtruth", "ground_truth", "gt", "clean", "cleansamples", "label", "labels"),
    "leftimg8bit",
)
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
_SPLIT = re.compile(r"(?:^|[^a-z])(train|test|val)(?:ing|idation|id|set)?(?![a-z])")
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Pair:
    """A rainy image and its clean one.

    Attributes:
        name: unique within its set; names results.
        rainy, clean: the files; the same file if it holds both halves.
        clean_half: the clean half, ``left`` or ``right``, of a file that holds both; else ``None``.

    An image without ground truth is its own clean one; ``truth`` of its folder is false.
    """

    name: str
    rainy: Path
    clean: Path
    clean_half: Literal["left", "right"] | None = None

    def read(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Rainy and clean, ``(H, W, 3)`` uint8 RGB.

        Raises:
            InputError: an unreadable file, or sizes that differ.
        """
        if self.clean_half is not None:
            combined = read_rgb(self.rainy)
            half = combined.shape[1] // 2
            left, right = combined[:, :half], combined[:, -half:]
            return (right, left) if self.clean_half == "left" else (left, right)
        rainy, clean = read_rgb(self.rainy), read_rgb(self.clean)
        if rainy.shape != clean.shape:
            sizes = " and ".join(f"{p.shape[1]}×{p.shape[0]}" for p in (rainy, clean))
            raise InputError(f"{self.rainy}: its size differs from {self.clean}: {sizes}; fix the pair or leave it out")
        return rainy, clean

    def size(self) -> tuple[int, int] | None:
        """Height and width of the rainy image, from its file's header; ``None`` if that cannot be read."""
        try:
            with Image.open(self.rainy) as image:
                width, height = image.size
                # Pillow decodes a PNG to search for metadata behind its pixels.
                exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
                if exif.get(_EXIF_ORIENTATION, 1) >= 5:  # a quarter turn
                    width, height = height, width
        except Exception:  # Pillow raises errors of many kinds; reading the image reports it in one line
            return None
        return height, width // 2 if self.clean_half is not None else width


@dataclass(frozen=True)
class PairedFolder:
    """The pairs of a folder.

    Attributes:
        root: the folder.
        layout: description for reports.
        pairs: sorted by name, numbers by value.
        problems: one line for each file that is in no pair.
        truth: whether there are clean images at all.
    """

    root: Path
    layout: str
    pairs: tuple[Pair, ...]
    problems: tuple[str, ...] = field(default=())
    truth: bool = True


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """An image as upright ``(H, W, 3)`` uint8 RGB; 16-bit images are rounded to 8 bits."""
    return np.array(images.read(path).to_pil().convert("RGB"))


def find_pairs(root: str | Path, layout: Layout = "auto", clean: str | Path | None = None) -> PairedFolder:
    """Find the pairs of a folder.

    Args:
        root: the folder, or a list file with ``rainy clean`` on each line; if ``clean`` is set, the
            folder of the rainy images.
        layout: ``auto`` for two folders, names such as ``rain-``/``norain-``, or a list file;
            ``clean-left`` or ``clean-right`` (also ``rainy-left``) for images that hold both halves, whose
            names do not say which is which; ``real`` for rainy images without clean ones; ``rain-free`` for
            images without rain, each of which is its own clean one.
        clean: a second folder, with the clean images.

    Raises:
        InputError: not a folder, no pair in it, or several splits that must not be mixed.
    """
    root = Path(root)
    if root.is_file() and clean is None and layout == "auto":
        return _listed(root)
    for folder in [root] + ([Path(clean)] if clean is not None else []):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the folder of a paired set")
    if clean is not None:
        return _two_folders(root, root, Path(clean))
    if layout != "auto":
        return _single_files(root, layout)
    below = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()}
    rainy_folders = [below[name] for name in RAINY_FOLDERS if name in below]
    clean_folders = [below[name] for name in CLEAN_FOLDERS if name in below]
    if not rainy_folders and "data" in below:
        rainy_folders = [below["data"]]
    if len(rainy_folders) > 1 or len(clean_folders) > 1:
        names = ", ".join(p.name for p in rainy_folders + clean_folders)
        raise InputError(f"{root}: several folders could hold the pairs ({names}); name the two you mean")
    if rainy_folders and clean_folders:
        return _two_folders(root, rainy_folders[0], clean_folders[0])
    files = [p for p in find_images(root) if p.parent == root or not (rainy_folders or clean_folders)]
    clean_files = [p for p in files if is_named_clean(p)]
    if rainy_folders and clean_files:
        name = f"rainy images in {rainy_folders[0].name}, clean ones beside it"
        return _paired(root, name, rainy_folders[0], find_images(rainy_folders[0]), clean_files)
    rainy_files = [p for p in files if is_named_rainy(p) and p not in clean_files]
    if clean_files and rainy_files:
        check_one_split(root, rainy_files)
        return _paired(root, "one folder, rainy and clean by name", root, rainy_files, clean_files)
    lists = [p for p in sorted(root.glob("*.txt")) if _is_list(p)]
    if len(lists) == 1:
        return _listed(lists[0])
    raise InputError(
        f"{root}: no pairs recognized{_hint_subfolders(root)}; it needs folders such as input/ and target/, names "
        "such as rain-1.png and norain-1.png, a list file, or a layout (clean-left, clean-right, real, rain-free)"
    )


def _single_files(root: Path, layout: Layout) -> PairedFolder:
    files = find_images(root)
    if not files:
        raise InputError(f"{root}: no images in it; give the folder of a paired set")
    if (half := HALVES.get(layout)) is not None:
        check_one_split(root, files)
    pairs = tuple(Pair(str(p.relative_to(root).with_suffix("")), p, p, half) for p in files)
    unpaired = {"real": "images without ground truth", "rain-free": "images without rain"}
    return PairedFolder(root, unpaired.get(layout, f"side by side, {layout}"), pairs, truth=layout != "real")


def _is_list(path: Path) -> bool:
    """Whether a text file starts with the names of two images."""
    with path.open(encoding="utf-8", errors="replace") as file:
        words = file.readline(4096).split()
    return len(words) == 2 and all(Path(word).suffix.lower() in _SUFFIXES for word in words)


def _listed(path: Path) -> PairedFolder:
    """The pairs of a list file, whose names are relative to its folder, with or without a leading ``/``."""
    root = path.parent
    pairs: dict[str, Pair] = {}
    problems: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            problems.append(f"{path}: line {number} holds {len(words)} names instead of two")
            continue
        rainy, clean = (root / word.lstrip("./") for word in words)
        missing = [p for p in (rainy, clean) if not p.is_file()]
        name = str(rainy.relative_to(root).with_suffix(""))
        if missing:
            problems.append(f"{missing[0]}: named in line {number} of {path.name}, but missing")
        elif name in pairs:
            problems.append(f"{rainy}: named again in line {number} of {path.name}; left out")
        else:
            pairs[name] = Pair(name, rainy, clean)
    if not pairs:
        raise InputError(f"{path}: no pair of existing images in it; each line must name a rainy and a clean file")
    ordered = sorted(pairs.values(), key=lambda p: natural_key(p.name))
    return PairedFolder(root, f"list file {path.name}", tuple(ordered), tuple(problems))


def check_one_split(root: Path, files: Iterable[Path]) -> None:
    """Check that files below a folder belong to one split.

    Raises:
        InputError: they are in several of train, test and val; the message names the folders to give.
    """
    splits: dict[str, set[Path]] = {}
    for parent in {path.parent for path in files}:
        parts = parent.relative_to(root).parts
        for depth, part in enumerate(parts, 1):
            if (kind := split_of(part)) is not None:
                splits.setdefault(kind, set()).add(root.joinpath(*parts[:depth]))
                break
    if len(splits) > 1:
        folders = pair_folders_below(root) or [f for kind in ("train", "val", "test") for f in splits.get(kind, ())]
        raise InputError(f"{root}: holds several splits ({', '.join(sorted(splits))}); give one of {_listing(folders)}")


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for: ``train``, ``test``, ``val``, or ``None``."""
    found = _SPLIT.search(name.lower())
    return found[1] if found else None


def pair_folders_below(root: Path) -> list[Path]:
    """Subfolders, up to two levels down, with a rainy and a clean folder in them; those for training first."""
    known = {*RAINY_FOLDERS, "data"}
    found = {p.parent for p in [*root.glob("*/*"), *root.glob("*/*/*")] if p.name.lower() in known and p.is_dir()}
    paired = [p for p in found if any(q.name.lower() in CLEAN_FOLDERS for q in p.iterdir())]
    return sorted(paired, key=lambda p: (not any(split_of(part) == "train" for part in p.parts), str(p)))


def _listing(folders: list[Path]) -> str:
    return ", ".join(map(str, folders[:6])) + (" …" if len(folders) > 6 else "")


def _hint_subfolders(root: Path) -> str:
    """Subfolders that seem to hold pairs, for an error message."""
    found = [p.relative_to(root) for p in pair_folders_below(root)]
    return f" (but in {_listing(found)}: give one of these)" if found else ""


def _two_folders(root: Path, rainy: Path, clean: Path) -> PairedFolder:
    return _paired(root, f"two folders, {rainy.name} and {clean.name}", rainy, find_images(rainy), find_images(clean))


def _paired(root: Path, layout: str, base: Path, rainy: list[Path], clean: list[Path]) -> PairedFolder:
    matched, problems = match(rainy, clean)
    if not matched:
        raise InputError(f"{root}: {len(rainy)} rainy and {len(clean)} clean files, but no names that match")
    pairs = [Pair(str(r.relative_to(base).with_suffix("")), r, c) for r, c in matched]
    return PairedFolder(root, layout, tuple(sorted(pairs, key=lambda p: natural_key(p.name))), tuple(problems))


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder except hidden ones, with numbers ordered by value."""
    found = [p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
    return sorted(found, key=lambda p: natural_key(str(p)))
