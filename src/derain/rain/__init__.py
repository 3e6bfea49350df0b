"""The rain engine: streak layers, presets, compositing, camera; numpy in, numpy out, seeded."""

from .camera import Camera, simulate_camera, tone
from .composite import add_haze, add_streaks, screen_streaks, sloping_transmission
from .library import LayerLibrary, StreakLibrary
from .noise import NoiseParams, render_noise
from .presets import PRESETS, Haze, LibraryStreaks, RainSpec, apply_rain, render, sample_rain
from .streaks import StreakField, StreakParams, render_streaks

__all__ = [
    "PRESETS",
    "Camera",
    "Haze",
    "LayerLibrary",
    "LibraryStreaks",
    "NoiseParams",
    "RainSpec",
    "StreakField",
    "StreakLibrary",
    "StreakParams",
    "add_haze",
    "add_streaks",
    "apply_rain",
    "render",
    "render_noise",
    "render_streaks",
    "sample_rain",
    "screen_streaks",
    "simulate_camera",
    "sloping_transmission",
    "tone",
]
