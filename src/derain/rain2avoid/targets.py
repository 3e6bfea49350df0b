"""What Rain2Avoid trains toward: sampled references, their expectation, and new streaks of known truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray, to_chw, to_float, to_hwc
from derain.errors import InputError
from derain.rain import StreakParams, render_streaks

from .ldgp import Map, rain_angles
from .nss import Sampler
from .settings import Settings

_LAYERS = 8  # layers of new streaks to crop from


class Targets:
    """A rainy image, its rain map, and the references that the network is trained toward."""

    def __init__(
        self,
        image: npt.NDArray[Any],
        rain_map: Map,
        settings: Settings,
        *,
        online: bool,
        references: Sequence[npt.NDArray[Any]] | None,
    ) -> None:
        self.settings = settings
        self.online = online
        self.sampler = Sampler(image, rain_map)
        self.planes = to_planes(image)
        self.rain_map = rain_map
        # In the type they come in: 50 references of 100 images in uint8 take 2.3 GB.
        self.references = [to_chw(r) for r in references] if references is not None else None
        if self.references is not None and (
            not self.references or any(r.shape != self.planes.shape for r in self.references)
        ):
            raise InputError("references of other sizes than the image, or none; make them again")
        self.has_rain = len(self.sampler.rain) > 0 or self.references is not None
        self._expected: FloatArray | None = None
        self._sampled: list[npt.NDArray[Any]] | None = None

    def fused(self) -> FloatArray:
        """The mean of the references, ``(H, W, 3)``; in the fast schedule their expectation."""
        settings = self.settings
        if self.references is None and settings.schedule == "authors":
            return self.sampler.fused(settings.references, seed=settings.seed)
        return to_hwc(self.expected())

    def expected(self) -> FloatArray:
        """The expected reference, ``(3, H, W)``."""
        if self._expected is None:
            if self.references is not None:
                self._expected = np.mean([to_float(r) for r in self.references], axis=0, dtype=np.float32)
            else:
                self._expected = to_planes(self.sampler.expected())
        return self._expected

    def target(self, step: int) -> FloatArray:
        """The target of the fast schedule at a step, ``(3, H, W)``."""
        if not self.online or self.references is not None:
            return self.expected()
        seed = self.settings.seed * 1_000_003 + step
        return to_planes(next(self.sampler.references(1, seed=seed, independent=True)))

    def sampled(self) -> list[npt.NDArray[Any]]:
        """The references of the authors' schedules, in the order of their file names (0, 1, 10, 11, …).

        ``(3, H, W)`` in the type of the image.
        """
        if self.references is not None:
            return self.references
        if self._sampled is None:
            count = self.settings.references
            samples = [to_chw(r) for r in self.sampler.references(count, seed=self.settings.seed)]
            self._sampled = [samples[i] for i in sorted(range(count), key=str)]
        return self._sampled

    def streaks(self, rng: np.random.Generator) -> FloatArray:
        """``(n, H, W)``: new streaks in the image's own direction, to be added."""
        height, width = self.rain_map.shape
        angle = float(np.clip(rain_angles(to_hwc(self.planes))[0], -70, 70))
        layers = []
        for _ in range(_LAYERS):
            params = StreakParams(
                density=float(np.exp(rng.uniform(np.log(6), np.log(40)))),
                length=(8, 45),
                width=(0.9, 2.4),
                angle=float(np.clip(rng.normal(angle, 2), -75, 75)),
                angle_jitter=3,
                brightness=(0.03, float(rng.uniform(0.25, 0.7))),
                flicker=0.4,
                clumping=float(rng.uniform(0, 0.8)),
                blur=float(rng.uniform(0, 0.7)),
                depth_layers=2,
            )
            layers.append(render_streaks((height, width), params, rng))
        return np.minimum(np.stack(layers), 1)

    def endless(self) -> Iterator[FloatArray]:
        """New references without end, with the power of 1 that the authors use online."""
        sampler = Sampler(self.sampler.image, self.rain_map, power=1)
        while True:
            yield from (to_planes(r) for r in sampler.references(self.settings.references, seed=self.settings.seed))


def to_planes(image: npt.NDArray[Any]) -> FloatArray:
    """``(H, W, 3)`` uint8 or float in [0, 1] to ``(3, H, W)`` float32 in [0, 1]."""
    return to_float(to_chw(image))
