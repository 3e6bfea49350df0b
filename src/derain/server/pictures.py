"""One picture: looked at before it is decoded, then derained the way ``derain run`` does it."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from derain import images
from derain.errors import DerainError

from .errors import RequestRejected

if TYPE_CHECKING:
    from derain.derainer import Derainer, OnTile

#: Formats that are read; Pillow knows more, with decoders that few people test (or that start programs).
READS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "GIF")
#: What ``format`` may ask for, with the content type and suffix of the answer.
WRITES = {
    "jpeg": ("JPEG", "image/jpeg", "jpg"),
    "png": ("PNG", "image/png", "png"),
    "webp": ("WEBP", "image/webp", "webp"),
    "tiff": ("TIFF", "image/tiff", "tif"),
    "bmp": ("BMP", "image/bmp", "bmp"),
    "avif": ("AVIF", "image/avif", "avif"),
}
#: Longest side, pixels: a network pads a strip of one pixel to its least size, so area alone limits too little.
MAX_SIDE = 32_768


@dataclass(frozen=True)
class RequestOptions:
    """What a request asks for.

    Attributes:
        model: a name that the server knows.
        strength: 0 gives the input's pixels, 1 the network's, between them a blend.
        format: a key of :data:`WRITES`, or ``same``.
        quality: of JPEG, WebP and AVIF, 1 to 100.
    """

    model: str
    strength: float = 1.0
    format: str = "same"
    quality: int = 95


@dataclass(frozen=True)
class Result:
    """A finished picture: its file, content type, suffix, and width and height in pixels."""

    data: bytes
    media_type: str
    suffix: str
    size: tuple[int, int]


def look(data: bytes, *, max_pixels: int, name: str = "the file") -> None:
    """Refuse by the header what must not be decoded.

    Raises:
        Refusal: 415 no picture of a known format, 413 too many pixels, 422 empty, damaged or several pages.
    """
    if not data:
        raise RequestRejected(422, f"{name} is empty (0 bytes); send the bytes of a picture")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=READS) as image:
                width, height = image.size
                if width * height > max_pixels or max(width, height) > MAX_SIDE:
                    raise RequestRejected(
                        413,
                        f"{name} has {width}×{height} pixels; this server takes up to {max_pixels / 1e6:g} megapixels "
                        f"and sides up to {MAX_SIDE}: reduce it first",
                    )
                if image.format == "TIFF" and _has_second_page(image):
                    # Counting all the pages could take long: a hostile file may have millions.
                    raise RequestRejected(422, f"{name} holds several pages; split it into single pictures first")
        except Image.DecompressionBombError:
            raise RequestRejected(413, f"{name} has far too many pixels; reduce it first") from None
        except UnidentifiedImageError:
            raise RequestRejected(415, f"{name} is not a picture that derain can read; use {_known()}") from None
        except RequestRejected:
            raise
        except Exception as error:  # Pillow's readers raise many kinds on damaged files
            raise RequestRejected(422, f"{name} is damaged or cut off ({error}); send it again") from None


def _known() -> str:
    return "JPEG, PNG, WebP, TIFF, BMP or AVIF"


def _has_second_page(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def derain_bytes(
    data: bytes,
    derainer: Derainer,
    wish: RequestOptions,
    *,
    max_pixels: int,
    name: str = "the file",
    on_tile: OnTile | None = None,
) -> Result:
    """Bytes of a picture file in, of a derained one out: the same as ``derain run`` writes.

    Raises:
        Refusal: 422, the file cannot be decoded, or the result cannot be had in the wished format.
    """
    try:
        before = images.decode(data, name=name, max_pixels=max_pixels)
        after = derainer(before, strength=wish.strength, on_tile=on_tile)
    except DerainError as error:
        raise RequestRejected(422, str(error)) from None
    kind = images.result_format(before) if wish.format == "same" else WRITES[wish.format][0]
    try:
        encoded = images.encode(after, kind, quality=wish.quality)
    except Exception as error:  # a format's own limits: sides of WebP, length of EXIF in JPEG
        raise RequestRejected(422, f"the result cannot be written as {kind} ({error}); ask for format=png") from None
    _, media_type, suffix = next(entry for entry in WRITES.values() if entry[0] == kind)
    return Result(encoded, media_type, suffix, after.size)
