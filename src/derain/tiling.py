"""Split a picture into overlapping tiles, run each, blend them: pure functions on numpy arrays.

The blend is a partition of unity: along each axis the weights of all tiles that cover a pixel sum to
one. Over an overlap they change linearly in its middle half and ignore the outer quarter of each
tile, where the border has spoilt the result. A function that treats every pixel alike and sees no
farther than a quarter of the overlap therefore gives the same result tiled and whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """One tile's range along one axis, with its blending weights (float32, one a pixel)."""

    start: int
    stop: int
    weights: FloatArray


def split_axis(length: int, tile: int, overlap: int, align: int = 1) -> list[Span]:
    """Cover ``length`` pixels with tiles of ``tile`` pixels that overlap by at least ``overlap``.

    Args:
        length: pixels along the axis, at least 1.
        tile: pixels of one tile; a picture no longer than that is one tile.
        overlap: least pixels that neighbours share; at most ``tile - align``.
        align: tiles start at multiples of this. A network that halves its picture k times gives
            equal results only where a tile starts at a multiple of 2^k.

    Returns:
        The tiles in order, evenly spread. The last ends at the border, and may be shorter by less
        than ``align``.

    Raises:
        ValueError: numbers that cannot be met.
    """
    if length < 1 or tile < 1 or align < 1 or not 0 <= overlap <= tile - align:
        raise ValueError(
            f"cannot split {length} pixels into tiles of {tile} that overlap by {overlap} "
            f"and start at multiples of {align}"
        )
    if length <= tile:
        return [Span(0, length, np.ones(length, np.float32))]
    # In units of ``align``: the last start, and the longest step that keeps the overlap.
    last, step = -(-(length - tile) // align), (tile - overlap) // align
    count = -(-last // step) + 1
    starts = [i * last // (count - 1) * align for i in range(count)]
    stops = [min(start + tile, length) for start in starts]
    ramps = []
    for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        ramp = np.ones(stop - start, np.float64)
        if i > 0 and (shared := stops[i - 1] - start) > 0:
            ramp[:shared] = np.minimum(ramp[:shared], _rise(shared))
        if i + 1 < count and (shared := stop - starts[i + 1]) > 0:
            ramp[-shared:] = np.minimum(ramp[-shared:], _rise(shared)[::-1])
        ramps.append(ramp)
    total = np.zeros(length, np.float64)
    for start, stop, ramp in zip(starts, stops, ramps, strict=True):
        total[start:stop] += ramp
    return [
        Span(start, stop, (ramp / total[start:stop]).astype(np.float32))
        for start, stop, ramp in zip(starts, stops, ramps, strict=True)
    ]


def _rise(length: int) -> npt.NDArray[np.float64]:
    return np.clip(2 * (np.arange(length) + 0.5) / length - 0.5, 0, 1)


def tiles(height: int, width: int, tile: int, overlap: int, align: int = 1) -> Iterator[tuple[Span, Span]]:
    """All (row span, column span) pairs of a picture, row by row; see :func:`split_axis`."""
    columns = split_axis(width, tile, overlap, align)
    for rows in split_axis(height, tile, overlap, align):
        for column in columns:
            yield rows, column


def run_tiled(
    function: Callable[[FloatArray], FloatArray],
    picture: FloatArray,
    *,
    tile: int,
    overlap: int,
    align: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
) -> FloatArray:
    """Apply ``function`` tile by tile and blend.

    Args:
        function: maps ``(C, h, w)`` float32 to the same shape.
        picture: ``(C, H, W)`` float32.
        tile: side of a tile, pixels.
        overlap: least pixels that neighbouring tiles share.
        align: tiles start at multiples of this; see :func:`split_axis`.
        on_tile: called with (tiles done, tiles in all) after each tile.

    Returns:
        ``(C, H, W)`` float32.
    """
    _, height, width = picture.shape
    plan = list(tiles(height, width, tile, overlap, align))
    result = np.zeros_like(picture)
    for done, (rows, columns) in enumerate(plan, start=1):
        piece = function(picture[:, rows.start : rows.stop, columns.start : columns.stop])
        weighted = piece * rows.weights[:, None] * columns.weights
        result[:, rows.start : rows.stop, columns.start : columns.stop] += weighted
        if on_tile is not None:
            on_tile(done, len(plan))
    return result


def reflect_indices(length: int, before: int, after: int) -> npt.NDArray[np.intp]:
    """Indices that pad an axis by mirroring without repeating the border pixel, however wide the pad.

    ``reflect_indices(3, 2, 3)`` is ``[2, 1, 0, 1, 2, 1, 0, 1]``; one pixel is simply repeated.
    """
    if length == 1:
        return np.zeros(1 + before + after, np.intp)
    period = 2 * (length - 1)
    position = np.abs(np.arange(-before, length + after)) % period
    mirrored: npt.NDArray[np.intp] = np.minimum(position, period - position)
    return mirrored


def pad_to_rule(picture: FloatArray, *, multiple_of: int, minimum: int) -> FloatArray:
    """Pad ``(C, H, W)`` at the bottom and right by reflection until a network's size rule holds."""
    _, height, width = picture.shape

    def grown(n: int) -> int:
        return -(-max(n, minimum) // multiple_of) * multiple_of

    if grown(height) == height and grown(width) == width:
        return picture
    rows = reflect_indices(height, 0, grown(height) - height)
    columns = reflect_indices(width, 0, grown(width) - width)
    return picture[:, rows[:, None], columns]
