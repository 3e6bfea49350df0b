"""How paired deraining sets lie on disk, and which rainy picture belongs to which clean one.

Nothing is guessed: a pair is made by names alone, by rules that the public sets follow, and every file
that finds no partner, or more than one, is told.

| layout | rainy | clean | sets |
|---|---|---|---|
| two folders | ``input/3.png`` | ``target/3.png`` | plain sets, Rain13K |
| | ``rainy/3.png`` | ``groundtruth/3.png`` | Rain12 |
| | ``rain/X2/norain-001x2.png`` | ``norain/norain-001.png`` | Rain100L/H, old release; Rain200L/H |
| | ``rainy/rain-001.png`` | ``norain-001.png``, beside the folder | Rain100L/H as PReNet gives them |
| | ``rain/norain-3.png`` | ``norain/norain-3.png`` | Cityscapes_syn |
| | ``rain/007.png`` | ``gt/007gt.png`` | SPA-Data, test |
| | ``data/5_rain.png`` | ``gt/5_clean.png`` | RainDrop |
| | ``rainy_image/901_3.jpg`` | ``ground_truth/901.jpg`` | Rain1400 (DDN): several rains a scene |
| | ``…/X_leftImg8bit_rain_alpha_0.01_….png`` | ``…/X_leftImg8bit.png`` | RainCityscapes, likewise |
| one folder | ``rain-001.png`` | ``norain-001.png`` | Rain100L/H, RainTrainL/H |
| | ``007_in.png`` | ``007_GT.png`` | other copies |
| list file | first word of a line | second word | SPA-Data, training and test |
| side by side, ``clean-left`` | right half | left half | Rain800, JDNet's files |
| side by side, ``rainy-left`` | left half | right half | Rain1200 (DID-MDN) |
| ``real`` | the pictures | none | the real ones of DDN-SIRR and MOSS |
| ``dry`` | the pictures | the same | photographs without rain: what a model changes is a fault |
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from derain import images
from derain.errors import InputError

Layout = Literal["auto", "clean-left", "rainy-left", "real", "dry"]

RAINY_FOLDERS = (
    *("input", "inputs", "rain", "rainy", "rainy_image", "rainy_images", "rainysamples", "lq", "degraded"),
    "leftimg8bit_rain",
)
CLEAN_FOLDERS = (
    *("target", "targets", "norain", "groundtruth", "ground_truth", "gt", "clean", "cleansamples", "label", "labels"),
    "leftimg8bit",
)
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
_PREFIX = re.compile(r"^(no)?rain(y)?(?=[-_ ]?\d)[-_ ]?")
_SUFFIX = re.compile(r"(?<=\d)[-_ ]?(rain|rainy|in|input|norain|clean|gt|target|groundtruth)$")
_CLEAN_NAME = re.compile(r"^norain[-_ ]?\d|\d[-_ ]?(norain|clean|gt|target|groundtruth)$")
_RAINY_NAME = re.compile(r"^rain(y)?[-_ ]?\d|\d[-_ ]?(rain|rainy|in|input)$")
_SCALE = re.compile(r"(?<=\d)x2$")
_VERSION = re.compile(r"^(.*\d)_\d+$")
_FOG = re.compile(r"^(.+?)_rain_alpha_.+$")
_BRACKETED = re.compile(r"^\((\d+)\)$")
_NUMBER = re.compile(r"(\d+)(\.\d+)?")


@dataclass(frozen=True)
class Pair:
    """A rainy picture and its clean one.

    Attributes:
        name: unique within its set; names results.
        rainy, clean: the files; one and the same if they are halves of it.
        clean_half: ``left`` or ``right`` if the files hold both halves, else ``None``.

    A picture without ground truth is its own clean one; its folder's ``truth`` is false.
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
            both = read_rgb(self.rainy)
            half = both.shape[1] // 2
            left, right = both[:, :half], both[:, -half:]
            return (right, left) if self.clean_half == "left" else (left, right)
        rainy, clean = read_rgb(self.rainy), read_rgb(self.clean)
        if rainy.shape != clean.shape:
            sizes = " and ".join(f"{p.shape[1]}×{p.shape[0]}" for p in (rainy, clean))
            raise InputError(
                f"{self.rainy}: its size differs from {self.clean}: {sizes}; mend the pair or leave it out"
            )
        return rainy, clean


