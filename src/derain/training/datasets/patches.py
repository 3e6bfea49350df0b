"""Training patches: rained on while they are needed, or cut from ready-made pairs.

A patch is a pure function of the seed and its number, so workers, processes and resumed runs that ask
for number n all get the same one. How many patches of which size make a step is the caller's business:
a request is ``(number, side)``.
"""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from derain.data.layouts import Pair, PairedFolder, pictures_in, read_rgb
from derain.errors import InputError
from derain.rain import PRESETS, LayerLibrary, StreakLibrary, apply_rain, sample_rain, simulate_camera
from derain.training.datasets.distractors import draw_distractors

Request = tuple[int, int]
Picture = npt.NDArray[np.uint8]
#: Decoded pictures that a worker keeps, bytes; beyond it the longest unused are read again when needed.
CACHE_BYTES = 1_500_000_000
#: Unreadable pictures at which training stops; it also does when no other is left.
_ENOUGH_UNREADABLE = 100


@dataclass(frozen=True)
class CleanPool:
    """Clean photographs that are sampled alike.

    Attributes:
        folders: searched recursively.
        share: of the samples, relative to the other pools.
        smallest: scale down to which pictures may be reduced; large photographs are sharper so.
    """

    folders: tuple[Path, ...]
    share: float = 1.0
    min_scale: float = 0.9

    def files(self) -> list[Path]:
        """All picture files, folder after folder.

        Raises:
            InputError: there is none.
        """
        found = [picture for folder in self.folders for picture in pictures_in(folder)]
        if not found:
            raise InputError(f"{', '.join(map(str, self.folders))}: no pictures here; give a folder of photographs")
        return found


