"""A photograph under rendered rain, with its truth."""

from __future__ import annotations

import numpy as np
from skimage import data

from derain.rain import StreakParams, add_streaks, render_streaks


def raining(top=100, left=100, height=96, width=112, seed=0):
    clean = data.astronaut()[top : top + height, left : left + width].astype(np.float32) / 255
    streaks = StreakParams(density=18, length=(14, 40), angle=-12, angle_jitter=1, brightness=(0.15, 0.4))
    rainy = add_streaks(clean, render_streaks(clean.shape[:2], streaks, np.random.default_rng(seed)))
    return np.asarray(rainy, np.float32), clean
