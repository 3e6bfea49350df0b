"""The speed benchmark: what it counts."""

from __future__ import annotations

import pytest
import torch

from derain.errors import InputError
from derain.evaluation.benchmark import measure_speed


def test_operations_are_counted_by_the_formula(small_weight):
    """For the tiny U-Net at 64×48: kernel × inputs × outputs × positions of each convolution, summed by hand."""
    convolutions = [  # (inputs, outputs, kernel area, positions)
        (12, 8, 9, 32 * 24),
        *[(8, 16, 9, 32 * 24), (8, 8, 1, 32 * 24)] * 2,
        (8, 16, 4, 16 * 12),
        *[(16, 32, 9, 16 * 12), (16, 16, 1, 16 * 12)],
        (16, 32, 1, 16 * 12),
        (8, 12, 9, 32 * 24),
    ]
    expected = sum(inputs * outputs * area * positions for inputs, outputs, area, positions in convolutions)
    threads = torch.get_num_threads()
    results = measure_speed([str(small_weight)], ["torch"], width=64, height=48, repeats=2, threads=1)
    row = results["rows"][0]
    assert row["gmacs"] == pytest.approx(expected / 1e9)
    assert row["gflops"] == pytest.approx(2 * row["gmacs"] / (row["milliseconds"] / 1000))
    assert row["fastest"] <= row["milliseconds"]
    assert row["of_peak"] == pytest.approx(row["gflops"] / results["peak_gflops"][f"cpu {row['precision']}"])
    assert results["threads"] == 1
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("counts", [{"width": 0}, {"repeats": 0}, {"threads": 0}])
def test_sizes_and_counts_must_be_positive(counts):
    with pytest.raises(InputError, match="at least 1"):
        measure_speed([], [], **counts)
