"""The data of a recipe: which patches make up a batch, and what is validated on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from derain.arrays import UInt8Array, to_float, to_uint8
from derain.data.layouts import Pair, PairedFolder, read_rgb
from derain.data.matching import natural_key
from derain.data.recognize import open_pairs
from derain.errors import InputError, RecipeError
from derain.rain import apply_rain, sample_rain
from derain.training.recipe import BaseRecipe, Recipe

from .pairs import PairPatches
from .patches import RainOnTheFly
from .sources import CleanPool, Request, to_tensor

# Validation's rain has its own random stream, the same in every run.
_VALIDATION_SEED = 90_001


class PhasedBatches(Sampler[list[Request]]):
    """The requests of each step of this process, for one interval of ``validation.every`` steps.

    Patches are numbered through the run, so a process that starts at any interval continues as if it had
    never stopped, and any number of processes shares the same patches.

    Args:
        recipe: of the run.
        rank, world: number of this process, and of all.
        start: the step and the interval that a process starts at. A run that ended within an interval and is
            prolonged starts the next one there.
    """

    def __init__(self, recipe: BaseRecipe, rank: int = 0, world: int = 1, start: tuple[int, int] = (0, 0)) -> None:
        self.recipe, self.rank, self.world, self.start = recipe, rank, world, start
        self.interval = start[1]
        self.sampler = self  # where Lightning looks for `set_epoch`
        if uneven := [p.batch for p in recipe.phases if p.batch % world]:
            raise RecipeError(f"phases: a batch of {uneven[0]} cannot be shared by {world} devices; use a multiple")

    def set_epoch(self, epoch: int) -> None:
        """Lightning's epoch is an interval here."""
        self.interval = epoch

    def __len__(self) -> int:
        return len(self._steps())

    def __iter__(self) -> Iterator[list[Request]]:
        for step in self._steps():
            phase = self.recipe.phase(step)
            first = self.patches_before(step)
            yield [(first + i, phase.size) for i in range(self.rank, phase.batch, self.world)]

    def patches_before(self, step: int) -> int:
        """Number of patches in all earlier steps."""
        total, ends = 0, [p.start for p in self.recipe.phases[1:]] + [1.0]
        begin = 0
        for phase, end in zip(self.recipe.phases, ends, strict=True):
            stop = min(step, _first_step(end, self.recipe.schedule.length))
            total += max(0, stop - begin) * phase.batch
            begin = max(begin, stop)
        return total

    def _steps(self) -> range:
        every, (step, interval) = self.recipe.validation.every, self.start
        first = step + (self.interval - interval) * every
        return range(first, min(first + every, self.recipe.schedule.length))


def _first_step(share: float, steps: int) -> int:
    """The first step with ``step / steps >= share``."""
    step = max(0, int(share * steps) - 1)
    while step / steps < share:
        step += 1
    return step


class MixedPatches(Dataset[tuple[Tensor, Tensor]]):
    """Two sources; each request goes to the first with the given probability."""

    def __init__(self, first: PairPatches, second: RainOnTheFly, share: float, seed: int) -> None:
        self.first, self.second, self.share, self.seed = first, second, share, seed

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor]:
        draw = np.random.default_rng([self.seed, 2, request[0]]).random()
        return self.first[request] if draw < self.share else self.second[request]


