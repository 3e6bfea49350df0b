"""Frames in order through a network, with or without temporal fusion: shared by clips and folders of frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from derain.arrays import FloatArray

from .fusion import temporal_fuse

#: Maps a frame, ``(H, W, 3)`` RGB in [0, 1], to the derained one.
FrameNetwork = Callable[[FloatArray], FloatArray]
#: Called with (frames done, frames in total).
OnFrame = Callable[[int, int], None]
Item = TypeVar("Item")


def restore_sequence(
    items: Iterable[Item], restore: Callable[[Item], FloatArray], *, fuse: bool
) -> Iterator[tuple[Item, FloatArray]]:
    """Restore items in order and yield each with its result.

    Args:
        items: the frames, in any form.
        restore: maps an item to its derained pixels.
        fuse: fuse results with those of the neighbors, which delays them by some items.
    """
    pending: deque[Item] = deque()

    def results() -> Iterator[FloatArray]:
        for item in items:
            pending.append(item)
            yield restore(item)

    for result in temporal_fuse(results()) if fuse else results():
        yield pending.popleft(), result


def blend(before: FloatArray, after: FloatArray, strength: float) -> FloatArray:
    """Interpolate linearly between a frame (strength 0) and its result (strength 1)."""
    return after if strength == 1 else before + np.float32(strength) * (after - before)


def consecutive_runs(numbers: list[int]) -> Iterator[list[int]]:
    """Split ascending numbers into runs without gaps."""
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            yield run
            run = []
        run.append(number)
    if run:
        yield run
