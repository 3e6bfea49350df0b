"""Colors of classes."""

from __future__ import annotations

import numpy as np

from derain.segmentation.colors import colored, palette


def test_every_class_has_its_own_color():
    table = palette()
    assert table.shape == (256, 3)
    assert len({tuple(c) for c in table.tolist()}) == 256
    assert np.array_equal(colored(np.array([[3, 255]])), [[[128, 64, 128], [0, 0, 0]]])
