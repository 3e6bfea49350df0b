"""From a :class:`~derain.rain.RainSpec` to a streak layer and to a rainy image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray

from .camera import simulate_camera
from .composite import add_haze, add_streaks, screen_streaks, sloping_transmission
from .library import StreakLibrary
from .noise import NoiseParams, render_noise
from .spec import RainSpec
from .streaks import StreakParams, render_streaks


def render(
    spec: RainSpec,
    shape: tuple[int, int],
    rng: np.random.Generator,
    library: StreakLibrary | None = None,
    scale: float = 1.0,
) -> FloatArray:
    """Render the streaks of a spec as one gray layer.

    Args:
        spec: from :func:`~derain.rain.sample_rain`.
        shape: height and width, pixels.
        rng: the only source of randomness.
        library: required if the spec contains library streaks.
        scale: size of the rain relative to an image of about 480×320 pixels.

    Returns:
        ``(H, W)`` float32, not negative.

    Raises:
        ValueError: the spec contains library streaks and there is no library.
    """
    layer = np.zeros(shape, np.float32)
    for part in spec.layers:
        if isinstance(part, StreakParams):
            layer += render_streaks(shape, part.scaled(scale), rng)
        elif isinstance(part, NoiseParams):
            layer += render_noise(shape, part.scaled(scale), rng)
        elif library is None:
            raise ValueError("the spec contains library streaks; pass the library it was sampled with")
        else:
            layer += part.gain * library.sample(shape, rng, angle=part.angle, zoom=part.zoom * scale)
    return layer


def apply_rain(
    clean: npt.ArrayLike,
    spec: RainSpec,
    rng: np.random.Generator,
    library: StreakLibrary | None = None,
    scale: float = 1.0,
) -> FloatArray:
    """Make a clean image rainy: streaks, haze, camera.

    Args:
        clean: ``(H, W, 3)`` RGB in [0, 1].
        spec, rng, library, scale: as for :func:`render`.

    Returns:
        ``(H, W, 3)`` float32 in [0, 1].
    """
    image = np.asarray(clean, np.float32)
    shape = image.shape[:2]
    layer = render(spec, shape, rng, library, scale)
    rainy = (add_streaks if spec.blend == "add" else screen_streaks)(image, layer)
    if spec.haze is not None:
        transmission = sloping_transmission(shape, spec.haze.density, spec.haze.horizon)
        rainy = add_haze(rainy, transmission, spec.haze.airlight)
    if spec.camera is not None:
        rainy = simulate_camera(rainy, spec.camera, rng)
    return rainy
