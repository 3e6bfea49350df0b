"""The same image clean, with synthetic rain, and derained by models: what downstream tasks are measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from derain.arrays import FloatArray, UInt8Array, to_float, to_uint8
from derain.rain import apply_rain, sample_rain

#: Removes the rain from an image; both ``(H, W, 3)`` float32 in [0, 1].
Derain = Callable[[FloatArray], FloatArray]

T = TypeVar("T")

CLEAN, RAINY = "clean", "rainy"


def evenly_spaced(samples: Sequence[T], count: int | None) -> list[tuple[int, T]]:
    """``count`` samples spread evenly over the set (all if ``None``), each with its index in the set."""
    total = len(samples)
    count = total if count is None else min(count, total)
    return [(index, samples[index]) for index in (i * total // count for i in range(count))]


def rainy_version(clean: UInt8Array, preset: str, seed: int, index: int) -> UInt8Array:
    """An image with rain, 8 bits; index and seed determine it, so that a subset gets the rain of the full set."""
    rng = np.random.default_rng([seed, index])
    spec = sample_rain(preset, rng)
    return to_uint8(apply_rain(to_float(clean), spec, rng))


def versions(
    clean: UInt8Array, models: Mapping[str, Derain], preset: str, seed: int, index: int
) -> dict[str, UInt8Array]:
    """``clean``, ``rainy`` and one derained image for each model, all as if saved to 8-bit files."""
    rainy = rainy_version(clean, preset, seed, index)
    derained = {name: to_uint8(derain(to_float(rainy))) for name, derain in models.items()}
    return {CLEAN: clean, RAINY: rainy, **derained}


def stack_rows(rows: Sequence[UInt8Array], gap: int = 8) -> UInt8Array:
    """Images of any widths above each other, on white."""
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(r, ((0, gap), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows])


def recovery(clean: float, rainy: float, derained: float) -> float | None:
    """The share of what rain costs that deraining wins back; ``None`` where rain costs nothing."""
    loss = clean - rainy
    return (derained - rainy) / loss if loss > 0 else None