class RainOnTheFly(Dataset[tuple[Tensor, Tensor]]):
    """Clean photographs, rained on as they are asked for; endless.

    Args:
        pools: where clean pictures come from.
        presets: rain presets and their weights; the name ``none`` stands for patches without rain,
            by which a network learns to leave a rain-free photograph alone, ``layers`` for rain from ``layers``.
        scales: the rain's size is drawn log-uniformly from this range.
        streaks: folder of streak pictures as a further source.
        layers: folder of rain layers, added as they are; see :class:`derain.rain.LayerLibrary`.
        seed: of all chance.
        leave_out: files that are not used, for they are to validate on.
        decoys: share of the clean patches that lines are drawn into, see
            :func:`~derain.training.datasets.distractors.draw_distractors`.
        turned: share of the clean patches that are turned by a quarter before it rains.
        streaks_only: fog, grain and compression of the preset ``real`` stay in what the network is to make, so that
            it learns to take streaks away and nothing else. Half of the patches without rain get them too.

    Gives for ``(number, side)`` a rainy and a clean ``(3, side, side)`` float32 tensor in [0, 1], 8-bit
    values. In a ``DataLoader`` use ``multiprocessing_context="spawn"`` with workers: OpenCV's threads do
    not survive a fork.

    A picture that cannot be read is told once and left out.

    Raises:
        InputError: no pictures, or no streak pictures; later, if too many pictures cannot be read.
        ValueError: unknown preset.
    """

    def __init__(
        self,
        pools: Sequence[CleanPool],
        presets: Mapping[str, float],
        *,
        scales: tuple[float, float] = (0.8, 1.6),
        streaks: Path | None = None,
        layers: Path | None = None,
        seed: int = 0,
        leave_out: frozenset[Path] = frozenset(),
        distractors: float = 0.0,
        rotate90: float = 0.0,
        streaks_only: bool = False,
    ) -> None:
        unknown = set(presets) - set(PRESETS) - {"none", "layers"}
        if unknown or not presets:
            known = ", ".join(PRESETS)
            raise ValueError(f"unknown rain presets {sorted(unknown)}; choose from {known}, layers and none")
        if presets.get("layers") and layers is None:
            raise ValueError("rain from layers needs a folder of rain layers")
        left = [(pool, [path for path in pool.files() if path not in leave_out]) for pool in pools]
        left = [(pool, files) for pool, files in left if files]
        self.files = [files for _, files in left]
        self.min_scale = [pool.min_scale for pool, _ in left]
        self.shares = _normalized([pool.share for pool, _ in left])
        self.presets = list(presets)
        self.weights = _normalized(list(presets.values()))
        self.scales = scales
        self.library = StreakLibrary(streaks) if streaks is not None else None
        self.layers = LayerLibrary(layers) if layers is not None else None
        self.seed = seed
        self.distractors, self.rotate90, self.streaks_only = distractors, rotate90, streaks_only
        self._kept = _Pictures(sum(map(len, self.files)))

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor]:
        number, side = request
        _one_thread_in_workers()
        rng = np.random.default_rng([self.seed, number])
        picture = None
        while picture is None:
            pool = int(rng.choice(len(self.shares), p=self.shares))
            path = self.files[pool][int(rng.integers(len(self.files[pool])))]
            picture = self._kept.read(path)
        clean = self._varied(random_patch(picture, side, self.min_scale[pool], rng), rng)
        rainy, clean = self._rain(clean, str(rng.choice(self.presets, p=self.weights)), rng)
        return _planes(rainy), _planes(clean)

    def _varied(self, clean: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        # Nothing is drawn from the stream for what is off, so runs without it stay what they were.
        if self.rotate90 and rng.random() < self.rotate90:
            clean = np.ascontiguousarray(np.rot90(clean))
        if self.distractors and rng.random() < self.distractors:
            clean = _rounded(draw_distractors(clean, rng))
        return clean

    def _rain(
        self, clean: npt.NDArray[np.float32], preset: str, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Rainy picture, and what is to come of it."""
        if preset == "none":
            if self.streaks_only and rng.random() < 0.5:
                # Fog, grain and compression are no sign of rain.
                clean = _rounded(apply_rain(clean, replace(sample_rain("real", rng), layers=()), rng))
            return clean, clean
        if preset == "layers":
            assert self.layers is not None, "checked in the constructor"
            layer = self.layers.sample((clean.shape[0], clean.shape[1]), rng)
            return _rounded(np.minimum(clean + layer[..., None], np.float32(1))), clean
        recipe = sample_rain(preset, rng, self.library)
        scale = math.exp(rng.uniform(math.log(self.scales[0]), math.log(self.scales[1])))
        if not self.streaks_only:
            return _rounded(apply_rain(clean, recipe, rng, self.library, scale)), clean
        scene = replace(recipe, camera=None)
        both = [apply_rain(clean, scene, rng, self.library, scale), apply_rain(clean, replace(scene, layers=()), rng)]
        if recipe.camera is not None:
            seed = int(rng.integers(2**32))  # the same grain in both
            both = [simulate_camera(picture, recipe.camera, np.random.default_rng(seed)) for picture in both]
        rainy, wanted = map(_rounded, both)
        return rainy, wanted


class PairPatches(Dataset[tuple[Tensor, Tensor]]):
    """Patches of ready-made (rainy, clean) pairs; endless.

    Args:
        folders: from :func:`derain.data.find_pairs`.
        stride: ``None`` cuts at random places and mirrors half of the patches; a number cuts on the grid
            of that stride without mirroring, each patch once an epoch, as the authors of PReNet and SAPNet do.
        seed: of all chance.

    Gives the same as :class:`RainOnTheFly`; each pair (or grid patch) comes once before any comes twice.

    A pair that cannot be read, or whose sizes differ, is told once and left out.

    Raises:
        InputError: no pairs; later, a picture smaller than the patch, or too many that cannot be read.
    """

    def __init__(self, folders: Sequence[PairedFolder], *, stride: int | None = None, seed: int = 0) -> None:
        self.pairs = [pair for folder in folders for pair in folder.pairs]
        if not self.pairs:
            raise InputError(f"{', '.join(str(f.root) for f in folders) or 'no folder'}: no pairs to train on")
        self.stride = stride
        self.seed = seed
        self._kept = _Pictures(len(self.pairs))
        self._grids: dict[int, npt.NDArray[np.int64]] = {}
        self._order: tuple[tuple[int, int], npt.NDArray[np.int64]] = ((-1, 0), np.empty(0, np.int64))

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor]:
        number, side = request
        _one_thread_in_workers()
        mirror = False
        if self.stride is None:
            place = self._shuffled(number, len(self.pairs))
            while (size := self._size(place, side)) is None:
                place = (place + 1) % len(self.pairs)
            height, width = size
            rng = np.random.default_rng([self.seed, 1, number])
            y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            mirror = bool(rng.random() < 0.5)
        else:
            grid = self._grid(side, self.stride)
            place, y, x = (int(v) for v in grid[self._shuffled(number, len(grid))])
        pictures = self._kept.pair(self.pairs[place])
        assert pictures is not None, "its size was known"
        patches = [picture[y : y + side, x : x + side] for picture in pictures]
        if mirror:
            patches = [patch[:, ::-1] for patch in patches]
        rainy, clean = (_planes(patch.astype(np.float32) / np.float32(255)) for patch in patches)
        return rainy, clean

    def patches_in_epoch(self, side: int) -> int:
        """How many patches come before one comes twice."""
        return len(self.pairs) if self.stride is None else len(self._grid(side, self.stride))

    def _size(self, place: int, side: int) -> tuple[int, int] | None:
        """Height and width of a pair; ``None`` if it cannot be read."""
        if (pictures := self._kept.pair(self.pairs[place])) is None:
            return None
        height, width = pictures[0].shape[:2]
        if min(height, width) < side:
            name = self.pairs[place].rainy
            raise InputError(f"{name}: {width}×{height} is smaller than a patch of {side}; use smaller patches")
        return height, width

    def _grid(self, side: int, stride: int) -> npt.NDArray[np.int64]:
        if side not in self._grids:
            places = []
            for place in range(len(self.pairs)):
                if (size := self._size(place, side)) is None:
                    continue
                height, width = size
                for y in range(0, height - side + 1, stride):
                    places += [(place, y, x) for x in range(0, width - side + 1, stride)]
            self._grids[side] = np.asarray(places)
        return self._grids[side]

    def _shuffled(self, number: int, count: int) -> int:
        epoch, place = divmod(number, count)
        if (epoch, count) != self._order[0]:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(count)
            self._order = ((epoch, count), order)
        return int(self._order[1][place])


class _Pictures:
    """Decoded pictures, the most recently used ones kept; ``None`` for those that cannot be read."""

    def __init__(self, files: int) -> None:
        self._enough = min(files, _ENOUGH_UNREADABLE)
        self._kept: OrderedDict[Path, tuple[Picture, ...]] = OrderedDict()
        self._bytes = 0
        self._unreadable: set[Path] = set()

    def read(self, path: Path) -> Picture | None:
        found = self._get(path, lambda: (read_rgb(path),))
        return found[0] if found is not None else None

    def pair(self, pair: Pair) -> tuple[Picture, ...] | None:
        return self._get(pair.rainy, pair.read)

    def _get(self, key: Path, read: Callable[[], tuple[Picture, ...]]) -> tuple[Picture, ...] | None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key in self._unreadable:
            return None
        try:
            found = read()
        except InputError as error:
            self._unreadable.add(key)
            print(f"warning: {error}; left out of the training", file=sys.stderr, flush=True)
            if len(self._unreadable) >= self._enough:
                raise InputError(f"{len(self._unreadable)} pictures cannot be read; see `derain data check`") from None
            return None
        self._kept[key] = found
        self._bytes += sum(picture.nbytes for picture in found)
        while self._bytes > CACHE_BYTES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= sum(picture.nbytes for picture in dropped)
        return found

    def __reduce__(self) -> tuple[type[_Pictures], tuple[int]]:
        return _Pictures, (self._enough,)  # a worker reads its own


def random_patch(picture: Picture, side: int, min_scale: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A random square of a picture, reduced at random, mirrored half of the time.

    Args:
        picture: ``(H, W, 3)`` uint8; enlarged if smaller than the patch.
        side: of the patch, pixels.
        smallest: least scale; 3 of 10 patches keep the picture's own.
        rng: the only source of chance.

    Returns:
        ``(side, side, 3)`` float32 in [0, 1].
    """
    height, width = picture.shape[:2]
    low = min(1.0, max(side / min(height, width), min_scale))
    scale = rng.uniform(low, 1.0) if rng.random() < 0.7 else 1.0
    take = min(math.ceil(side / scale), height, width)
    y, x = int(rng.integers(height - take + 1)), int(rng.integers(width - take + 1))
    piece = picture[y : y + take, x : x + take]
    if take != side:
        piece = np.asarray(cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return piece.astype(np.float32) / np.float32(255)


def _normalized(weights: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(weights, np.float64)
    if (values < 0).any() or values.sum() <= 0:
        raise ValueError(f"weights must not be negative, nor all zero: {list(weights)}")
    normalized: npt.NDArray[np.float64] = values / values.sum()
    return normalized


def _rounded(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The nearest 8-bit values."""
    rounded: npt.NDArray[np.float32] = np.round(picture * 255) / np.float32(255)
    return rounded


def _one_thread_in_workers() -> None:
    if get_worker_info() is not None:
        cv2.setNumThreads(1)


def _planes(picture: npt.NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
