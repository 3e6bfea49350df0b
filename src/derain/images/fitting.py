"""What of an image a file format can hold: the rest is converted or left out, with a note."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from . import exif, icc, jpeg, xmp

if TYPE_CHECKING:
    from .picture import Picture

_WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")  # and with ICC profiles and XMP
_WITH_IPTC = ("JPEG", "PNG", "TIFF")
_WITH_ALPHA = ("PNG", "WEBP", "TIFF", "AVIF", "HEIF", "BMP")
_WITH_CMYK = ("JPEG", "TIFF")
_WITH_DEPTH = ("PNG", "TIFF")
_QUALITIES = (85, 70, 55, 40, 25, 10)  # of a thumbnail, until it fits


def fit(image: Picture, kind: str) -> Picture:
    """The image as a format can hold it.

    Args:
        image: any image.
        kind: Pillow's name of the format, such as ``PNG``.

    Returns:
        The same image without what the format cannot hold: alpha becomes white, colors of a profile become sRGB.
        Its ``notes`` say so. What has been fitted stays as it is.
    """
    if image.cmyk is not None and kind not in _WITH_CMYK:
        image = replace(image, cmyk=None, icc=None)  # the values are sRGB
    return _metadata(_color(_pixels(image, kind), kind), kind)


def _pixels(image: Picture, kind: str) -> Picture:
    notes = list(image.notes)
    if image.alpha is not None and kind not in _WITH_ALPHA:
        if image.alpha.min() < np.iinfo(image.alpha.dtype).max:
            image = on_white(image)
            notes.append(f"transparent parts become white, because {kind} has no alpha")
        image = replace(image, alpha=None)
    if image.depth == 16 and kind not in _WITH_DEPTH:
        image = replace(image, depth=8)
        notes.append(f"16 bits per channel become 8, because derain writes {kind} with 8")
    associated = image.associated and kind == "TIFF" and image.alpha is not None
    return replace(image, associated=associated, notes=tuple(notes))


def on_white(image: Picture) -> Picture:
    """The image without alpha, composited onto white."""
    if image.alpha is None:
        return image
    width, height = image.size
    shape = (height, width) if image.gray else (height, width, 3)
    values = np.empty(shape, np.uint16 if image.depth == 16 else np.uint8)
    white = int(np.iinfo(values.dtype).max)
    for rows in image.strips():
        strip = image.integer_rows(rows).astype(np.int64)
        colors, alpha = strip[..., :-1], strip[..., -1:]
        values[rows] = ((colors * alpha + white * (white - alpha) + white // 2) // white).reshape(values[rows].shape)
    return replace(image, values=values, alpha=None)


def _color(image: Picture, kind: str) -> Picture:
    """The image with a profile that fits its pixels and the format."""
    chunks = dict(image.color_chunks)
    if chunks and kind != "PNG":
        # Of a PNG's signals, cICP counts more than a profile, and the others less.
        made = icc.of_png(chunks, gray=image.gray, name="the image")
        image = replace(image, color_chunks=(), icc=made if b"cICP" in chunks or image.icc is None else image.icc)
    if image.icc is None:
        return image
    if image.cmyk is not None:
        allowed: tuple[str, ...] = ("CMYK",)
    elif not image.gray or kind == "WEBP" or (kind in ("AVIF", "HEIF") and image.alpha is not None):
        allowed = ("RGB",)  # the file has colors, even if the image has none
        if icc.space(image.icc) == "GRAY":
            image = replace(image, icc=icc.rgb_of_gray(image.icc))
    else:
        allowed = ("GRAY", "RGB")
    if image.icc is not None and icc.space(image.icc) in allowed:
        if kind in _WITH_EXIF:
            return image
        if (converted := icc.to_srgb(image, image.icc)) is not None:
            return replace(converted, notes=(*image.notes, f"colors become sRGB, because {kind} has no profiles"))
    return replace(image, icc=None, notes=(*image.notes, "a color profile that does not fit the image is left out"))


def _metadata(image: Picture, kind: str) -> Picture:
    left_out: list[str] = []
    notes: list[str] = []
    block = image.exif
    if block is not None and kind not in _WITH_EXIF:
        left_out.append("EXIF")
        block = None
    packet = image.xmp
    if packet is not None and (
        kind not in _WITH_EXIF or (kind == "JPEG" and len(packet) > jpeg.MAX_SEGMENT - len(xmp.JPEG_HEADER))
    ):
        left_out.append("XMP" if kind not in _WITH_EXIF else "XMP of this length")
        packet = None
    resources = image.iptc
    if resources is not None and kind not in _WITH_IPTC:
        left_out.append("IPTC")
        resources = None
    text = tuple(item for item in image.text if _holds(kind, *item))
    left_out += [f"the text {keyword!r}" for keyword in dict(image.text) if keyword not in dict(text)]
    if left_out:
        notes.append(f"left out, because {kind} cannot hold it: {', '.join(left_out)}")
    if block is not None and kind == "JPEG" and len(block) > jpeg.MAX_SEGMENT:
        block, missing = exif.shortened(block, jpeg.MAX_SEGMENT)
        notes.append(f"left out, because EXIF is too long for JPEG: {', '.join(missing)}")
    # A file is stored as the source was where it says how it is to be rotated, and upright otherwise.
    says = exif.orientation(block) or xmp.orientation(packet)
    orientation = image.orientation if kind == "TIFF" or says == image.orientation else 1
    image = replace(image, xmp=packet, iptc=resources, text=text, orientation=orientation)
    if block is not None:
        block = exif.with_thumbnail(block, lambda old, room: _thumbnail(image, old, room))
    return replace(image, exif=block, notes=(*image.notes, *notes))


def _holds(kind: str, keyword: str, value: str) -> bool:
    if kind == "JPEG":
        return keyword == "Comment" and len(value.encode("utf-8", "surrogateescape")) <= jpeg.MAX_SEGMENT
    return kind == "PNG"


def _thumbnail(image: Picture, old: bytes, room: int) -> bytes | None:
    """A thumbnail of the image in the size and shape of an old one, as JPEG of at most ``room`` bytes."""
    try:
        with Image.open(io.BytesIO(old), formats=("JPEG",)) as decoded:
            size = decoded.size
    except (OSError, ValueError, SyntaxError):
        return None
    if not all(0 < side <= 1024 for side in size):
        return None
    stored = image.as_stored()
    step = max(1, min(stored.size[0] // (2 * size[0]), stored.size[1] // (2 * size[1])))
    alpha = None if stored.alpha is None else stored.alpha[::step, ::step]
    sampled = on_white(replace(stored, values=stored.values[::step, ::step], alpha=alpha, cmyk=None, depth=8))
    small = ImageOps.pad(sampled.to_pil().convert("RGB"), size, color="black")
    for quality in _QUALITIES:
        file = io.BytesIO()
        small.save(file, "JPEG", quality=quality)
        if file.tell() <= room:
            return file.getvalue()
    return None
