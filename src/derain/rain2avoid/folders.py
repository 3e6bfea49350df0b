"""The authors' folder layout: the files of one image in the folders of the stages.

``ROOT/input`` holds rainy images; stages write and read ``ROOT/ldgp`` (rain maps), ``ROOT/sdr/NAME/0.png``
and on (references), ``ROOT/fuse`` (their means) and ``ROOT/result``.
"""

from __future__ import annotations

from collections.abc import Callable
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
from derain.files import write_bytes


@dataclass(frozen=True)
class StageFiles:
    """The files of one image.

    Attributes:
        path: the rainy image.
        relative: its path below the folder of rainy images.
        root: the folder with ``input/`` that it came from, if any.
        folders: a stage's folder where it is not the one in ``root``.
    """

    path: Path
    relative: Path
    root: Path | None
    folders: dict[str, Path | None]

    def read(self) -> UInt8Array:
        """The rainy image."""
        return read_rgb(self.path)

    def output(self, stage: str) -> Path:
        """Where a stage's PNG is written.

        Raises:
            OutputError: neither a root nor a folder for this stage.
        """
        folder = self._folder(stage)
        if folder is None:
            option = "--fuse" if stage == "fuse" else "-o"
            raise OutputError(f"{self.path}: no folder for its {stage}; give {option}, or a folder with input/")
        return folder / self.relative.with_suffix(".png")

    def rain_map(self, image: UInt8Array, compute: Callable[[UInt8Array], UInt8Array]) -> UInt8Array:
        """The map that an earlier stage wrote, else a computed one.

        Raises:
            InputError: the map is unreadable or of another size.
        """
        folder = self._folder("ldgp")
        path = folder / self.relative.with_suffix(".png") if folder is not None else None
        if path is None or not (path.exists() or self.folders.get("ldgp") is not None):
            return compute(image)
        rain_map = np.array(images.read(path).to_pil().convert("L"))
        if rain_map.shape != image.shape[:2]:
            raise InputError(f"{path}: its size is not that of {self.path}; compute it again")
        return rain_map

    def references(self) -> list[UInt8Array] | None:
        """Those that an earlier stage wrote, in the authors' order: 0, 1, 10, 11, …

        Raises:
            InputError: none in a folder that was given explicitly.
        """
        folder = self._folder("sdr")
        if folder is None:
            return None
        files = sorted((folder / self.relative.with_suffix("")).glob("*.png"), key=lambda p: p.stem)
        if not files and self.folders.get("sdr") is not None:
            raise InputError(f"{folder / self.relative.stem}: no references in it; run derain rain2avoid nss")
        return [read_rgb(file) for file in files] or None

    def _folder(self, stage: str) -> Path | None:
        if (chosen := self.folders.get(stage)) is not None:
            return chosen
        return self.root / stage if self.root is not None else None


def write_png(values: npt.NDArray[Any], path: Path, *, overwrite: bool) -> None:
    """Write a gray or color uint8 array."""
    write_bytes(images.encode(images.from_pil(Image.fromarray(values)), "PNG"), path, overwrite=overwrite)
