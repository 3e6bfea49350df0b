"""Streak pictures from a folder as a source of rain, beside the rendered ones."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from derain.errors import InputError

from .streaks import FloatArray

_KEEP = 256  # pictures held in memory
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


class StreakLibrary:
    """A folder of gray streak pictures, white on black, such as the Garg–Nayar renderings.

    Args:
        folder: searched recursively for PNG, JPEG, BMP and TIFF files.

    Raises:
        InputError: the folder holds no picture.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.files = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
        if not self.files:
            raise InputError(f"{self.folder}: no streak pictures here; give a folder of PNG or JPEG files")
        self._kept: dict[int, FloatArray] = {}

    def _read(self, index: int) -> FloatArray:
        if index not in self._kept:
            if len(self._kept) >= _KEEP:
                self._kept.clear()
            self._kept[index] = self._read_file(index)
        return self._kept[index]

    def _read_file(self, index: int) -> FloatArray:
        picture = cv2.imread(str(self.files[index]), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise InputError(f"{self.files[index]}: not a readable picture; remove it from the streak folder")
        return np.asarray(picture, np.float32) / np.float32(255)

    def pick(self, rng: np.random.Generator) -> FloatArray:
        """A random picture, mirrored half of the time: ``(H, W)`` float32 in [0, 1]."""
        picture = self._read(int(rng.integers(len(self.files))))
        return picture[:, ::-1] if rng.random() < 0.5 else picture

    def sample(
        self,
        shape: tuple[int, int],
        rng: np.random.Generator,
        *,
        angle: float = 0.0,
        zoom: float = 1.0,
    ) -> FloatArray:
        """A random piece of a random picture, mirrored at random, turned and resized.

        Args:
            shape: height and width wanted, pixels.
            rng: the only source of chance.
            angle: turn in degrees; positive leans streaks to the right going down.
            zoom: size factor of the streaks.

        Returns:
            ``(H, W)`` float32 in [0, 1]. Where the picture is too small it is repeated.
        """
        picture = self.pick(rng)
        height, width = shape
        # Output pixel -> source pixel: turn and shrink about the output's center, then move.
        theta = math.radians(angle)
        c, s = math.cos(theta) / zoom, math.sin(theta) / zoom
        cx, cy = rng.uniform(0, picture.shape[1]), rng.uniform(0, picture.shape[0])
        turn = np.array([[c, -s, 0.0], [s, c, 0.0]])
        turn[:, 2] = np.array([cx, cy]) - turn[:, :2] @ np.array([width / 2, height / 2])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(picture, turn, (width, height), flags=flags, borderMode=cv2.BORDER_WRAP),
            np.float32,
        )


class LayerLibrary:
    """A folder of whole rain layers: what rain added to a scene, gray, such as rainy input minus scene.

    They keep their statistics: cropped, mirrored, with a gain near 1, but neither rotated nor resized.

    Args:
        folder: searched recursively, as by :class:`StreakLibrary`.
        gain: brightness is multiplied by a factor drawn uniformly from this range.

    Raises:
        InputError: the folder holds no image.
    """

    def __init__(self, folder: str | Path, gain: tuple[float, float] = (0.92, 1.08)) -> None:
        self._images = StreakLibrary(folder)
        self.gain = gain

    def sample(self, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
        """A random crop of a random layer.

        Args:
            shape: height and width wanted, pixels; a smaller layer is continued by reflection.
            rng: the only source of randomness.

        Returns:
            ``(H, W)`` float32, not negative.
        """
        layer = self._images.pick(rng)
        missing = [max(0, wanted - have) for wanted, have in zip(shape, layer.shape, strict=True)]
        if any(missing):
            layer = np.pad(layer, [(0, n) for n in missing], mode="symmetric")
        y, x = (int(rng.integers(have - wanted + 1)) for wanted, have in zip(shape, layer.shape, strict=True))
        piece: FloatArray = layer[y : y + shape[0], x : x + shape[1]] * np.float32(rng.uniform(*self.gain))
        return piece
