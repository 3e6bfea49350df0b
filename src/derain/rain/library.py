"""Streak images and rain layers from a folder, as a source of rain beside the rendered one."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from derain.arrays import FloatArray, to_float
from derain.errors import InputError

_CACHE_SIZE = 256  # decoded images
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


class StreakLibrary:
    """A folder of gray streak images, white on black, such as the Garg–Nayar renderings.

    Args:
        folder: searched recursively for PNG, JPEG, BMP and TIFF files.

    Raises:
        InputError: the folder contains no images.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.files = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
        if not self.files:
            raise InputError(f"{self.folder}: no streak images found; give a folder of PNG or JPEG files")
        self._cache: dict[int, FloatArray] = {}

    def _read(self, index: int) -> FloatArray:
        if index not in self._cache:
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[index] = self._read_file(index)
        return self._cache[index]

    def _read_file(self, index: int) -> FloatArray:
        image = cv2.imread(str(self.files[index]), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise InputError(f"{self.files[index]}: not a readable image; remove it from the streak folder")
        return to_float(image)

    def pick(self, rng: np.random.Generator) -> FloatArray:
        """A random image, mirrored with probability 1/2: ``(H, W)`` float32 in [0, 1]."""
        image = self._read(int(rng.integers(len(self.files))))
        return image[:, ::-1] if rng.random() < 0.5 else image

    def sample(
        self,
        shape: tuple[int, int],
        rng: np.random.Generator,
        *,
        angle: float = 0.0,
        zoom: float = 1.0,
    ) -> FloatArray:
        """A random crop of a random image, mirrored at random, rotated and resized.

        Args:
            shape: height and width of the result, pixels.
            rng: the only source of randomness.
            angle: rotation in degrees; positive makes vertical streaks lean to the right going down.
            zoom: scale factor of the streaks.

        Returns:
            ``(H, W)`` float32 in [0, 1]. An image smaller than that is repeated periodically.
        """
        image = self.pick(rng)
        height, width = shape
        # Output pixel -> source pixel: rotate and shrink about the output's center, then translate.
        theta = math.radians(angle)
        c, s = math.cos(theta) / zoom, math.sin(theta) / zoom
        cx, cy = rng.uniform(0, image.shape[1]), rng.uniform(0, image.shape[0])
        transform = np.array([[c, -s, 0.0], [s, c, 0.0]])
        transform[:, 2] = np.array([cx, cy]) - transform[:, :2] @ np.array([width / 2, height / 2])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(image, transform, (width, height), flags=flags, borderMode=cv2.BORDER_WRAP),
            np.float32,
        )


class LayerLibrary:
    """A folder of complete rain layers: what rain added to a scene, gray, such as rainy input minus scene.

    They keep their statistics: cropped and mirrored, with a gain near 1, but neither rotated nor resized.

    Args:
        folder: searched recursively, as by :class:`StreakLibrary`.
        gain: range of the uniformly distributed brightness factor.

    Raises:
        InputError: the folder contains no images.
    """

    def __init__(self, folder: str | Path, gain: tuple[float, float] = (0.92, 1.08)) -> None:
        self._images = StreakLibrary(folder)
        self.gain = gain

    def sample(self, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
        """A random crop of a random layer.

        Args:
            shape: height and width of the result, pixels; a smaller layer is continued by reflection.
            rng: the only source of randomness.

        Returns:
            ``(H, W)`` float32, not negative.
        """
        layer = self._images.pick(rng)
        padding = [max(0, target - size) for target, size in zip(shape, layer.shape, strict=True)]
        if any(padding):
            layer = np.pad(layer, [(0, n) for n in padding], mode="symmetric")
        y, x = (int(rng.integers(size - target + 1)) for target, size in zip(shape, layer.shape, strict=True))
        crop: FloatArray = layer[y : y + shape[0], x : x + shape[1]] * np.float32(rng.uniform(*self.gain))
        return crop