@dataclass(frozen=True)
class PairedFolder:
    """What a folder holds.

    Attributes:
        root: the folder.
        layout: in words, for reports.
        pairs: sorted by name, numbers by value.
        problems: one line for each file that is in no pair.
        truth: whether there are clean pictures at all.
    """

    root: Path
    layout: str
    pairs: tuple[Pair, ...]
    problems: tuple[str, ...] = field(default=())
    truth: bool = True


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """A picture as ``(H, W, 3)`` uint8 RGB, upright; deeper ones are rounded to 8 bits."""
    return np.array(images.read(path).to_pil().convert("RGB"))


def key_of(path: Path) -> str:
    """What two names of one scene share: case, ``rain-``, ``norain-``, ``_gt``, ``x2``, leading zeros go."""
    stem = _BRACKETED.sub(r"\1", _SCALE.sub("", path.stem.lower()))
    if (bare := _PREFIX.sub("", stem)) == stem:
        bare = _SUFFIX.sub("", stem)
    return _NUMBER.sub(lambda number: f"{int(number[1])}{number[2] or ''}", bare)


def _scene_of(key: str) -> str | None:
    """The scene behind one of its several rains: ``901`` of ``901_3``, a street of its fogs; or ``None``."""
    found = _FOG.match(key) or _VERSION.match(key)
    return found[1] if found else None


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key that orders numbers by value."""
    parts = re.split(r"(\d+)", text)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part]


def match(rainy: Iterable[Path], clean: Iterable[Path]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pair files by name.

    A rainy file takes the clean file of its key; failing that, of its key without a trailing ``_3``
    (the third rain on that scene) or ``_rain_alpha_…`` (a fog of RainCityscapes).

    Returns:
        The pairs, and one line for each file that is in none. Clean files without a rainy one are not
        told where RainCityscapes was recognized: it takes a part of Cityscapes.
    """
    by_key: dict[str, list[Path]] = defaultdict(list)
    for path in clean:
        by_key[key_of(path)].append(path)
    pairs: list[tuple[Path, Path]] = []
    problems: list[str] = []
    used: set[Path] = set()
    seen: dict[str, Path] = {}
    for path in rainy:
        key = key_of(path)
        if key in seen:
            problems.append(f"{path}: has the same name as {seen[key]} but for spelling; left out")
            continue
        seen[key] = path
        scene = _scene_of(key)
        partners = by_key.get(key) or (by_key.get(scene) if scene else None) or []
        if len(partners) == 1:
            pairs.append((path, partners[0]))
            used.add(partners[0])
        elif partners:
            used.update(partners)
            problems.append(f"{path}: {len(partners)} clean files fit it ({', '.join(p.name for p in partners)})")
        else:
            problems.append(f"{path}: no clean file fits it")
    if not any(_FOG.match(key) for key in seen):
        problems += [f"{p}: no rainy file fits it" for paths in by_key.values() for p in paths if p not in used]
    return pairs, problems


