"""What downstream tasks are measured on: which images, and under which conditions."""

from derain.evaluation.conditions import evenly_spaced


def test_samples_are_spread_evenly_and_keep_their_index():
    assert [index for index, _ in evenly_spaced(list(range(10)), 4)] == [0, 2, 5, 7]
    assert evenly_spaced(["a", "b"], None) == evenly_spaced(["a", "b"], 9) == [(0, "a"), (1, "b")]
