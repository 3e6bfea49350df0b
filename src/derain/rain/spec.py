"""What rain falls on one image, as plain data: streak layers, blend, haze, camera."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from .camera import Camera
from .noise import NoiseParams
from .streaks import StreakParams


@dataclass(frozen=True)
class LibraryStreaks:
    """A layer sampled from a :class:`~derain.rain.StreakLibrary` instead of being rendered.

    Attributes:
        angle: rotation of the library image in degrees; positive makes vertical streaks lean to the right going down.
        zoom: scale factor of the streaks.
        gain: factor on the brightness.
    """

    angle: float
    zoom: float
    gain: float


Layer = StreakParams | NoiseParams | LibraryStreaks


@dataclass(frozen=True)
class Haze:
    """Rain accumulation over the scene.

    Attributes:
        density: optical depth at the horizon, see :func:`~derain.rain.sloping_transmission`.
        horizon: row of the horizon as a fraction of the height.
        airlight: brightness of the haze in [0, 1], see :func:`~derain.rain.add_haze`.
    """

    density: float
    horizon: float
    airlight: float


@dataclass(frozen=True)
class RainSpec:
    """All the rain of one image.

    Attributes:
        preset: name of the preset it was sampled from.
        layers: streak layers; they are summed.
        blend: how the streaks are composited with the scene, ``add`` or ``screen``.
        haze: haze over scene and streaks, or ``None``.
        camera: noise and compression of the rainy image, or ``None``.
    """

    preset: str
    layers: tuple[Layer, ...] = ()
    blend: Literal["add", "screen"] = "add"
    haze: Haze | None = None
    camera: Camera | None = None

    def describe(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return asdict(self)
