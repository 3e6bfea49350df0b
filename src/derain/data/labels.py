"""Pictures with a class for each pixel, in CamVid's layout, and training patches of them.

A split is a folder with ``images/NAME.png`` and ``labels/NAME.png``; a label picture is gray, 8 bits, and
its values are class numbers. Values from the number of classes on (CamVid's 11, the usual 255) are void:
they are neither learned nor measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from derain.data.layouts import pictures_in, read_rgb
from derain.errors import InputError
from derain.training.datasets.patches import CACHE_BYTES, Request

Labels = npt.NDArray[np.uint8]
#: What void pixels are in every tensor of labels.
VOID = 255


@dataclass(frozen=True)
class Labeled:
    """A picture and its labels."""

    picture: Path
    labels: Path

    @property
    def name(self) -> str:
        """Of the picture, without suffix."""
        return self.picture.stem

    def read(self, classes: int) -> tuple[npt.NDArray[np.uint8], Labels]:
        """``(H, W, 3)`` RGB and ``(H, W)`` class numbers, :data:`VOID` where there is none.

        Raises:
            InputError: unreadable, or of different sizes.
        """
        picture, labels = read_rgb(self.picture), _read_labels(self.labels)
        if picture.shape[:2] != labels.shape:
            (h, w), (lh, lw) = picture.shape[:2], labels.shape
            raise InputError(f"{self.labels}: {lw}×{lh}, but its picture is {w}×{h}; they must be of one size")
        return picture, np.where(labels < classes, labels, np.uint8(VOID))


def find_labeled(split: str | Path) -> list[Labeled]:
    """The pictures of a split with their labels, by name.

    Raises:
        InputError: no such layout, nothing in it, or a picture without labels.
    """
    images, labels = Path(split) / "images", Path(split) / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise InputError(f"{split}: no images/ and labels/ in it; lay labeled pictures out like CamVid's splits")
    found = [Labeled(picture, labels / f"{picture.stem}.png") for picture in pictures_in(images)]
    if not found:
        raise InputError(f"{images}: no pictures here; put the split's pictures there")
    if bare := [pair for pair in found if not pair.labels.is_file()]:
        raise InputError(f"{bare[0].labels}: missing, for {len(bare)} of {len(found)} pictures; add it")
    return found


def count_classes(pairs: list[Labeled], classes: int) -> npt.NDArray[np.int64]:
    """How many pixels each class has in all label pictures, ``(classes,)``."""
    total = np.zeros(classes, np.int64)
    for pair in pairs:
        total += np.bincount(_read_labels(pair.labels).ravel(), minlength=256)[:classes]
    return total


def balanced_weights(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float32]:
    """Class weights ``share ** -power``, scaled so that the mean weight of a labeled pixel is 1.

    Args:
        counts: pixels of each class; a class without any counts as one pixel.
        power: 0 weighs all pixels alike, 1 all classes.
    """
    shares = np.maximum(counts, 1) / np.maximum(counts, 1).sum()
    weights = shares**-power
    return np.asarray(weights / (weights * shares).sum(), np.float32)


class LabeledPatches(Dataset[tuple[Tensor, Tensor]]):
    """Patches of labeled pictures, scaled, stretched, mirrored and recolored at random; endless.

    Args:
        pairs: from :func:`find_labeled`.
        classes: number of classes.
        zoom: the picture's shorter side after scaling, in sides of the patch; drawn log-uniformly.
        jitter: strength of the changes of brightness, contrast, saturation and tint; 0 for none.
        seed: of all chance.

    Gives for ``(number, side)`` a ``(3, side, side)`` float32 picture in [0, 1] and ``(side, side)`` int64
    labels, :data:`VOID` where there is no class. A patch is a pure function of seed and number, and each
    picture comes once before any comes twice.
    """

    def __init__(
        self, pairs: list[Labeled], classes: int, *, zoom: tuple[float, float], jitter: float = 1.0, seed: int = 0
    ) -> None:
        self.pairs, self.classes, self.zoom, self.jitter, self.seed = pairs, classes, zoom, jitter, seed
        self._kept: dict[int, tuple[npt.NDArray[np.uint8], Labels]] = {}
        self._bytes = 0

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor]:
        number, side = request
        epoch, place = divmod(number, len(self.pairs))
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pairs))
        picture, labels = self._read(int(order[place]))
        rng = np.random.default_rng([self.seed, 1, number])
        height, width = labels.shape
        zoom = math.exp(rng.uniform(math.log(self.zoom[0]), math.log(self.zoom[1])))
        stretch = math.exp(rng.uniform(-0.1, 0.1))
        tall = min(height, max(1, round(min(height, width) / zoom * stretch)))
        wide = min(width, max(1, round(min(height, width) / zoom / stretch)))
        y, x = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        way = cv2.INTER_AREA if tall * wide > side * side else cv2.INTER_LINEAR
        part = cv2.resize(picture[y : y + tall, x : x + wide], (side, side), interpolation=way)
        classes = cv2.resize(labels[y : y + tall, x : x + wide], (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
        if rng.random() < 0.5:
            part, classes = part[:, ::-1], classes[:, ::-1]
        planes = recolored(np.asarray(part, np.float32) / np.float32(255), self.jitter, rng).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(planes)), torch.from_numpy(classes.astype(np.int64))

    def _read(self, place: int) -> tuple[npt.NDArray[np.uint8], Labels]:
        if place in self._kept:
            return self._kept[place]
        found = self.pairs[place].read(self.classes)
        self._bytes += found[0].nbytes + found[1].nbytes
        if self._bytes <= CACHE_BYTES:
            self._kept[place] = found
        return found


def recolored(picture: npt.NDArray[np.float32], strength: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A picture in another light: gamma, gain of each channel, contrast about its mean, saturation.

    Args:
        picture: ``(H, W, 3)`` float32 in [0, 1].
        strength: factor of the deviations; 0 gives the picture back.
        rng: the only source of chance.

    Returns:
        The same shape, in [0, 1].
    """
    gamma, contrast, saturation = np.exp(strength * rng.normal(0, (0.2, 0.15, 0.25))).astype(np.float32)
    gains = np.exp(strength * (rng.normal(0, 0.1) + rng.normal(0, 0.04, 3))).astype(np.float32)
    lit = picture**gamma * gains
    lit = (lit - lit.mean()) * contrast + lit.mean()
    gray = lit.mean(axis=2, keepdims=True)
    return np.asarray(np.clip(gray + (lit - gray) * saturation, 0, 1), np.float32)


def _read_labels(path: Path) -> Labels:
    found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
    if found is None or found.ndim != 2 or found.dtype != np.uint8:
        raise InputError(f"{path}: not a gray picture of 8 bits; labels are class numbers in such a PNG")
    return np.asarray(found, np.uint8)
