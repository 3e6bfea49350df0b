"""The rain engine: streak layers, presets, compositing, camera; numpy in, numpy out, seeded.

Angles are in degrees from vertical, positive when streaks lean to the right going down.
"""

from .camera import Camera, simulate_camera
from .composite import add_haze, add_streaks, screen_streaks, sloping_transmission
from .library import LayerLibrary, StreakLibrary
from .noise import NoiseParams, render_noise
from .presets import PRESETS, sample_rain
from .render import apply_rain, render
from .spec import Haze, LibraryStreaks, RainSpec
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
]