class ValidationPairs(Dataset[tuple[str, Tensor, Tensor]]):
    """Whole images with the name of their set.

    Args:
        pairs: (set, pair) to be read.
        clean: (set, clean image) that rain of the recipe's presets is rendered onto, always the same.
        recipe: of the run.
    """

    def __init__(self, pairs: Sequence[tuple[str, Pair]], clean: Sequence[tuple[str, Path]], recipe: Recipe) -> None:
        self.pairs, self.clean, self.recipe = list(pairs), list(clean), recipe

    def __len__(self) -> int:
        return len(self.pairs) + len(self.clean)

    def __getitem__(self, index: int) -> tuple[str, Tensor, Tensor]:
        if index < len(self.pairs):
            name, pair = self.pairs[index]
            rainy, clean = (self._crop(image) for image in pair.read())
            return name, _to_batch(rainy), _to_batch(clean)
        index -= len(self.pairs)
        name, path = self.clean[index]
        clean = self._crop(read_rgb(path))
        rng = np.random.default_rng([_VALIDATION_SEED, index])
        rendered = [p for p, weight in self.recipe.data.rain.items() if p not in ("none", "layers") and weight > 0]
        presets = rendered or ["mixed"]
        spec = sample_rain(presets[index % len(presets)], rng)
        rainy = to_uint8(apply_rain(to_float(clean), spec, rng))
        return name, _to_batch(rainy), _to_batch(clean)

    def _crop(self, image: UInt8Array) -> UInt8Array:
        if (side := self.recipe.validation.crop) is None:
            return image
        y, x = (max(0, (length - side) // 2) for length in image.shape[:2])
        return image[y : y + side, x : x + side]


class TrainingData(pl.LightningDataModule):
    """Training patches and validation images of a recipe.

    Attributes:
        recipe: with its length in steps, which may follow from the number of images.
        start: see :class:`PhasedBatches`.

    Raises:
        RecipeError: nothing to train on.
        InputError: a folder without images or pairs.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.start = (0, 0)
        data = recipe.data
        if not data.clean and not data.pairs:
            raise RecipeError(f"{recipe.name}: data: nothing to train on; add --data DIR (clean photographs, or pairs)")
        if data.clean and data.rain.get("layers") and data.layers is None:
            raise RecipeError(f"{recipe.name}: data.rain: layers needs rain layers; give data.layers=DIR")
        folders = [_cut(open_pairs(path, data.layout), data.range) for path in data.pairs]
        pools = [CleanPool(p.folders, p.share, p.min_scale) for p in data.clean]
        self._held_out: list[Path] = []
        self.validation = self._validation(folders, pools)
        held_out = frozenset(self._held_out)
        live = pairs = None
        if pools:
            live = RainOnTheFly(
                pools,
                data.rain,
                scales=data.rain_scale,
                streaks=data.streaks,
                layers=data.layers,
                seed=recipe.seed,
                leave_out=held_out,
                distractors=data.distractors,
                rotate90=data.rotate90,
                augment=data.augment,
                streaks_only=data.streaks_only,
            )
        if folders:
            remaining = [replace(f, pairs=tuple(p for p in f.pairs if p.clean not in held_out)) for f in folders]
            pairs = PairPatches(
                remaining,
                stride=data.stride,
                mirror=data.augment,
                mirrored_copies=data.mirrored_copies,
                seed=recipe.seed,
            )
            _report_small(pairs, {phase.size for phase in recipe.phases})
        self.patches: Dataset[tuple[Tensor, Tensor]]
        if live is not None and pairs is not None:
            self.patches = MixedPatches(pairs, live, data.pair_share, recipe.seed)
        else:
            self.patches = live or pairs  # type: ignore[assignment]

        def patches_per_epoch(side: int) -> float:
            if pairs is not None and (live is None or data.pair_share > 0):
                return len(pairs.corners(side)) / (1.0 if live is None else data.pair_share)
            assert live is not None, "there are clean images or pairs"
            return sum(map(len, live.files))

        self.recipe = recipe.with_data(patches_per_epoch)

    def _validation(self, folders: list[PairedFolder], pools: list[CleanPool]) -> ValidationPairs:
        """The validation set; sets ``_held_out`` to the clean images that are kept out of the training for it."""
        validation = self.recipe.validation
        if validation.pairs:
            sets = [open_pairs(path, self.recipe.data.layout) for path in validation.pairs]
            chosen = [(folder.root.name, pair) for folder in sets for pair in folder.pairs[: validation.count]]
            return ValidationPairs(chosen, [], self.recipe)
        if folders:
            pairs = [pair for folder in folders for pair in folder.pairs]
            scenes = sorted({pair.clean for pair in pairs}, key=lambda path: natural_key(str(path)))
            self._held_out = self._spread(scenes)
            by_scene = {p.clean: ("held-out", p) for p in pairs if p.clean in set(self._held_out)}
            return ValidationPairs(list(by_scene.values()), [], self.recipe)
        self._held_out = self._spread([path for pool in pools for path in pool.files()])
        return ValidationPairs([], [("held-out", path) for path in self._held_out], self.recipe)

    def _spread(self, paths: list[Path]) -> list[Path]:
        """Evenly spaced scenes to hold out; never so many that too little is left to train on."""
        count = min(self.recipe.validation.held_out, len(paths) // 2)
        if count == 0:
            raise InputError(f"{paths[0]}: one image is not enough to train and to validate on; add more")
        return [paths[i * len(paths) // count] for i in range(count)]

    def train_dataloader(self) -> DataLoader[Any]:
        """Patches of this process."""
        return patch_loader(self.patches, self.recipe, self.trainer, self.start)

    def val_dataloader(self) -> DataLoader[Any]:
        """Whole images, one at a time."""
        return DataLoader(self.validation, batch_size=None)


def patch_loader(
    patches: Dataset[Any], recipe: BaseRecipe, trainer: pl.Trainer | None, start: tuple[int, int] = (0, 0)
) -> DataLoader[Any]:
    """The loader of a process's patches, with the recipe's workers; ``start`` as in :class:`PhasedBatches`."""
    rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
    workers = recipe.trainer.workers
    if workers is None:
        workers = max(1, min(8, (os.cpu_count() or 2) // max(1, world) - 1))
    return DataLoader(
        patches,
        batch_sampler=PhasedBatches(recipe, rank, world, start),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=workers > 0,
        multiprocessing_context="spawn" if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def _cut(folder: PairedFolder, chosen: tuple[int, int] | None) -> PairedFolder:
    """The pairs of a range, counted from 1."""
    if chosen is None:
        return folder
    first, last = chosen
    if last > len(folder.pairs):
        raise InputError(f"{folder.root}: data.range ends at {last}, but there are {len(folder.pairs)} pairs")
    return replace(folder, pairs=folder.pairs[first - 1 : last])


def _report_small(pairs: PairPatches, sides: set[int]) -> None:
    """Report how many pairs are too small for some of the patches; an error if all are."""
    for side in sides:
        pairs.corners(side)
    if count := pairs.small(max(sides)):
        total = len(pairs.pairs)
        line = (
            f"warning: {count} of {total} pairs are smaller than a patch of {max(sides)} and left out of such patches"
        )
        print(line, file=sys.stderr, flush=True)


def _to_batch(image: UInt8Array) -> Tensor:
    """``(H, W, 3)`` uint8 to ``(1, 3, H, W)`` float32 in [0, 1]."""
    return to_tensor(to_float(image))[None]
