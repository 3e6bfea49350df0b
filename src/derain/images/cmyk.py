"""CMYK images: to RGB for the network, and back with the inks of every pixel that it did not change."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from derain.arrays import FloatArray, to_uint8

if TYPE_CHECKING:
    from .picture import Picture

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Above this change of a channel, of 1, the inks are those of the profile's own separation.
_LARGE = 0.25
# Colors are made lighter with less black only as far as the other inks leave paper.
_MOST_INK = np.float32(0.9)

_Convert = Callable[[Image.Image], Image.Image]


def rgb_converter(icc: bytes | None) -> _Convert:
    """A function from CMYK to RGB images: through their profile, or by the plain formula if there is no valid one."""
    transform = _transform(icc, to_cmyk=False)
    return lambda image: image.convert("RGB") if transform is None else _apply(image, transform)


def to_cmyk(image: Picture) -> Image.Image:
    """An image that comes from a CMYK file, as a CMYK image.

    A pixel whose RGB value is that of the source keeps its inks. Where only black was printed, only black is
    printed. Other pixels get the inks of the source, changed by what the change of their color asks for.
    """
    assert image.cmyk is not None
    to_rgb = rgb_converter(image.icc)
    transform = _transform(image.icc, to_cmyk=True)
    ramp = _black_ramp(to_rgb)
    black_only = not image.cmyk[..., :3].any()
    result = Image.new("CMYK", image.size, None)
    for rows in image.strips():
        inks = np.ascontiguousarray(image.cmyk[rows])
        before = np.asarray(to_rgb(_image(inks)))
        after = to_uint8(image.values[rows])
        changed = (before != after).any(axis=2)
        if changed.any():
            # By columns of one pixel each, so that only what changed is computed.
            inks = inks.copy()
            source, old, new = inks[changed], before[changed], after[changed]
            new_inks = _by_formula(source, old, new) if transform is None else _by_profile(source, old, new, transform)
            black = np.full(len(source), True) if black_only else ~source[:, :3].any(axis=1) & (source[:, 3] > 0)
            new_inks[black] = _black_inks(ramp, source[black], old[black], new[black])
            inks[changed] = new_inks
        result.paste(_image(inks), (0, rows.start))
    return result


def _image(inks: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.frombytes("CMYK", inks.shape[1::-1], np.ascontiguousarray(inks).tobytes())


def _transform(icc: bytes | None, *, to_cmyk: bool) -> ImageCms.ImageCmsTransform | None:
    if icc is None:
        return None
    srgb = ImageCms.createProfile("sRGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if to_cmyk:
            return ImageCms.buildTransform(srgb, profile, "RGB", "CMYK")
        return ImageCms.buildTransform(profile, srgb, "CMYK", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None  # an invalid profile


def _apply(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # ``None`` only with `inPlace`
    return converted


def _black_ramp(to_rgb: _Convert) -> FloatArray:
    """``(256,)``: brightness, 0 to 1, of each amount of black alone; never rises."""
    inks = np.zeros((1, 256, 4), np.uint8)
    inks[0, :, 3] = np.arange(256)
    brightness = np.asarray(to_rgb(_image(inks)))[0].astype(np.float32) / 255 @ _LUMA
    return np.minimum.accumulate(brightness)


def _black_inks(
    ramp: FloatArray, source: npt.NDArray[np.uint8], old: npt.NDArray[np.uint8], new: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Black alone for pixels that had only black, ``(n, 4)``, of the new brightness."""
    change = (new.astype(np.float32) - old) / 255 @ _LUMA
    target = ramp[source[:, 3]] + change
    amounts = np.arange(256, dtype=np.float32)
    inks = np.zeros_like(source)
    inks[:, 3] = np.clip(np.interp(target, ramp[::-1], amounts[::-1]) + 0.5, 0, 255)
    return inks


def _by_formula(
    source: npt.NDArray[np.uint8], old: npt.NDArray[np.uint8], new: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Inks by R = (1 - C)(1 - K): darker colors keep their black and get more of the others, lighter ones less black.

    Args:
        source: inks, ``(n, 4)``.
        old: their RGB values, ``(n, 3)``.
        new: RGB values to be printed, ``(n, 3)``.
    """
    inks = source.astype(np.float32) / 255
    cmy, key = inks[:, :3], inks[:, 3]
    paper = 1 - cmy
    exact = paper * (1 - key)[:, None]
    rgb = np.clip(exact + (new.astype(np.float32) - old) / 255, 0, 1)  # free of the rounding of RGB values
    least = np.minimum(cmy.min(axis=1), _MOST_INK)
    black = np.clip(np.minimum(key, 1 - rgb.max(axis=1) / (1 - least)), 0, 1)
    light = (1 - black)[:, None]
    colors = np.where(light > 1e-3, 1 - rgb / np.maximum(light, 1e-3), cmy)
    return to_uint8(np.concatenate([colors, black[:, None]], axis=1))


def _by_profile(
    source: npt.NDArray[np.uint8],
    old: npt.NDArray[np.uint8],
    new: npt.NDArray[np.uint8],
    transform: ImageCms.ImageCmsTransform,
) -> npt.NDArray[np.uint8]:
    """Inks through a profile, ``(n, 4)``: of a small change its difference, of a large one the new separation."""
    separated = [
        np.asarray(_apply(Image.fromarray(np.ascontiguousarray(rgb[None])), transform))[0].astype(np.float32)
        for rgb in (old, new)
    ]
    size = np.abs(new.astype(np.float32) - old).max(axis=1, keepdims=True) / 255
    weight = np.minimum(size / _LARGE, 1)
    difference = source + separated[1] - separated[0]
    return to_uint8(((1 - weight) * difference + weight * separated[1]) / 255)
