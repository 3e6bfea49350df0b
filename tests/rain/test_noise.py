"""Motion-blurred noise."""

from __future__ import annotations

import numpy as np
import pytest

from derain.rain import NoiseParams, render_noise


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_mean_matches_the_closed_form():
    thin = NoiseParams(amount=0.001, length=20, brightness=0.5, thickness=0)
    mean = np.mean([render_noise((400, 400), thin, rng(i)).mean() for i in range(6)])
    # seeds per pixel · mean strength 0.7 · brightness · area of the line
    assert mean == pytest.approx(0.001 * 0.7 * 0.5 * 21, rel=0.12)


def test_invalid_parameters_raise():
    with pytest.raises(ValueError, match="invalid noise"):
        NoiseParams(amount=0)
    with pytest.raises(ValueError, match="angle"):
        NoiseParams(angle=80)
