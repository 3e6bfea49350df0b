"""Training patches, rained on while they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from derain.data.layouts import pictures_in, read_rgb
from derain.errors import InputError
from derain.rain import PRESETS, StreakLibrary, rain_on, sample_recipe


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
    smallest: float = 0.9

    def files(self) -> list[Path]:
        """All picture files, folder after folder.

        Raises:
            InputError: there is none.
        """
        found = [picture for folder in self.folders for picture in pictures_in(folder)]
        if not found:
            raise InputError(f"{', '.join(map(str, self.folders))}: no pictures here; give a folder of photographs")
        return found


class RainOnTheFly(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches of (rainy, clean) patches.

    Args:
        pools: where clean pictures come from.
        presets: rain presets and their weights; the name ``none`` stands for patches without rain,
            which teach a network to leave a dry photograph alone.
        patch: side of a patch, pixels. May be changed while workers run: :attr:`patch` is shared memory.
        batch: patches in a batch; :attr:`batch` likewise.
        scales: the rain's size is drawn log-uniformly from this range.
        streaks: folder of streak pictures as a further source.
        seed: of all chance; every worker draws its own stream.

    Yields:
        Two ``(batch, 3, patch, patch)`` float32 tensors in [0, 1], 8-bit values. Use ``batch_size=None``
        in a ``DataLoader``, and ``multiprocessing_context="spawn"`` with workers: OpenCV's threads do
        not survive a fork.

    Raises:
        InputError: no pictures, or no streak pictures.
        ValueError: unknown preset.
    """

    def __init__(
        self,
        pools: Sequence[CleanPool],
        presets: Mapping[str, float],
        *,
        patch: int = 128,
        batch: int = 8,
        scales: tuple[float, float] = (0.8, 1.6),
        streaks: Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        unknown = set(presets) - set(PRESETS) - {"none"}
        if unknown or not presets:
            raise ValueError(f"unknown rain presets {sorted(unknown)}; choose from {', '.join(PRESETS)} and none")
        self.files = [pool.files() for pool in pools]
        self.pools = list(pools)
        self.presets = dict(presets)
        self.scales = scales
        self.library = StreakLibrary(streaks) if streaks is not None else None
        self.seed = seed
        self.patch = _shared(patch)
        self.batch = _shared(batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        if worker is not None:
            cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, worker.id if worker is not None else 0])
        pictures = [[read_rgb(p) for p in files] for files in self.files]
        shares = _normalised([pool.share for pool in self.pools])
        names, weights = list(self.presets), _normalised(list(self.presets.values()))
        while True:
            side, count = int(self.patch), int(self.batch)
            rainy = np.empty((count, side, side, 3), np.float32)
            clean = np.empty_like(rainy)
            for i in range(count):
                group = int(rng.choice(len(shares), p=shares))
                clean[i] = random_patch(pictures[group], side, self.pools[group].smallest, rng)
                rainy[i] = self._rain(clean[i], str(rng.choice(names, p=weights)), rng)
            yield torch.from_numpy(_planes(rainy)), torch.from_numpy(_planes(clean))

    def _rain(self, clean: npt.NDArray[np.float32], preset: str, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        if preset == "none":
            return clean
        recipe = sample_recipe(preset, rng, self.library)
        scale = math.exp(rng.uniform(math.log(self.scales[0]), math.log(self.scales[1])))
        rainy = rain_on(clean, recipe, rng, self.library, scale)
        rounded: npt.NDArray[np.float32] = np.round(rainy * 255) / np.float32(255)
        return rounded


def random_patch(
    pictures: Sequence[npt.NDArray[np.uint8]], side: int, smallest: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """A random square of a random picture, reduced at random, mirrored half of the time.

    Args:
        pictures: ``(H, W, 3)`` uint8 each; those smaller than the patch are enlarged.
        side: of the patch, pixels.
        smallest: least scale; 3 of 10 patches keep the picture's own.
        rng: the only source of chance.

    Returns:
        ``(side, side, 3)`` float32 in [0, 1].
    """
    picture = pictures[int(rng.integers(len(pictures)))]
    height, width = picture.shape[:2]
    low = min(1.0, max(side / min(height, width), smallest))
    scale = rng.uniform(low, 1.0) if rng.random() < 0.7 else 1.0
    take = min(math.ceil(side / scale), height, width)
    y, x = int(rng.integers(height - take + 1)), int(rng.integers(width - take + 1))
    piece = picture[y : y + take, x : x + take]
    if take != side:
        piece = np.asarray(cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return piece.astype(np.float32) / np.float32(255)


def _normalised(weights: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(weights, np.float64)
    if (values < 0).any() or values.sum() <= 0:
        raise ValueError(f"weights must not be negative, nor all zero: {list(weights)}")
    normalised: npt.NDArray[np.float64] = values / values.sum()
    return normalised


def _shared(value: int) -> Tensor:
    """A number that workers see change."""
    shared: Tensor = torch.tensor(value).share_memory_()  # type: ignore[no-untyped-call]
    return shared


def _planes(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
