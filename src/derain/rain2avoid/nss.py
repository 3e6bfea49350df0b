"""NSS: non-local stochastic sampling of derained references (Rain2Avoid, ICASSP 2023, section 2.2).

A rain pixel takes the color of a clean pixel near it, sampled at random: the more similar their surroundings,
the more probable. Many samples give many stochastic derained references (SDRs) of an image.

For each rain pixel i, ``D(i, j) = Σ_u V(i+u) · |I(i+u) − I(j+u)|₁`` over a window of ``similarity²``
pixels, V being 1 where the map is 0; candidates j are the clean pixels among the ``neighbors²`` around
i; ``p_j ∝ 1 / max(D^power, 1e-4)``. The similarity window grows by two pixels until it holds a clean one.
As in the authors' code only the mask around i counts, not that around j, and beyond the border the image is
black and clean.

The authors loop over pixels and candidates. Here one box filter for each shift gives the distances of all
pixels at once, exactly, because they are sums of integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import to_uint8
from derain.errors import InputError

_MIN_DISTANCE = 1e-4  # of D ** power, so that equal surroundings do not divide by zero


class Sampler:
    """The candidates of one image and their probabilities.

    Args:
        image: ``(H, W, 3)`` uint8, or float in [0, 1]; distances are computed on 8 bits, references copy
            the image's own values.
        rain_map: ``(H, W)`` uint8 from :func:`derain.rain2avoid.ldgp`; candidates are where it is 0.
        threshold: pixels above it are rain and are replaced; those from 1 to it are neither replaced nor
            candidates.
        neighbors: side of the square that is searched for candidates (the authors' K).
        similarity: minimum side of the square that is compared (the authors' k).
        power: the authors' η.

    Attributes:
        rain: ``(n,)`` flat indices of the rain pixels that have a candidate; all others stay unchanged.
        weights: ``(neighbors², n)`` float32, unnormalized, in raster order of the neighbors; 0 where
            there is no candidate. The largest array: 196 bytes per rain pixel.

    Raises:
        InputError: shapes that do not fit, or sides that are not odd.
    """

    def __init__(
        self,
        image: npt.NDArray[Any],
        rain_map: npt.NDArray[np.uint8],
        *,
        threshold: int = 10,
        neighbors: int = 7,
        similarity: int = 3,
        power: float = 0.5,
    ) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.shape[:2] != rain_map.shape:
            raise InputError(
                f"an image of {image.shape} and a map of {rain_map.shape} do not match; use (H, W, 3) and (H, W)"
            )
        if neighbors < 3 or neighbors % 2 == 0 or similarity < 1 or similarity % 2 == 0:
            raise InputError(f"windows of {neighbors} and {similarity} pixels have no center; use odd sides from 3")
        self.image = np.ascontiguousarray(image)
        self.neighbors = neighbors
        reach = neighbors // 2
        height, width = rain_map.shape
        clean = rain_map == 0
        # Distance to the nearest clean pixel over squares; without any within reach there is no candidate.
        away = cv2.distanceTransform((~clean).astype(np.uint8), cv2.DIST_C, 3) if clean.any() else None
        if away is None:
            away = np.full(rain_map.shape, np.inf, np.float32)
        found = np.flatnonzero((rain_map > threshold) & (away <= reach))
        self.rain: npt.NDArray[np.intp] = found
        self.weights = np.zeros((neighbors**2, len(found)), np.float32)
        if not len(found):
            return
        half = np.maximum(away.ravel()[found].astype(np.intp), similarity // 2)
        groups = {int(h): np.flatnonzero(half == h) for h in np.unique(half)}
        margin = reach + max(groups)
        image8 = to_uint8(self.image)
        planes = [np.pad(image8[..., channel], margin) for channel in range(3)]
        visible = np.pad(np.where(clean, 0xFFFF, 0).astype(np.uint16), margin, constant_values=0xFFFF)
        border = np.pad(clean, reach)
        padded_width = width + 2 * margin
        rows, columns = np.divmod(found, width)
        inside = [(rows[g] + margin) * padded_width + columns[g] + margin for g in groups.values()]
        for number in range(neighbors**2):
            dy, dx = number // neighbors - reach, number % neighbors - reach
            if dy == dx == 0:
                continue
            # A cyclic shift wraps only inside the margin's outermost ring, which no window reaches.
            differences = np.zeros(visible.shape, np.uint16)
            for plane in planes:
                one = cv2.absdiff(plane, np.roll(plane, (-dy, -dx), (0, 1)))
                cv2.add(differences, one, dst=differences, dtype=cv2.CV_16U)
            cv2.bitwise_and(differences, visible, dst=differences)
            candidate = border[reach + dy : reach + dy + height, reach + dx : reach + dx + width].ravel()[found]
            for (h, group), places in zip(groups.items(), inside, strict=True):
                summed = cv2.boxFilter(differences, cv2.CV_32F, (2 * h + 1, 2 * h + 1), normalize=False)
                distance = summed.ravel()[places].astype(np.float64)
                weight = 1 / np.maximum(distance**power, _MIN_DISTANCE)
                self.weights[number, group] = np.where(candidate[group], weight, 0)

    def references(self, count: int = 50, *, seed: int = 0, independent: bool = False) -> Iterator[npt.NDArray[Any]]:
        """Sample references one after another.

        Args:
            count: how many (the authors' N).
            seed: of the samples; 0 with ``independent`` off gives the authors' references.
            independent: sample each pixel independently. The authors restart their generator at every pixel, so
                that all pixels of a reference take the same quantile of their candidates.

        Yields:
            ``(H, W, 3)`` arrays of the image's type, each a new one.
        """
        cumulated = self._cumulated()
        shared = np.random.RandomState(seed).random_sample(count)  # the authors' generator
        rng = np.random.default_rng(seed)
        for number in range(count):
            uniform: Any = rng.random(len(self.rain)) if independent else shared[number]
            yield self._take((cumulated <= uniform).sum(axis=0))

    def fused(self, count: int = 50, *, seed: int = 0, independent: bool = False) -> npt.NDArray[np.float32]:
        """The mean of ``count`` references, ``(H, W, 3)`` float32 in [0, 1]; see :meth:`references`."""
        total = np.zeros(self.image.shape, np.float64)
        for reference in self.references(count, seed=seed, independent=independent):
            total += reference
        return (total / (count * _white(self.image))).astype(np.float32)

    def expected(self) -> npt.NDArray[np.float32]:
        """The limit of :meth:`fused` for many references, ``(H, W, 3)`` float32 in [0, 1].

        Σ_j p_j I(j): exact, and cheaper than sampling.
        """
        pixels = self.image.reshape(-1, 3)
        total = np.zeros((len(self.rain), 3), np.float64)
        mass = np.zeros(len(self.rain), np.float64)
        for number, weights in enumerate(self.weights):
            near = np.clip(self.rain + self._offset(number), 0, len(pixels) - 1)
            total += weights[:, None].astype(np.float64) * pixels[near]
            mass += weights
        result = (pixels / _white(self.image)).astype(np.float32)
        result[self.rain] = total / (mass * _white(self.image))[:, None]
        return result.reshape(self.image.shape)

    def _cumulated(self) -> npt.NDArray[np.float64]:
        weights: npt.NDArray[np.float64] = np.cumsum(self.weights, axis=0, dtype=np.float64)
        weights /= weights[-1]
        return weights

    def _offset(self, number: Any) -> Any:
        reach, width = self.neighbors // 2, self.image.shape[1]
        return (number // self.neighbors - reach) * width + number % self.neighbors - reach

    def _take(self, choice: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        reference = self.image.reshape(-1, 3).copy()
        reference[self.rain] = self.image.reshape(-1, 3)[self.rain + self._offset(choice)]
        return reference.reshape(self.image.shape)


def _white(image: npt.NDArray[Any]) -> float:
    return 255.0 if image.dtype == np.uint8 else 1.0
