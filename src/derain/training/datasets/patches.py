"""Training patches of clean images with rain that is rendered on the fly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset

from derain.arrays import FloatArray, UInt8Array, to_float
from derain.rain import PRESETS, LayerLibrary, StreakLibrary, apply_rain, sample_rain, simulate_camera

from .distractors import draw_distractors
from .sources import CleanPool, ImageCache, Request, limit_worker_threads, to_tensor


class RainOnTheFly(Dataset[tuple[Tensor, Tensor]]):
    """Patches of clean images, with rain rendered when they are requested; endless.

    Args:
        pools: where clean images come from.
        presets: rain presets and their weights; ``none`` stands for patches without rain, from which a
            network learns to leave a rain-free image alone, ``layers`` for rain from ``layers``.
        scales: the rain's size is drawn log-uniformly from this range.
        streaks: folder of streak images as a further source.
        layers: folder of rain layers, added as they are; see :class:`derain.rain.LayerLibrary`.
        seed: of all randomness.
        leave_out: files that are not used, because they are validated on.
        distractors: share of the clean patches that lines are drawn into, see
            :func:`~derain.training.datasets.distractors.draw_distractors`.
        rotate90: share of the clean patches that are rotated by 90 degrees before it rains.
        augment: scale and mirror the patches at random.
        streaks_only: fog, grain and compression of the preset ``real`` are part of the target, so that a
            network learns to remove streaks and nothing else. Half of the patches without rain get them too.

    ``self[number, side]`` is a rainy and a clean ``(3, side, side)`` float32 tensor in [0, 1] with 8-bit
    values. In a ``DataLoader`` use ``multiprocessing_context="spawn"`` with workers: OpenCV's threads do
    not survive a fork.

    An image that cannot be read is reported once and left out.

    Raises:
        InputError: no images, or no streak images; later, if too many images cannot be read.
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
        augment: bool = True,
        streaks_only: bool = False,
    ) -> None:
        unknown = set(presets) - set(PRESETS) - {"none", "layers"}
        if unknown or not presets:
            known = ", ".join(PRESETS)
            raise ValueError(f"unknown rain presets {sorted(unknown)}; choose from {known}, layers and none")
        if presets.get("layers") and layers is None:
            raise ValueError("rain from layers needs a folder of rain layers")
        remaining = [(pool, [path for path in pool.files() if path not in leave_out]) for pool in pools]
        remaining = [(pool, files) for pool, files in remaining if files]
        self.files = [files for _, files in remaining]
        self.min_scales = [pool.min_scale for pool, _ in remaining]
        self.shares = _normalized([pool.share for pool, _ in remaining])
        self.presets = list(presets)
        self.weights = _normalized(list(presets.values()))
        self.scales = scales
        self.library = StreakLibrary(streaks) if streaks is not None else None
        self.layers = LayerLibrary(layers) if layers is not None else None
        self.seed = seed
        self.distractors, self.rotate90, self.streaks_only = distractors, rotate90, streaks_only
        self.augment = augment
        self.cache = ImageCache(sum(map(len, self.files)))

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor]:
        number, side = request
        limit_worker_threads()
        rng = np.random.default_rng([self.seed, number])
        image = None
        while image is None:
            pool = int(rng.choice(len(self.shares), p=self.shares))
            path = self.files[pool][int(rng.integers(len(self.files[pool])))]
            image = self.cache.read(path)
        clean = self._augment(random_patch(image, side, self.min_scales[pool], rng, augment=self.augment), rng)
        rainy, target = self._rain(clean, str(rng.choice(self.presets, p=self.weights)), rng)
        return to_tensor(rainy), to_tensor(target)

    def _augment(self, clean: FloatArray, rng: np.random.Generator) -> FloatArray:
        # What is off draws no random number, so that adding an augmentation leaves earlier recipes' patches alone.
        if self.rotate90 and rng.random() < self.rotate90:
            clean = np.ascontiguousarray(np.rot90(clean))
        if self.distractors and rng.random() < self.distractors:
            clean = _rounded(draw_distractors(clean, rng))
        return clean

    def _rain(self, clean: FloatArray, preset: str, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Rainy image and target."""
        if preset == "none":
            if self.streaks_only and rng.random() < 0.5:
                # Fog, grain and compression are no sign of rain.
                clean = _rounded(apply_rain(clean, replace(sample_rain("real", rng), layers=()), rng))
            return clean, clean
        if preset == "layers":
            assert self.layers is not None, "checked in the constructor"
            layer = self.layers.sample((clean.shape[0], clean.shape[1]), rng)
            return _rounded(np.minimum(clean + layer[..., None], np.float32(1))), clean
        spec = sample_rain(preset, rng, self.library)
        scale = math.exp(rng.uniform(math.log(self.scales[0]), math.log(self.scales[1])))
        if not self.streaks_only:
            return _rounded(apply_rain(clean, spec, rng, self.library, scale)), clean
        scene = replace(spec, camera=None)
        rainy = apply_rain(clean, scene, rng, self.library, scale)
        target = apply_rain(clean, replace(scene, layers=()), rng)
        if spec.camera is not None:
            seed = int(rng.integers(2**32))  # the same grain in both
            rainy, target = (simulate_camera(x, spec.camera, np.random.default_rng(seed)) for x in (rainy, target))
        return _rounded(rainy), _rounded(target)


def random_patch(
    image: UInt8Array, side: int, min_scale: float, rng: np.random.Generator, *, augment: bool = True
) -> FloatArray:
    """A random square of an image, reduced at random, mirrored half of the time.

    Args:
        image: ``(H, W, 3)`` uint8; enlarged if smaller than the patch.
        side: of the patch, pixels.
        min_scale: smallest scale; 3 of 10 patches keep the image's own.
        rng: source of all randomness.
        augment: if false, the square is neither reduced nor mirrored.

    Returns:
        ``(side, side, 3)`` float32 in [0, 1].
    """
    height, width = image.shape[:2]
    low = min(1.0, max(side / min(height, width), min_scale))
    scale = rng.uniform(low, 1.0) if augment and rng.random() < 0.7 else 1.0
    take = min(math.ceil(side / scale), height, width)
    y, x = int(rng.integers(height - take + 1)), int(rng.integers(width - take + 1))
    piece = image[y : y + take, x : x + take]
    if take != side:
        piece = np.asarray(cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    if augment and rng.random() < 0.5:
        piece = piece[:, ::-1]
    return to_float(piece)


def _normalized(weights: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(weights, np.float64)
    if (values < 0).any() or values.sum() <= 0:
        raise ValueError(f"weights must not be negative, nor all zero: {list(weights)}")
    normalized: npt.NDArray[np.float64] = values / values.sum()
    return normalized


def _rounded(image: FloatArray) -> FloatArray:
    """The nearest 8-bit values; halves to even and unclipped, unlike derain.arrays, so that patches never change."""
    rounded: FloatArray = np.round(image * 255) / np.float32(255)
    return rounded
