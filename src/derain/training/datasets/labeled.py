"""Training patches and whole validation images of labeled images, for segmenters."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from derain.arrays import FloatArray, UInt8Array, to_float
from derain.data.labels import LabeledImage, Labels

from .sources import CACHE_BYTES, Request, to_tensor


class LabeledPatches(Dataset[tuple[Tensor, Tensor]]):
    """Patches of labeled images, scaled, stretched, mirrored and recolored at random; endless.

    Args:
        pairs: from :func:`derain.data.labels.find_labeled`.
        classes: number of classes.
        zoom: the image's shorter side after scaling, in sides of the patch; drawn log-uniformly.
        jitter: strength of the changes of brightness, contrast, saturation and tint; 0 for none.
        seed: of all randomness.

    ``self[number, side]`` is a ``(3, side, side)`` float32 image in [0, 1] and ``(side, side)`` int64
    labels, :data:`~derain.data.labels.VOID` where there is no class. A patch is a pure function of seed and
    number, and each image comes once before any comes twice.
    """

    def __init__(
        self,
        pairs: list[LabeledImage],
        classes: int,
        *,
        zoom: tuple[float, float],
        jitter: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.pairs, self.classes, self.zoom, self.jitter, self.seed = pairs, classes, zoom, jitter, seed
        self._cache: dict[int, tuple[UInt8Array, Labels]] = {}
        self._bytes = 0

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor]:
        number, side = request
        epoch, place = divmod(number, len(self.pairs))
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pairs))
        image, labels = self._read(int(order[place]))
        rng = np.random.default_rng([self.seed, 1, number])
        height, width = labels.shape
        zoom = math.exp(rng.uniform(math.log(self.zoom[0]), math.log(self.zoom[1])))
        stretch = math.exp(rng.uniform(-0.1, 0.1))
        tall = min(height, max(1, round(min(height, width) / zoom * stretch)))
        wide = min(width, max(1, round(min(height, width) / zoom / stretch)))
        y, x = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        interpolation = cv2.INTER_AREA if tall * wide > side * side else cv2.INTER_LINEAR
        part = cv2.resize(image[y : y + tall, x : x + wide], (side, side), interpolation=interpolation)
        classes = cv2.resize(labels[y : y + tall, x : x + wide], (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
        if rng.random() < 0.5:
            part, classes = part[:, ::-1], classes[:, ::-1]
        patch = recolored(to_float(np.asarray(part, np.uint8)), self.jitter, rng)
        return to_tensor(patch), torch.from_numpy(classes.astype(np.int64))

    def _read(self, index: int) -> tuple[UInt8Array, Labels]:
        if index in self._cache:
            return self._cache[index]
        entry = self.pairs[index].read(self.classes)
        self._bytes += entry[0].nbytes + entry[1].nbytes
        if self._bytes <= CACHE_BYTES:
            self._cache[index] = entry
        return entry


class LabeledImages(Dataset[tuple[Tensor, Tensor]]):
    """Whole labeled images: ``(1, 3, H, W)`` in [0, 1] and ``(1, H, W)`` int64 labels."""

    def __init__(self, pairs: list[LabeledImage], classes: int) -> None:
        self.pairs, self.classes = pairs, classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, labels = self.pairs[index].read(self.classes)
        return to_tensor(to_float(image))[None], torch.from_numpy(labels.astype(np.int64))[None]


def recolored(image: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    """An image under other light: gamma, gain of each channel, contrast about its mean, saturation.

    Args:
        image: ``(H, W, 3)`` float32 in [0, 1].
        strength: factor of the deviations; 0 returns the image unchanged.
        rng: source of all randomness.

    Returns:
        The same shape, in [0, 1].
    """
    gamma, contrast, saturation = np.exp(strength * rng.normal(0, (0.2, 0.15, 0.25))).astype(np.float32)
    gains = np.exp(strength * (rng.normal(0, 0.1) + rng.normal(0, 0.04, 3))).astype(np.float32)
    lit = image**gamma * gains
    lit = (lit - lit.mean()) * contrast + lit.mean()
    gray = lit.mean(axis=2, keepdims=True)
    return np.asarray(np.clip(gray + (lit - gray) * saturation, 0, 1), np.float32)
