"""Images with a class for each pixel, in CamVid's layout.

A split is a folder with ``images/NAME.png`` and ``labels/NAME.png``; a label image is gray, 8 bits, and
its values are class numbers. Values from the number of classes on (CamVid's 11, the usual 255) are void:
they are neither trained on nor measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from derain.data.layouts import find_images, read_rgb
from derain.errors import InputError

Labels = npt.NDArray[np.uint8]
#: The value of void pixels in arrays and tensors of labels.
VOID = 255


@dataclass(frozen=True)
class LabeledImage:
    """The files of an image and its labels."""

    image: Path
    labels: Path

    @property
    def name(self) -> str:
        """The image's file name without suffix."""
        return self.image.stem

    def read(self, classes: int) -> tuple[npt.NDArray[np.uint8], Labels]:
        """``(H, W, 3)`` RGB and ``(H, W)`` class numbers, :data:`VOID` where there is none.

        Raises:
            InputError: unreadable, or of different sizes.
        """
        image, labels = read_rgb(self.image), read_labels(self.labels)
        if image.shape[:2] != labels.shape:
            (h, w), (lh, lw) = image.shape[:2], labels.shape
            raise InputError(f"{self.labels}: {lw}×{lh}, but its image is {w}×{h}; make them the same size")
        return image, np.where(labels < classes, labels, np.uint8(VOID))


def find_labeled(split: str | Path) -> list[LabeledImage]:
    """The images of a split with their labels, by name.

    Raises:
        InputError: no such layout, nothing in it, or an image without labels.
    """
    images, labels = Path(split) / "images", Path(split) / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise InputError(f"{split}: no images/ and labels/ in it; lay out labeled images like CamVid's splits")
    pairs = [LabeledImage(path, labels / f"{path.stem}.png") for path in find_images(images)]
    if not pairs:
        raise InputError(f"{images}: no images here; put the split's images there")
    if unlabeled := [pair for pair in pairs if not pair.labels.is_file()]:
        raise InputError(f"{unlabeled[0].labels}: missing, for {len(unlabeled)} of {len(pairs)} images; add it")
    return pairs


def count_classes(pairs: list[LabeledImage], classes: int) -> npt.NDArray[np.int64]:
    """Number of pixels of each class in all label images, ``(classes,)``."""
    total = np.zeros(classes, np.int64)
    for pair in pairs:
        total += np.bincount(read_labels(pair.labels).ravel(), minlength=256)[:classes]
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


def read_labels(path: Path) -> Labels:
    """``(H, W)`` of a gray 8-bit image, as it is.

    Raises:
        InputError: another file.
    """
    labels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
        raise InputError(f"{path}: not a gray 8-bit image; labels are class numbers in a gray 8-bit PNG")
    return np.asarray(labels, np.uint8)
