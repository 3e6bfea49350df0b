"""Match rainy and clean files by name, by the rules that public sets follow."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_PREFIX = re.compile(r"^(no)?rain(y)?(?=[-_ ]?\d)[-_ ]?")
_SUFFIX = re.compile(r"(?<=\d)[-_ ]?(rain|rainy|in|input|norain|clean|gt|target|groundtruth)$")
_CLEAN_NAME = re.compile(r"^norain[-_ ]?\d|\d[-_ ]?(norain|clean|gt|target|groundtruth)$")
_RAINY_NAME = re.compile(r"^rain(y)?[-_ ]?\d|\d[-_ ]?(rain|rainy|in|input)$")
_SCALE = re.compile(r"(?<=\d)x2$")
_VERSION = re.compile(r"^(.*\d)_\d+$")
_FOG = re.compile(r"^(.+?)_rain_alpha_.+$")
_BRACKETED = re.compile(r"^\((\d+)\)$")
_NUMBER = re.compile(r"(\d+)(\.\d+)?")


def key_of(path: Path) -> str:
    """What names of the same scene have in common: without case, ``rain-``, ``norain-``, ``_gt``, ``x2``, leading 0."""
    stem = _BRACKETED.sub(r"\1", _SCALE.sub("", path.stem.lower()))
    if (bare := _PREFIX.sub("", stem)) == stem:
        bare = _SUFFIX.sub("", stem)
    return _NUMBER.sub(lambda number: f"{int(number[1])}{number[2] or ''}", bare)


def is_named_clean(path: Path) -> bool:
    """Whether a name says that the file is a clean image, such as ``norain-001.png``."""
    return _CLEAN_NAME.search(path.stem.lower()) is not None


def is_named_rainy(path: Path) -> bool:
    """Whether a name says that the file is a rainy image, such as ``rain-001.png``."""
    return _RAINY_NAME.search(path.stem.lower()) is not None


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that orders numbers by value.

    Not natsort's: the order of the files decides which patch has which number, so it must never change.
    """
    parts = re.split(r"(\d+)", text)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part]


def match(rainy: Iterable[Path], clean: Iterable[Path]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pair files by name.

    A rainy file is paired with the clean file of the same key; failing that, of its key without a trailing
    ``_3`` (the third rain on that scene) or ``_rain_alpha_…`` (a fog of RainCityscapes).

    Returns:
        The pairs, and one line for each file that is in none. Clean files without a rainy one are not
        listed where RainCityscapes is recognized: it covers only a part of Cityscapes.
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
            problems.append(f"{path}: has the same name as {seen[key]} except for spelling; left out")
            continue
        seen[key] = path
        scene = _scene_of(key)
        partners = by_key.get(key) or (by_key.get(scene) if scene else None) or []
        if len(partners) == 1:
            pairs.append((path, partners[0]))
            used.add(partners[0])
        elif partners:
            used.update(partners)
            problems.append(f"{path}: {len(partners)} clean files match it ({', '.join(p.name for p in partners)})")
        else:
            problems.append(f"{path}: no clean file matches it")
    if not any(_FOG.match(key) for key in seen):
        problems += [f"{p}: no rainy file matches it" for paths in by_key.values() for p in paths if p not in used]
    return pairs, problems


def _scene_of(key: str) -> str | None:
    """The scene of a key that counts several rains: ``901`` of ``901_3``, a street of its fogs; else ``None``."""
    found = _FOG.match(key) or _VERSION.match(key)
    return found[1] if found else None
