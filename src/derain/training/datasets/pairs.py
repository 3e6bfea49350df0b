"""Training patches of ready-made (rainy, clean) pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset

from derain.arrays import to_float
from derain.data.layouts import PairedFolder
from derain.errors import InputError

from .sources import ImageCache, Request, limit_worker_threads, to_tensor


class PairPatches(Dataset[tuple[Tensor, Tensor]]):
    """Patches of ready-made (rainy, clean) pairs; endless.

    Args:
        folders: from :func:`derain.data.find_pairs`.
        stride: by default, patches are cut at random places and half of them mirrored; with a stride, they
            are cut on the grid of that stride without mirroring, each patch once per epoch, as the authors
            of PReNet and SAPNet do.
        seed: of all randomness.

    ``self[number, side]`` is as in :class:`~derain.training.datasets.patches.RainOnTheFly`; each pair (or
    grid patch) comes once before any comes twice.

    A pair that cannot be read, or whose sizes differ, is reported once and left out.

    Raises:
        InputError: no pairs; later, an image smaller than the patch, or too many that cannot be read.
    """

    def __init__(self, folders: Sequence[PairedFolder], *, stride: int | None = None, seed: int = 0) -> None:
        self.pairs = [pair for folder in folders for pair in folder.pairs]
        if not self.pairs:
            raise InputError(f"{', '.join(str(f.root) for f in folders) or 'no folder'}: no pairs to train on")
        self.stride = stride
        self.seed = seed
        self.cache = ImageCache(len(self.pairs))
        self._grids: dict[int, npt.NDArray[np.int64]] = {}
        self._order: tuple[tuple[int, int], npt.NDArray[np.int64]] = ((-1, 0), np.empty(0, np.int64))

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor]:
        number, side = request
        limit_worker_threads()
        mirror = False
        if self.stride is None:
            index = self._shuffled(number, len(self.pairs))
            while (size := self._size(index, side)) is None:
                index = (index + 1) % len(self.pairs)
            height, width = size
            rng = np.random.default_rng([self.seed, 1, number])
            y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            mirror = bool(rng.random() < 0.5)
        else:
            grid = self._grid(side, self.stride)
            index, y, x = (int(v) for v in grid[self._shuffled(number, len(grid))])
        images = self.cache.read_pair(self.pairs[index])
        assert images is not None, "its size was known"
        patches = [image[y : y + side, x : x + side] for image in images]
        if mirror:
            patches = [patch[:, ::-1] for patch in patches]
        rainy, clean = (to_tensor(to_float(patch)) for patch in patches)
        return rainy, clean

    def _size(self, index: int, side: int) -> tuple[int, int] | None:
        """Height and width of a pair; ``None`` if it cannot be read."""
        if (images := self.cache.read_pair(self.pairs[index])) is None:
            return None
        height, width = images[0].shape[:2]
        if min(height, width) < side:
            name = self.pairs[index].rainy
            raise InputError(f"{name}: {width}×{height} is smaller than a patch of {side}; use smaller patches")
        return height, width

    def _grid(self, side: int, stride: int) -> npt.NDArray[np.int64]:
        """All patches of an epoch: index of the pair, y, x."""
        if side not in self._grids:
            corners = []
            for index in range(len(self.pairs)):
                if (size := self._size(index, side)) is None:
                    continue
                height, width = size
                for y in range(0, height - side + 1, stride):
                    corners += [(index, y, x) for x in range(0, width - side + 1, stride)]
            self._grids[side] = np.asarray(corners)
        return self._grids[side]

    def _shuffled(self, number: int, count: int) -> int:
        """The place of a patch in the order of its epoch."""
        epoch, place = divmod(number, count)
        if (epoch, count) != self._order[0]:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(count)
            self._order = ((epoch, count), order)
        return int(self._order[1][place])
