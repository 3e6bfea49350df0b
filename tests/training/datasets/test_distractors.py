"""Distractors: lines that change a part of an image and stay in range, reproducible by their seed."""

from __future__ import annotations

import numpy as np

from derain.training.datasets.distractors import draw_distractors


def test_lines_are_seeded_and_stay_in_range():
    image = np.full((64, 80, 3), 0.5, np.float32)
    changed = []
    for seed in range(20):
        drawn = draw_distractors(image, np.random.default_rng(seed))
        assert np.array_equal(drawn, draw_distractors(image, np.random.default_rng(seed)))
        assert drawn.shape == image.shape
        assert drawn.dtype == np.float32
        assert 0 <= drawn.min() <= drawn.max() <= 1
        changed.append((np.abs(drawn - image).max(axis=2) > 0.02).mean())
    assert np.array_equal(image, np.full_like(image, 0.5)), "the input is not changed"
    assert 0.01 < np.median(changed) < 0.8
    assert len(set(changed)) > 15
