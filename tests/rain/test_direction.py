"""One sign for the angle of all rain: degrees from vertical, positive when streaks lean to the right going down.

The direction is measured by scikit-image's structure tensor, independently of the renderers.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.draw import line
from skimage.feature import structure_tensor
from skimage.filters import gaussian

from derain.rain import (
    LibraryStreaks,
    NoiseParams,
    RainSpec,
    StreakLibrary,
    StreakParams,
    render,
    render_noise,
    render_streaks,
)


def measured_angle(layer: np.ndarray) -> float:
    """Dominant direction of the lines in a layer."""
    # Smoothed, because differences of neighboring pixels misjudge the slope of thin lines.
    smooth = gaussian(layer.astype(np.float64), 1.5)
    rr, rc, cc = (part.mean() for part in structure_tensor(smooth, order="rc"))
    _, vectors = np.linalg.eigh([[rr, rc], [rc, cc]])
    down, right = vectors[:, 0]  # along the lines the intensity changes least
    return math.degrees(math.atan(right / down))


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> StreakLibrary:
    """Vertical streaks."""
    folder = tmp_path_factory.mktemp("streaks")
    params = StreakParams(density=10, length=(30, 50), width=(2, 3), angle_jitter=0)
    layer = render_streaks((320, 500), params, np.random.default_rng(0))
    Image.fromarray((np.clip(layer, 0, 1) * 255).astype(np.uint8)).save(folder / "1.png")
    return StreakLibrary(folder)


@pytest.mark.parametrize(("right", "angle"), [(60, 26.57), (-60, -26.57), (0, 0)])
def test_a_line_drawn_down_to_the_right_has_a_positive_angle(right, angle):
    layer = np.zeros((160, 200))
    layer[line(20, 100, 140, 100 + right)] = 1
    assert measured_angle(layer) == pytest.approx(angle, abs=1)


@settings(max_examples=25)
@given(st.floats(-65, 65), st.integers(0, 1000))
def test_streaks_have_their_angle(angle, seed):
    params = StreakParams(density=15, length=(30, 50), width=(2, 3), angle=angle, angle_jitter=0.5)
    layer = render_streaks((300, 300), params, np.random.default_rng(seed))
    assert measured_angle(layer) == pytest.approx(angle, abs=4)


@settings(max_examples=25)
@given(st.floats(-65, 65), st.integers(0, 1000))
def test_noise_has_its_angle(angle, seed):
    params = NoiseParams(amount=0.004, length=30, angle=angle, thickness=0.6)
    layer = render_noise((300, 300), params, np.random.default_rng(seed))
    assert measured_angle(layer) == pytest.approx(angle, abs=4)


@settings(max_examples=25)
@given(st.floats(-65, 65), st.floats(0.7, 1.6), st.integers(0, 1000))
def test_library_streaks_have_their_angle(library, angle, zoom, seed):
    spec = RainSpec("light", (LibraryStreaks(angle, zoom, 1.0),))
    layer = render(spec, (260, 260), np.random.default_rng(seed), library)
    assert measured_angle(layer) == pytest.approx(angle, abs=4)
