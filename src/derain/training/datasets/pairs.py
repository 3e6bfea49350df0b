"""Training patches of ready-made (rainy, clean) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset

from derain.arrays import to_float
from derain.data.layouts import PairedFolder
from derain.errors import InputError

from .sources import ImageCache, Request, limit_worker_threads, to_tensor

_UNKNOWN = 1 << 40  # size of a pair whose header cannot be read: reading it reports why


class PairPatches(Dataset[tuple[Tensor, Tensor]]):
    """Patches of ready-made (rainy, clean) pairs; endless.

    Args:
        folders: from :func:`derain.data.find_pairs`.
        stride: by default, patches are cut at random places and half of them mirrored; with a stride, they
            are cut on the grid of that stride without mirroring, each patch once per epoch, as the authors
            of PReNet and SAPNet do.
        mirror: whether patches at random places are mirrored.
        mirrored_copies: cut the grid from each pair's mirror image too, as the authors of SAPNet do with RainTrainL.
        seed: of all randomness.

    ``self[number, side]`` is as in :class:`~derain.training.datasets.patches.RainOnTheFly`; each pair (or
    grid patch) comes once before any comes twice.

    A pair that cannot be read, or whose sizes differ, is reported once and left out. A pair smaller than the patch
    is left out; :meth:`small` counts them.

    Raises:
        InputError: no pairs; later, none as large as the patch, or too many that cannot be read.
    """

    def __init__(
        self,
        folders: Sequence[PairedFolder],
        *,
        stride: int | None = None,
        mirror: bool = True,
        mirrored_copies: bool = False,
        seed: int = 0,
    ) -> None:
        self.pairs = [pair for folder in folders for pair in folder.pairs]
        if not self.pairs:
            raise InputError(f"{', '.join(str(f.root) for f in folders) or 'no folder'}: no pairs to train on")
        self.stride, self.mirror, self.mirrored_copies = stride, mirror, mirrored_copies
        self.seed = seed
        self.cache = ImageCache(len(self.pairs))
        self._sizes: npt.NDArray[np.int64] | None = None
        self._corners: dict[int, npt.NDArray[np.int64]] = {}
        self._order: tuple[tuple[int, int], npt.NDArray[np.int64]] = ((-1, 0), np.empty(0, np.int64))

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor]:
        number, side = request
        limit_worker_threads()
        corners = self.corners(side)
        first = self._shuffled(number, len(corners))
        images = None
        for place in range(first, first + len(corners)):  # the next one in place of one that cannot be read
            index, y, x, mirror = (int(value) for value in corners[place % len(corners)])
            images = self.cache.read_pair(self.pairs[index])
            if images is not None and min(images[0].shape[:2]) >= side:
                break
        else:
            raise InputError(f"{self.pairs[0].rainy}: no pair of its set can be read; see `derain data check`")
        if self.stride is None:
            height, width = images[0].shape[:2]
            rng = np.random.default_rng([self.seed, 1, number])
            y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            mirror = int(self.mirror and rng.random() < 0.5)
        patches = [image[y : y + side, x : x + side] for image in images]
        if mirror:
            patches = [patch[:, ::-1] for patch in patches]
        rainy, clean = (to_tensor(to_float(patch)) for patch in patches)
        return rainy, clean

    def small(self, side: int) -> int:
        """Number of pairs that are smaller than a patch."""
        return int((self.sizes < side).any(axis=1).sum())

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Height and width of each pair, ``(N, 2)``, from the headers; very large where a header cannot be read."""
        if self._sizes is None:
            unknown = (_UNKNOWN, _UNKNOWN)
            self._sizes = np.asarray([pair.size() or unknown for pair in self.pairs], np.int64)
        return self._sizes

    def corners(self, side: int) -> npt.NDArray[np.int64]:
        """The patches of an epoch in order, ``(N, 4)``: index of the pair, y, x, whether mirrored.

        Without a grid there is one for each pair; its place is drawn when it is requested.

        Raises:
            InputError: all pairs are smaller than a patch.
        """
        if side not in self._corners:
            rows: list[tuple[int, int, int, bool]] = []
            for index, (height, width) in enumerate(self.sizes.tolist()):
                if min(height, width) < side:
                    continue
                if self.stride is None:
                    rows.append((index, 0, 0, False))
                elif height < _UNKNOWN:
                    grid = range(0, height - side + 1, self.stride), range(0, width - side + 1, self.stride)
                    rows += [(index, y, x, False) for y, x in product(*grid)]
                    if self.mirrored_copies:
                        rows += [(index, y, width - side - x, True) for y, x in product(*grid)]
            if not rows:
                first = self.pairs[0].rainy
                if self.small(side) < len(self.pairs):
                    raise InputError(f"{first}: no pair of its set can be read; see `derain data check`")
                raise InputError(f"{first}: like all pairs, smaller than a patch of {side}; use smaller patches")
            self._corners[side] = np.asarray(rows, np.int64)
        return self._corners[side]

    def _shuffled(self, number: int, count: int) -> int:
        """The place of a patch in the order of its epoch."""
        epoch, place = divmod(number, count)
        if (epoch, count) != self._order[0]:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(count)
            self._order = ((epoch, count), order)
        return int(self._order[1][place])
