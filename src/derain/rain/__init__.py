"""The rain engine: streak layers, presets, compositing, camera; numpy in, numpy out, seeded."""

from .camera import Camera, photograph, tone
from .composite import add_streaks, screen_streaks, sloping_transmission, veil
from .library import LayerLibrary, StreakLibrary
from .noise import NoiseParams, render_noise
from .presets import PRESETS, PicturedStreaks, Recipe, Veil, rain_on, render, sample_recipe
from .streaks import StreakField, StreakParams, render_streaks

__all__ = [
    "PRESETS",
    "Camera",
    "LayerLibrary",
    "NoiseParams",
    "PicturedStreaks",
    "Recipe",
    "StreakField",
    "StreakLibrary",
    "StreakParams",
    "Veil",
    "add_streaks",
    "photograph",
    "rain_on",
    "render",
    "render_noise",
    "render_streaks",
    "sample_recipe",
    "screen_streaks",
    "sloping_transmission",
    "tone",
    "veil",
]
