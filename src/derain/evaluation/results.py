"""Existing results: the derained images that any method wrote into a folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from derain.arrays import UInt8Array
from derain.data.layouts import find_images, read_rgb
from derain.data.matching import is_named_clean, is_named_rainy, key_of
from derain.errors import InputError


class ResultFolder:
    """Finds the result for a rainy image by name, in the folders that the papers' scripts write.

    A result has the rainy image's name, apart from the spellings that :func:`~derain.data.matching.key_of`
    ignores and the suffix. SAPNet's ``test.py`` derains whatever a test folder holds, so that its output has
    ``rain-001.png`` and, of the clean image, ``norain-001.png``: where a folder has files named rainy, those
    named clean are no results unless the rainy image has the same name.

    Args:
        root: the folder; images in subfolders count too. With a subfolder of the name of the set, only that.
        data: the folder of the scored set.

    Raises:
        InputError: not a folder, no images in it, or two results of one name.
    """

    def __init__(self, root: Path, data: Path | None = None) -> None:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; give the folder of derained images")
        if data is not None and (root / data.name).is_dir():
            root = root / data.name
        self.root = root
        files = find_images(root)
        if not files:
            raise InputError(f"{root}: no images in it; give the folder of derained images")
        self._has_rainy_names = any(map(is_named_rainy, files))
        self._by_key: dict[str, list[Path]] = defaultdict(list)
        by_stem: dict[str, Path] = {}
        for path in files:
            self._by_key[key_of(path)].append(path)
            if (other := by_stem.setdefault(path.stem.lower(), path)) != path:
                names = " and ".join(str(p.relative_to(root)) for p in (other, path))
                raise InputError(f"{root}: {names} are results for the same name; keep one, or give its folder")

    def find(self, rainy: Path) -> Path:
        """The file of the result for a rainy image.

        Raises:
            InputError: there is none, or several fit.
        """
        fitting = self._by_key.get(key_of(rainy), [])
        same = [p for p in fitting if p.stem.lower() == rainy.stem.lower()]
        if not same and self._has_rainy_names:
            fitting = [p for p in fitting if not is_named_clean(p)]
        found = same or fitting
        if not found:
            raise InputError(f"{rainy}: no result for it in {self.root}; add it or leave the pair out")
        if len(found) > 1:
            names = " and ".join(p.name for p in found)
            raise InputError(f"{rainy}: {names} in {self.root} are results for the same name; keep one")
        return found[0]

    def read(self, rainy: Path, shape: tuple[int, ...]) -> UInt8Array:
        """The result for a rainy image, ``(H, W, 3)`` uint8 RGB.

        Args:
            rainy: the rainy image's file.
            shape: of the rainy image, ``(H, W, 3)``.

        Raises:
            InputError: there is none, several fit, it is unreadable or of another size.
        """
        path = self.find(rainy)
        derained = read_rgb(path)
        if derained.shape != shape:
            raise InputError(f"{path}: its size differs from {rainy}; results must have the input's size")
        return derained


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Each path to its last parts, as many as tell all of them apart: ``prenet/100L`` and ``sapnet/100L``."""
    parts = {path: Path(path).parts or (path,) for path in paths}
    count = 1
    while len({p[-count:] for p in parts.values()}) < len(set(parts.values())):
        count += 1
    return {path: str(Path(*p[-count:])) for path, p in parts.items()}


def named_folder(text: str) -> tuple[str, Path]:
    """Name and folder of ``NAME=DIR``; a folder alone is its own name."""
    name, equals, folder = text.partition("=")
    return (name, Path(folder)) if equals and not Path(text).exists() else (text, Path(text))
