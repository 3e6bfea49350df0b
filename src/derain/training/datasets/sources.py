"""What the patch data sets share: requests, folders of clean images, a cache of decoded images."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from derain.arrays import FloatArray, UInt8Array, to_chw
from derain.data.layouts import Pair, find_images, read_rgb
from derain.errors import InputError

#: Number and side of a patch. A patch is a pure function of the seed and its request, so workers, processes
#: and resumed runs all get the same one. Which requests make up a batch is decided elsewhere.
Request = tuple[int, int]
#: Decoded images that a worker caches, bytes; beyond that the least recently used are dropped and read again.
CACHE_BYTES = 1_500_000_000
#: Training stops at this many unreadable images, or when none is left.
_MAX_UNREADABLE = 100


@dataclass(frozen=True)
class CleanPool:
    """Folders of clean images that are sampled alike.

    Attributes:
        folders: searched recursively.
        share: of the samples, relative to the other pools.
        min_scale: smallest scale that images are randomly reduced to; large photographs get sharper by that.
    """

    folders: tuple[Path, ...]
    share: float = 1.0
    min_scale: float = 0.9

    def files(self) -> list[Path]:
        """All image files, folder after folder.

        Raises:
            InputError: there is none.
        """
        files = [path for folder in self.folders for path in find_images(folder)]
        if not files:
            raise InputError(f"{', '.join(map(str, self.folders))}: no images here; give a folder of photographs")
        return files


class ImageCache:
    """Decoded images, least recently used ones dropped; ``None`` for those that cannot be read.

    Args:
        files: number of files that may be asked for; if all are unreadable, reading raises.
    """

    def __init__(self, files: int) -> None:
        self._max_unreadable = min(files, _MAX_UNREADABLE)
        self._entries: OrderedDict[Path, tuple[UInt8Array, ...]] = OrderedDict()
        self._bytes = 0
        self._unreadable: set[Path] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, path: Path) -> UInt8Array | None:
        """An image as ``(H, W, 3)`` RGB."""
        entry = self._get(path, lambda: (read_rgb(path),))
        return entry[0] if entry is not None else None

    def read_pair(self, pair: Pair) -> tuple[UInt8Array, ...] | None:
        """Rainy and clean image of a pair."""
        return self._get(pair.rainy, pair.read)

    def _get(self, key: Path, read: Callable[[], tuple[UInt8Array, ...]]) -> tuple[UInt8Array, ...] | None:
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        if key in self._unreadable:
            return None
        try:
            entry = read()
        except InputError as error:
            self._unreadable.add(key)
            print(f"warning: {error}; left out of the training", file=sys.stderr, flush=True)
            if len(self._unreadable) >= self._max_unreadable:
                raise InputError(f"{len(self._unreadable)} images cannot be read; see `derain data check`") from None
            return None
        self._entries[key] = entry
        self._bytes += sum(image.nbytes for image in entry)
        while self._bytes > CACHE_BYTES and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= sum(image.nbytes for image in dropped)
        return entry

    def __reduce__(self) -> tuple[type[ImageCache], tuple[int]]:
        return ImageCache, (self._max_unreadable,)  # each worker fills its own


def limit_worker_threads() -> None:
    """In a worker of a ``DataLoader``: one thread for OpenCV, because the workers are the parallelism."""
    if get_worker_info() is not None:
        cv2.setNumThreads(1)


def to_tensor(image: FloatArray) -> Tensor:
    """``(H, W, 3)`` to ``(3, H, W)``."""
    return torch.from_numpy(to_chw(image))
