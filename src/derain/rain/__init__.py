"""The rain engine: streak layers, presets and compositing; numpy in, numpy out, seeded."""

from .composite import add_streaks
from .library import StreakLibrary
from .presets import PRESETS, PicturedStreaks, Recipe, render, sample_recipe
from .streaks import StreakParams, render_streaks

__all__ = [
    "PRESETS",
    "PicturedStreaks",
    "Recipe",
    "StreakLibrary",
    "StreakParams",
    "add_streaks",
    "render",
    "render_streaks",
    "sample_recipe",
]
