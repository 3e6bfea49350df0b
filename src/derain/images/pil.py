"""From PIL images and arrays of samples to :class:`Picture`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from derain.errors import InputError

from . import cmyk, exif, tiff, xmp
from .orientation import to_upright
from .picture import STRIP, Picture

SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I")
_PREMULTIPLIED = ("La", "RGBa")


def from_pil(image: Image.Image, *, name: str = "the image") -> Picture:
    """Convert a PIL image of any mode; nothing is lost except the index order of a palette.

    Args:
        image: any PIL image.
        name: for error messages.

    Raises:
        InputError: 32-bit modes (``F``, and ``I`` beyond 16 bits).
    """
    return upright(convert(image, name=name))


def convert(image: Image.Image, *, name: str, associated: bool = False, **known: Any) -> Picture:
    """Convert a PIL image of any mode, in its stored orientation; nothing is lost except a palette's order.

    Args:
        image: any PIL image.
        name: for error messages.
        associated: the colors are multiplied by alpha.
        known: attributes of the result that the caller knows better than Pillow.

    Raises:
        InputError: 32-bit modes (``F``, and ``I`` beyond 16 bits).
    """
    image.load()
    metadata = complete_metadata(image, known)
    associated = associated or image.mode in _PREMULTIPLIED
    width, height = image.size
    colors: npt.NDArray[Any]
    alpha = cmyk_values = None
    if image.mode == "F":
        raise InputError(f"{name}: 32-bit float is not supported; convert it to a 16-bit TIFF or PNG first")
    if image.mode in SIXTEEN_BIT_MODES:
        colors = np.empty((height, width), np.uint16)
        for rows, strip in _strips(image, np.asarray):
            if strip.min() < 0 or strip.max() > 65535:
                raise InputError(f"{name}: 32-bit gray with values beyond 16 bits; convert it to 16-bit first")
            colors[rows] = strip
        if isinstance(image.info.get("transparency"), int):
            alpha = np.where(colors == image.info["transparency"], np.uint16(0), np.uint16(65535))
        metadata.update(depth=16, gray=True)
    elif image.mode == "CMYK":
        colors, cmyk_values = np.empty((height, width, 3), np.uint8), np.empty((height, width, 4), np.uint8)
        convert = cmyk.rgb_converter(metadata["icc"])
        for rows, part in _strips(image, lambda part: part):
            colors[rows], cmyk_values[rows] = np.asarray(convert(part)), np.asarray(part)
    else:
        transparent = image.mode in ("RGBA", "LA", "PA", *_PREMULTIPLIED) or "transparency" in image.info
        gray = image.mode in ("1", "L", "LA", "La")
        if not gray and image.mode in ("LAB", "HSV", "YCbCr"):
            metadata["icc"] = None  # it describes that color space, and the result is RGB
        metadata["gray"] = gray
        mode = ("LA" if gray else "RGBA") if transparent else ("L" if gray else "RGB")
        colors = np.empty((height, width) if gray else (height, width, 3), np.uint8)
        alpha = np.empty((height, width), np.uint8) if transparent else None
        for rows, strip in _strips(image, lambda part: _samples(part, mode)):
            if alpha is not None:
                alpha[rows] = strip[..., -1]
            colors[rows] = strip[..., 0] if strip.ndim == 3 and gray else strip[..., :3] if transparent else strip
    if associated and alpha is not None:
        colors = tiff.unassociated(colors, alpha)
    return Picture(colors, alpha, associated=associated and alpha is not None, cmyk=cmyk_values, **metadata)


def _samples(part: Image.Image, mode: str) -> npt.NDArray[Any]:
    """The samples of a part of an image, converted to a mode; those of premultiplied modes as they are."""
    if part.mode in _PREMULTIPLIED:
        return np.frombuffer(part.tobytes(), np.uint8).reshape(part.height, part.width, -1)
    return np.asarray(part if part.mode == mode else part.convert(mode))


def _strips(image: Image.Image, convert: Callable[[Image.Image], Any]) -> Iterator[tuple[slice, Any]]:
    """The converted strips of an image from top to bottom, each with its slice of rows."""
    width, height = image.size
    for start in range(0, height, STRIP):
        stop = min(start + STRIP, height)
        yield slice(start, stop), convert(image.crop((0, start, width, stop)))


def complete_metadata(image: Image.Image, known: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a :class:`Picture` besides its pixels: those that are known, and what Pillow gives."""
    info = image.info
    found: dict[str, Any] = {
        "exif": info.get("exif"),
        "icc": info.get("icc_profile") or None,
        "xmp": xmp.cleaned(info["xmp"]) if isinstance(info.get("xmp"), bytes) else None,
        "text": _comment(info.get("comment")),
        "format": "JPEG" if image.format == "MPO" else image.format,
        "info": {"dpi": info["dpi"]} if isinstance(info.get("dpi"), tuple) else {},
    } | known
    block = found["exif"] or _exif_bytes(image)
    found["exif"] = None if block is None else exif.HEADER + block.removeprefix(exif.HEADER)
    if "orientation" not in found:
        found["orientation"] = exif.orientation(block) or xmp.orientation(found["xmp"]) or 1
    return found


def _comment(value: Any) -> tuple[tuple[str, str], ...]:
    """The comment of a GIF or JPEG 2000 file, except the one by which an encoder names itself."""
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else ""
    return (("Comment", text),) if text and not text.startswith("Created by OpenJPEG") else ()


def _exif_bytes(image: Image.Image) -> bytes | None:
    """The EXIF block of a PIL image that does not provide it as bytes, such as one whose ``getexif`` was changed."""
    if image.format == "TIFF":
        return None  # its tags describe the layout of the pixels
    try:
        block = Image.Image.getexif(image)  # not PngImageFile's method, which decodes all pixels
        return block.tobytes() if len(block) else None
    except Exception:  # a damaged EXIF block must not make the image unreadable
        return None


def upright(image: Picture) -> Picture:
    """An image in stored orientation, rotated upright."""

    def rotated(values: npt.NDArray[Any] | None) -> Any:
        return None if values is None else to_upright(values, image.orientation)

    return replace(image, values=rotated(image.values), alpha=rotated(image.alpha), cmyk=rotated(image.cmyk))


def sixteen_bit(
    values: npt.NDArray[np.uint16], place: int | None, *, gray: bool, associated: bool = False, **metadata: Any
) -> Picture:
    """An image with 16 bits per channel, in its stored orientation.

    Args:
        values: samples as stored, ``(H, W)`` or ``(H, W, samples)``: the colors first.
        place: which of the samples is alpha, or ``None``.
        gray: there is one color, not three.
        associated: the colors are multiplied by alpha.
        metadata: further attributes.

    Raises:
        ValueError: too few samples.
    """
    values = values[..., None] if values.ndim == 2 else values
    samples = values.shape[2]
    if samples < (1 if gray else 3) or (place is not None and place >= samples):
        raise ValueError(f"{samples} samples per pixel")
    alpha = None if place is None else values[..., place]
    colors: npt.NDArray[np.uint16] = values[..., 0] if gray else values[..., :3]
    if associated and alpha is not None:
        colors = tiff.unassociated(colors, alpha)
    return Picture(colors, alpha, depth=16, gray=gray, associated=associated, **metadata)
