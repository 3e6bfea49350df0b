"""How paired deraining sets lie on disk, and which rainy picture belongs to which clean one.

Nothing is guessed: a pair is made by names alone, by rules that the public sets follow, and every file
that finds no partner, or more than one, is told.

| layout | rainy | clean | sets |
|---|---|---|---|
| two folders | ``input/3.png`` | ``target/3.png`` | plain sets, Rain13K's test sets |
| | ``rainy/3.png`` | ``groundtruth/3.png`` | Rain12 |
| | ``rain/X2/norain-001x2.png`` | ``norain/norain-001.png`` | Rain100L and Rain100H, old release |
| | ``rainy_image/901_3.jpg`` | ``ground_truth/901.jpg`` | Rain1400 (DDN): several rains a scene |
| one folder | ``rain-001.png`` | ``norain-001.png`` | Rain100L/H, RainTrainL/H |
| side by side | one half | the other half | Rain800, DID-MDN, JDNet: the caller says which half is clean |
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

Layout = Literal["auto", "clean-left", "rainy-left"]

RAINY_FOLDERS = ("input", "inputs", "rain", "rainy", "rainy_image", "rainy_images", "lq", "degraded")
CLEAN_FOLDERS = ("target", "targets", "norain", "groundtruth", "ground_truth", "gt", "clean")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
_PREFIX = re.compile(r"^(no)?rain(y)?(?=[-_ ]?\d)[-_ ]?")
_SCALE = re.compile(r"(?<=\d)x2$")
_VERSION = re.compile(r"^(.*\d)_\d+$")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Pair:
    """A rainy picture and its clean one.

    Attributes:
        name: unique within its set; names results.
        rainy, clean: the files; one and the same if they are halves of it.
        clean_half: ``left`` or ``right`` if the files hold both halves, else ``None``.
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
    """

    root: Path
    layout: str
    pairs: tuple[Pair, ...]
    problems: tuple[str, ...] = field(default=())


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """A picture as ``(H, W, 3)`` uint8 RGB, upright; deeper ones are rounded to 8 bits."""
    return np.array(images.read(path).to_pil().convert("RGB"))


def key_of(path: Path) -> str:
    """What two names of one scene share: case, ``rain-``/``norain-``, ``x2`` and leading zeros go."""
    stem = _SCALE.sub("", path.stem.lower())
    stem = _PREFIX.sub("", stem)
    return _NUMBER.sub(lambda number: str(int(number[0])), stem)


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key that orders numbers by value."""
    parts = re.split(r"(\d+)", text)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part]


def match(rainy: Iterable[Path], clean: Iterable[Path]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pair files by name.

    A rainy file takes the clean file of its key; failing that, of its key without a trailing ``_3``
    (the third rain on that scene).

    Returns:
        The pairs, and one line for each file that is in none.
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
        version = _VERSION.match(key)
        partners = by_key.get(key) or (by_key.get(version[1]) if version else None) or []
        if len(partners) == 1:
            pairs.append((path, partners[0]))
            used.add(partners[0])
        elif partners:
            used.update(partners)
            problems.append(f"{path}: {len(partners)} clean files fit it ({', '.join(p.name for p in partners)})")
        else:
            problems.append(f"{path}: no clean file fits it")
    problems += [f"{p}: no rainy file fits it" for paths in by_key.values() for p in paths if p not in used]
    return pairs, problems


def find_pairs(root: str | Path, layout: Layout = "auto", clean: str | Path | None = None) -> PairedFolder:
    """Recognise a folder of pairs.

    Args:
        root: the folder; with ``clean`` given, the one of the rainy pictures.
        layout: ``auto`` for two folders or ``rain-``/``norain-`` names; ``clean-left`` or
            ``rainy-left`` for pictures that hold both halves, which no name tells apart.
        clean: a second folder, with the clean pictures.

    Raises:
        InputError: not a folder, or no pair in it.
    """
    root = Path(root)
    for folder in [root] + ([Path(clean)] if clean is not None else []):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the folder of a paired set")
    if clean is not None:
        return _two_folders(root, root, Path(clean))
    if layout != "auto":
        files = pictures_in(root)
        half: Literal["left", "right"] = "left" if layout == "clean-left" else "right"
        if not files:
            raise InputError(f"{root}: no pictures in it; give the folder of a paired set")
        pairs = tuple(Pair(str(p.relative_to(root).with_suffix("")), p, p, half) for p in files)
        return PairedFolder(root, f"side by side, {layout}", pairs)
    below = {p.name.lower(): p for p in root.iterdir() if p.is_dir()}
    rainy_folders = [below[name] for name in RAINY_FOLDERS if name in below]
    clean_folders = [below[name] for name in CLEAN_FOLDERS if name in below]
    if len(rainy_folders) > 1 or len(clean_folders) > 1:
        names = ", ".join(p.name for p in rainy_folders + clean_folders)
        raise InputError(f"{root}: several folders could hold the pairs ({names}); name the two you mean")
    if rainy_folders and clean_folders:
        return _two_folders(root, rainy_folders[0], clean_folders[0])
    files = pictures_in(root) if not (rainy_folders or clean_folders) else []
    marked = [p for p in files if p.stem.lower().startswith("norain")]
    rainy = [p for p in files if p.stem.lower().startswith("rain")]
    if marked and rainy:
        return _paired(root, "one folder, rain- and norain-", root, rainy, marked)
    raise InputError(
        f"{root}: no pairs recognised; it needs folders such as input/ and target/, names such as rain-1.png and "
        "norain-1.png, or a layout (clean-left, rainy-left) for halves in one picture"
    )


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
