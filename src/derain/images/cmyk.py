"""CMYK images: to RGB for the network, and back."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

from derain.arrays import to_uint8

if TYPE_CHECKING:
    from .picture import Picture


def rgb_converter(icc: bytes | None) -> Callable[[Image.Image], Image.Image]:
    """A function from CMYK to RGB images: through their profile, or by the plain formula if there is no valid one."""
    transform = _transform(icc, to_cmyk=False)
    return lambda image: image.convert("RGB") if transform is None else _apply(image, transform)


def to_cmyk(image: Picture) -> Image.Image:
    """The colors of an image that comes from a CMYK file, as a CMYK image."""
    transform = _transform(image.icc, to_cmyk=True)
    result = Image.new("CMYK", image.size, None)
    for rows in image.strips():
        result.paste(
            _rows_by_formula(image, rows)
            if transform is None
            else _apply(Image.fromarray(image.integer_rows(rows)[..., :3]), transform),
            (0, rows.start),
        )
    return result


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


def _rows_by_formula(image: Picture, rows: slice) -> Image.Image:
    """Some rows as CMYK, with the source's black channel where the new color allows it."""
    assert image.cmyk is not None
    rgb = np.clip(image.float_rows(rows), 0, 1)
    black = np.minimum(image.cmyk[rows, :, 3] / 255.0, 1 - rgb.max(axis=2))
    cmy = 1 - rgb / np.maximum(1 - black, 1e-6)[..., None]  # from R = (1-C)(1-K)
    stacked = np.concatenate([np.clip(cmy, 0, 1), black[..., None]], axis=2)
    return Image.frombytes("CMYK", stacked.shape[1::-1], to_uint8(stacked).tobytes())
