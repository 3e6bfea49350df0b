"""The authors' folder layout: the files of one image in the folders of the stages.

``ROOT/input`` holds rainy images; stages write and read ``ROOT/ldgp`` (rain maps), ``ROOT/bf`` (the authors' maps
before the opening), ``ROOT/sdr/NAME/0.png`` and on (references), ``ROOT/fuse`` (their means) and ``ROOT/result``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from derain import images
from derain.arrays import UInt8Array
from derain.data.layouts import read_rgb
from derain.errors import InputError, OutputError
from derain.files import TEMPORARY_PREFIX, write_bytes

from .settings import Settings


@dataclass(frozen=True)
class Sample:
    """What a network is trained on.

    Attributes:
        image: ``(H, W, 3)`` uint8.
        rain_map: ``(H, W)`` uint8, ``None`` to compute it.
        references: in training order, ``None`` to sample them.
        origin: where map and references come from, in words.
    """

    image: UInt8Array
    rain_map: UInt8Array | None
    references: list[UInt8Array] | None
    origin: str


@dataclass(frozen=True)
class StageFiles:
    """The files of one image.

    Attributes:
        path: the rainy image.
        relative: its path below the folder of rainy images.
        root: the folder with ``input/`` that it came from, if any.
        folders: a stage's folder where it is not the one in ``root``.
        reuse: whether maps and references in ``root`` are read.
    """

    path: Path
    relative: Path
    root: Path | None
    folders: dict[str, Path | None]
    reuse: bool = True

    def read(self) -> UInt8Array:
        """The rainy image."""
        return read_rgb(self.path)

    def output(self, stage: str) -> Path:
        """Where a stage's PNG is written.

        Raises:
            OutputError: neither a root nor a folder for this stage.
        """
        folder = self.folders.get(stage) or (self.root / stage if self.root is not None else None)
        if folder is None:
            option = "--fuse" if stage == "fuse" else "-o"
            raise OutputError(f"{self.path}: no folder for its {stage}; give {option}, or a folder with input/")
        return folder / self.relative.with_suffix(".png")

    def rain_map(self, image: UInt8Array) -> tuple[UInt8Array, Path] | None:
        """The map that an earlier stage wrote and its file: a PNG, or named exactly like the image, as the authors'.

        Raises:
            InputError: none in a folder that was given explicitly, two of them, unreadable, or of another size.
        """
        folder = self._source("ldgp")
        if folder is None:
            return None
        names = dict.fromkeys((self.relative.with_suffix(".png"), self.relative))
        found = [folder / name for name in names if (folder / name).exists()]
        if len(found) > 1:
            raise InputError(f"{found[0]} and {found[1]} are both maps of {self.path}; remove one")
        if not found:
            if self.folders.get("ldgp") is not None:
                raise InputError(
                    f"{folder / self.relative.with_suffix('.png')}: no such file; run derain rain2avoid ldgp"
                )
            return None
        rain_map = np.array(images.read(found[0]).to_pil().convert("L"))
        if rain_map.shape != image.shape[:2]:
            raise InputError(f"{found[0]}: its size is not that of {self.path}; compute it again")
        return rain_map, found[0]

    def references(self) -> tuple[list[UInt8Array], Path] | None:
        """Those that an earlier stage wrote, in the authors' order (0, 1, 10, 11, …), and their folder.

        Those in ``root`` do not belong to maps of another folder, and are not used with them.

        Raises:
            InputError: none in a folder that was given explicitly.
        """
        source, explicit = self._source("sdr"), self.folders.get("sdr") is not None
        if source is None or (self.folders.get("ldgp") is not None and not explicit):
            return None
        folder = source / self.relative.with_suffix("")
        files = sorted(folder.glob("*.png"), key=lambda p: p.stem)
        if not files and explicit:
            raise InputError(f"{folder}: no references in it; run derain rain2avoid nss")
        return ([read_rgb(file) for file in files], folder) if files else None

    def sample(self, settings: Settings, *, online: bool = False) -> Sample:
        """The image with the map and the references of earlier stages, as far as the schedule uses them.

        Raises:
            InputError: as of :meth:`rain_map` and :meth:`references`.
        """
        image = self.read()
        references = None if online else self.references()
        found = None if references is not None and settings.schedule == "authors" else self.rain_map(image)
        parts = []
        if found is not None:
            parts.append(f"map {found[1]}")
        elif references is None:
            parts.append(f"new {settings.mode} map")
        if references is not None:
            parts.append(f"{len(references[0])} references of {references[1]}")
        elif online or settings.schedule == "authors":
            parts.append("new references")
        rain_map = found[0] if found is not None else None
        return Sample(image, rain_map, references[0] if references is not None else None, ", ".join(parts))

    def _source(self, stage: str) -> Path | None:
        """The folder in which an earlier stage's files are looked for."""
        if (chosen := self.folders.get(stage)) is not None:
            return chosen
        return self.root / stage if self.root is not None and self.reuse else None


def write_png(values: npt.NDArray[Any], path: Path, *, overwrite: bool) -> None:
    """Write a gray or color uint8 array."""
    write_bytes(images.encode(images.from_pil(Image.fromarray(values)), "PNG"), path, overwrite=overwrite)


def write_references(references: Iterable[UInt8Array], folder: Path, *, overwrite: bool) -> UInt8Array:
    """Write the references of an image as ``0.png`` and on. A new folder appears when it is complete.

    In an existing folder missing files are added, and those there must hold the same pixels.

    Args:
        references: ``(H, W, 3)`` uint8, at least one.
        folder: where they are written.
        overwrite: replace other references, and remove those beyond the last.

    Returns:
        Their mean, rounded half to even as the authors' files.

    Raises:
        OutputError: other references are there and ``overwrite`` is off, or it cannot be written.
    """
    total: Any = 0
    count = 0
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder.parent) as temporary:
            place = folder if folder.exists() else Path(temporary, "sdr")
            for reference in references:
                path = place / f"{count}.png"
                if overwrite or not path.exists():
                    write_png(reference, path, overwrite=True)
                elif not np.array_equal(read_rgb(path), reference):
                    raise OutputError(f"{path}: holds another reference; add --overwrite or choose another output")
                total, count = total + reference.astype(np.int64), count + 1
            for file in place.glob("*.png"):
                if file.stem.isdigit() and int(file.stem) >= count:
                    if not overwrite:
                        raise OutputError(f"{file}: more than {count} references; add --overwrite or remove it")
                    file.unlink()
            if place != folder:
                place.replace(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another output folder") from None
    mean: UInt8Array = np.rint(total / count).astype(np.uint8)
    return mean
