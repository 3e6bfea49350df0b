"""Split an image into overlapping tiles, process each, blend them: pure functions on numpy arrays.

The blend is a partition of unity: along each axis the weights of all tiles that cover a pixel sum to
one. Over an overlap they change linearly in its middle half and are zero in the outer quarter of each
tile, where the result suffers from the border. A translation-invariant function whose receptive field
reaches no farther than a quarter of the overlap therefore gives the same result with and without tiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray


@dataclass(frozen=True)
class Span:
    """One tile's range along one axis, with its blending weights (float32, one per pixel)."""

    start: int
    stop: int
    weights: FloatArray


def split_axis(length: int, tile: int, overlap: int, align: int = 1) -> list[Span]:
    """Cover ``length`` pixels with tiles of ``tile`` pixels that overlap by at least ``overlap``.

    Args:
        length: pixels along the axis, at least 1.
        tile: pixels of one tile; an axis that is not longer is one tile.
        overlap: minimum number of pixels that neighbors share; at most ``tile - align``.
        align: tiles start at multiples of this. A network that downsamples k times by 2 gives equal
            results only if tiles start at multiples of 2^k.

    Returns:
        The tiles in order, evenly spaced. The last one ends at the border and may be shorter by less
        than ``align``.

    Raises:
        ValueError: impossible numbers.
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


def run_in_bands(
    function: Callable[[list[FloatArray]], list[FloatArray]],
    crop: Callable[[slice, slice], FloatArray],
    size: tuple[int, int],
    *,
    tile: int,
    overlap: int,
    align: int = 1,
    batch: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, FloatArray]]:
    """Apply ``function`` tile by tile, and yield each band of rows as soon as no later tile overlaps it.

    Only one row of tiles is in memory as float at a time, regardless of the height of the image.

    Args:
        function: maps up to ``batch`` arrays ``(C, h, w)`` float32 to arrays of the same shapes.
        crop: returns the ``(C, h, w)`` float32 crop of the image for a slice of rows and one of columns.
        size: height and width of the image.
        tile: side of a tile, pixels.
        overlap: minimum number of pixels that neighboring tiles share.
        align: tiles start at multiples of this; see :func:`split_axis`.
        batch: maximum number of tiles per call of ``function``; they are from one row.
        on_tile: called with (tiles done, total tiles) after each call.

    Yields:
        The first row of a band, and the band: ``(C, rows, W)`` float32, valid until the next iteration. From top to
        bottom, without gaps.
    """
    height, width = size
    across, down = split_axis(width, tile, overlap, align), split_axis(height, tile, overlap, align)
    done, total = 0, len(across) * len(down)
    sums: FloatArray | None = None  # of one row of tiles
    for rows, following in itertools.zip_longest(down, down[1:]):
        for first in range(0, len(across), batch):
            row_part = across[first : first + batch]
            pieces = function([crop(slice(rows.start, rows.stop), slice(c.start, c.stop)) for c in row_part])
            done += len(row_part)
            if total == 1:
                sums = pieces[0]
            else:
                if sums is None:
                    sums = np.zeros((len(pieces[0]), max(r.stop - r.start for r in down), width), np.float32)
                for c, piece in zip(row_part, pieces, strict=True):
                    weighted = piece * rows.weights[:, None] * c.weights
                    sums[:, : piece.shape[1], c.start : c.stop] += weighted
            if on_tile is not None:
                on_tile(done, total)
        assert sums is not None
        finished = (height if following is None else following.start) - rows.start
        yield rows.start, sums[:, :finished]
        unfinished = sums[:, finished:].copy()  # the next row of tiles adds to these rows
        sums[:, : unfinished.shape[1]] = unfinished
        sums[:, unfinished.shape[1] :] = 0


def run_tiled(
    function: Callable[[FloatArray], FloatArray],
    image: FloatArray,
    *,
    tile: int,
    overlap: int,
    align: int = 1,
) -> FloatArray:
    """Apply ``function`` tile by tile and blend; see :func:`run_in_bands`, which needs no full image in float.

    Args:
        function: maps ``(C, h, w)`` float32 to the same shape.
        image: ``(C, H, W)`` float32.
        tile: side of a tile, pixels.
        overlap: minimum number of pixels that neighboring tiles share.
        align: tiles start at multiples of this; see :func:`split_axis`.

    Returns:
        ``(C, H, W)`` float32.
    """
    result = np.empty_like(image)
    for start, band in run_in_bands(
        lambda pieces: [function(piece) for piece in pieces],
        lambda rows, columns: image[:, rows, columns],
        (image.shape[1], image.shape[2]),
        tile=tile,
        overlap=overlap,
        align=align,
    ):
        result[:, start : start + band.shape[1]] = band
    return result
