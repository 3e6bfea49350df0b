"""CMYK pictures: to RGB for the network, and back to inks."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from .picture import STRIP, Picture


def to_rgb(icc: bytes | None) -> Callable[[Image.Image], Image.Image]:
    """What turns CMYK images into RGB: through their profile, or by the plain formula if that is none or broken."""
    transform = _transform(icc, to_inks=False)
    return lambda image: image.convert("RGB") if transform is None else _apply(image, transform)


def to_inks(picture: Picture) -> Image.Image:
    """The picture's colors as a CMYK image."""
    transform = _transform(picture.icc, to_inks=True)
    image = Image.new("CMYK", picture.size, None)
    for start in range(0, picture.size[1], STRIP):
        image.paste(
            _by_formula(picture, start)
            if transform is None
            else _apply(Image.fromarray(picture.rows(start, start + STRIP)[..., :3]), transform),
            (0, start),
        )
    return image


def _transform(icc: bytes | None, *, to_inks: bool) -> ImageCms.ImageCmsTransform | None:
    if icc is None:
        return None
    srgb = ImageCms.createProfile("sRGB")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if to_inks:
            return ImageCms.buildTransform(srgb, own, "RGB", "CMYK")
        return ImageCms.buildTransform(own, srgb, "CMYK", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None  # a broken profile


def _apply(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    turned = ImageCms.applyTransform(image, transform)
    assert turned is not None  # only `inPlace` gives nothing
    return turned


def _by_formula(picture: Picture, start: int) -> Image.Image:
    """Some rows as inks, with the source's black plate where the new color allows it."""
    assert picture.cmyk is not None
    rgb = np.clip(picture.unit(start, start + STRIP), 0, 1)
    black = np.minimum(picture.cmyk[start : start + STRIP, :, 3] / 255.0, 1 - rgb.max(axis=2))
    inks = 1 - rgb / np.maximum(1 - black, 1e-6)[..., None]  # from R = (1-C)(1-K)
    stacked = np.concatenate([np.clip(inks, 0, 1), black[..., None]], axis=2)
    return Image.frombytes("CMYK", stacked.shape[1::-1], (stacked * 255 + 0.5).astype(np.uint8).tobytes())