def find_pairs(root: str | Path, layout: Layout = "auto", clean: str | Path | None = None) -> PairedFolder:
    """Recognize a folder of pairs.

    Args:
        root: the folder, or a list file with ``rainy clean`` on each line; with ``clean`` given, the
            folder of the rainy pictures.
        layout: ``auto`` for two folders, names such as ``rain-``/``norain-``, or a list file;
            ``clean-left`` or ``rainy-left`` for pictures that hold both halves, which no name tells
            apart; ``real`` for rainy pictures without clean ones; ``dry`` for pictures without rain, each
            of which is its own clean one.
        clean: a second folder, with the clean pictures.

    Raises:
        InputError: not a folder, or no pair in it.
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
    files = [p for p in pictures_in(root) if p.parent == root or not (rainy_folders or clean_folders)]
    marked = [p for p in files if _CLEAN_NAME.search(p.stem.lower())]
    if rainy_folders and marked:
        name = f"rainy pictures in {rainy_folders[0].name}, clean ones beside it"
        return _paired(root, name, rainy_folders[0], pictures_in(rainy_folders[0]), marked)
    rainy = [p for p in files if _RAINY_NAME.search(p.stem.lower()) and p not in marked]
    if marked and rainy:
        return _paired(root, "one folder, names tell rainy and clean", root, rainy, marked)
    lists = [p for p in sorted(root.glob("*.txt")) if _is_list(p)]
    if len(lists) == 1:
        return _listed(lists[0])
    raise InputError(
        f"{root}: no pairs recognized{_deeper(root)}; it needs folders such as input/ and target/, names such as "
        "rain-1.png and norain-1.png, a list file, or a layout (clean-left, rainy-left, real, dry)"
    )


def _single_files(root: Path, layout: Layout) -> PairedFolder:
    files = pictures_in(root)
    if not files:
        raise InputError(f"{root}: no pictures in it; give the folder of a paired set")
    halves: dict[str, Literal["left", "right"]] = {"clean-left": "left", "rainy-left": "right"}
    half = halves.get(layout)
    pairs = tuple(Pair(str(p.relative_to(root).with_suffix("")), p, p, half) for p in files)
    alone = {"real": "pictures without ground truth", "dry": "pictures without rain"}
    return PairedFolder(root, alone.get(layout, f"side by side, {layout}"), pairs, truth=layout != "real")


def _is_list(path: Path) -> bool:
    """Whether a text file starts with two names of pictures."""
    with path.open(encoding="utf-8", errors="replace") as file:
        words = file.readline(4096).split()
    return len(words) == 2 and all(Path(word).suffix.lower() in _SUFFIXES for word in words)


def _listed(path: Path) -> PairedFolder:
    """The pairs of a list file; its names start at the folder it lies in, with or without ``/`` in front."""
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
            problems.append(f"{missing[0]}: named in line {number} of {path.name}, but not there")
        elif name in pairs:
            problems.append(f"{rainy}: named again in line {number} of {path.name}; left out")
        else:
            pairs[name] = Pair(name, rainy, clean)
    if not pairs:
        raise InputError(f"{path}: no pair of existing pictures in it; each line must name a rainy and a clean file")
    ordered = sorted(pairs.values(), key=lambda p: natural(p.name))
    return PairedFolder(root, f"list file {path.name}", tuple(ordered), tuple(problems))


def _deeper(root: Path) -> str:
    """Where below the folder pairs seem to be, for an error message."""
    known = {*RAINY_FOLDERS, "data"}
    found = {p.parent for p in [*root.glob("*/*"), *root.glob("*/*/*")] if p.name.lower() in known and p.is_dir()}
    names = sorted(str(p.relative_to(root)) for p in found if any(q.name.lower() in CLEAN_FOLDERS for q in p.iterdir()))
    return f" (but in {', '.join(names[:4])}{' …' if len(names) > 4 else ''}: give one of these)" if names else ""


def _two_folders(root: Path, rainy: Path, clean: Path) -> PairedFolder:
    return _paired(root, f"two folders, {rainy.name} and {clean.name}", rainy, pictures_in(rainy), pictures_in(clean))


def _paired(root: Path, layout: str, base: Path, rainy: list[Path], clean: list[Path]) -> PairedFolder:
    matched, problems = match(rainy, clean)
    if not matched:
        raise InputError(f"{root}: {len(rainy)} rainy and {len(clean)} clean files, but no names that fit each other")
    pairs = [Pair(str(r.relative_to(base).with_suffix("")), r, c) for r, c in matched]
    return PairedFolder(root, layout, tuple(sorted(pairs, key=lambda p: natural(p.name))), tuple(problems))


def pictures_in(folder: Path) -> list[Path]:
    """All picture files below a folder, hidden ones left out, numbers ordered by value."""
    found = [p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
    return sorted(found, key=lambda p: natural(str(p)))
