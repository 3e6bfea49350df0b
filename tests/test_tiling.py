"""Tiles cover the image, their weights sum to one, and the result agrees with the untiled one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from derain import tiling


@given(st.integers(1, 700), st.integers(1, 20), st.data())
def test_spans_cover_the_axis_and_their_weights_sum_to_one(length, align, data):
    tile = data.draw(st.integers(align, 200))
    overlap = data.draw(st.integers(0, tile - align))
    spans = tiling.split_axis(length, tile, overlap, align)
    total = np.zeros(length)
    for span in spans:
        assert min(tile, length) - align < span.stop - span.start <= min(tile, length)
        assert span.start % align == 0
        total[span.start : span.stop] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for left, right in itertools.pairwise(spans):
        assert left.stop - right.start >= overlap


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "align"), [(0, 8, 2, 1), (5, 0, 0, 1), (5, 4, 4, 1), (5, 4, -1, 1), (99, 20, 8, 16)]
)
def test_impossible_splits_are_rejected(length, tile, overlap, align):
    with pytest.raises(ValueError, match="cannot split"):
        tiling.split_axis(length, tile, overlap, align)


def test_pointwise_functions_are_unchanged_by_tiling():
    image = np.random.default_rng(0).random((3, 150, 211), dtype=np.float32)
    tiled = tiling.run_tiled(lambda t: t**2, image, tile=64, overlap=16)
    np.testing.assert_allclose(tiled, image**2, atol=1e-6)


def test_a_bounded_receptive_field_gives_no_seams():
    image = np.random.default_rng(0).random((1, 150, 211), dtype=np.float32)

    def blur(t: np.ndarray) -> np.ndarray:
        return uniform_filter(t, (0, 9, 9), mode="reflect")

    tiled = tiling.run_tiled(blur, image, tile=64, overlap=32)
    # The blur reaches 4 pixels, less than a quarter of the overlap.
    np.testing.assert_allclose(tiled, blur(image), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3, 50])
@pytest.mark.parametrize(("tile", "overlap", "align"), [(64, 16, 1), (48, 40, 1), (64, 16, 16), (400, 16, 1)])
def test_bands_equal_the_sums_over_the_full_image(tile, overlap, align, batch):
    """Bit for bit, for all overlaps and batch sizes."""
    image = np.random.default_rng(0).random((3, 150, 211), dtype=np.float32)
    expected, tiles = np.zeros_like(image), 0
    for rows in tiling.split_axis(150, tile, overlap, align):
        for columns in tiling.split_axis(211, tile, overlap, align):
            piece = np.sqrt(image[:, rows.start : rows.stop, columns.start : columns.stop])
            weighted = piece * rows.weights[:, None] * columns.weights
            expected[:, rows.start : rows.stop, columns.start : columns.stop] += weighted
            tiles += 1
    calls, seen, below = [], [], 0

    def roots(pieces):
        calls.append(len(pieces))
        return [np.sqrt(piece) for piece in pieces]

    for start, band in tiling.run_in_bands(
        roots,
        lambda rows, columns: image[:, rows, columns],
        (150, 211),
        tile=tile,
        overlap=overlap,
        align=align,
        batch=batch,
        on_tile=lambda *n: seen.append(n),
    ):
        assert start == below
        below += band.shape[1]
        np.testing.assert_array_equal(band, expected[:, start:below])
    assert below == 150
    assert sum(calls) == tiles
    assert max(calls) <= batch
    assert [n[0] for n in seen] == list(np.cumsum(calls))
    assert seen[-1] == (tiles, tiles)
