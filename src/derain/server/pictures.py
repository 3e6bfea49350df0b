"""One image: checked by its header before it is decoded, then derained as ``derain run`` does it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from derain import images
from derain.errors import DerainError, ModelError

from .errors import RequestRejected

if TYPE_CHECKING:
    from derain.derainer import Derainer
    from derain.inference import OnTile

#: Formats that are read. Pillow has more, with decoders that are rarely tested or that start programs.
INPUT_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "GIF")
#: Values of the parameter ``format``: Pillow's name, content type and suffix of the result.
OUTPUT_FORMATS = {
    "jpeg": ("JPEG", "image/jpeg", "jpg"),
    "png": ("PNG", "image/png", "png"),
    "webp": ("WEBP", "image/webp", "webp"),
    "tiff": ("TIFF", "image/tiff", "tif"),
    "bmp": ("BMP", "image/bmp", "bmp"),
    "avif": ("AVIF", "image/avif", "avif"),
}
#: Maximum side in pixels. Area alone is not enough: networks pad a strip of one pixel to their minimum size.
MAX_SIDE = 32_768


@dataclass(frozen=True)
class RequestOptions:
    """The parameters of a request.

    Attributes:
        model: name of a served model.
        strength: 0 gives the input's pixels, 1 the network's, values between them a blend.
        format: a key of :data:`OUTPUT_FORMATS`, or ``same``.
        quality: of JPEG, WebP and AVIF, 1 to 100.
    """

    model: str
    strength: float = 1.0
    format: str = "same"
    quality: int = 95


@dataclass(frozen=True)
class Result:
    """A derained image: its file, content type, suffix, and width and height in pixels."""

    data: bytes
    media_type: str
    suffix: str
    size: tuple[int, int]


def check_header(data: bytes, *, max_pixels: int, name: str = "the file") -> None:
    """Reject by the header what must not be decoded.

    Args:
        data: an image file.
        max_pixels: maximum number of pixels.
        name: what messages call the file.

    Raises:
        RequestRejected: 413 too many pixels; 415 not an image of a known format; 422 empty, damaged or several pages.
    """
    if not data:
        raise RequestRejected(422, f"{name} is empty (0 bytes); send the bytes of an image file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(images.openable(data), formats=INPUT_FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels or max(width, height) > MAX_SIDE:
                    raise RequestRejected(
                        413,
                        f"{name} has {width}×{height} pixels; this server accepts up to {max_pixels / 1e6:g} "
                        f"megapixels and sides up to {MAX_SIDE}: reduce it first",
                    )
                if image.format == "TIFF" and _has_second_page(image):
                    # Counting all pages could take long: a hostile file may have millions.
                    raise RequestRejected(422, f"{name} has several pages; split it into single images first")
        except Image.DecompressionBombError:
            raise RequestRejected(413, f"{name} has far too many pixels; reduce it first") from None
        except UnidentifiedImageError:
            raise RequestRejected(
                415, f"{name} is not an image that derain can read; use JPEG, PNG, WebP, TIFF, BMP or AVIF"
            ) from None
        except RequestRejected:
            raise
        except Exception as error:  # Pillow's readers raise many types on damaged files
            raise RequestRejected(422, f"{name} is damaged or truncated ({error}); send it again") from None


def _has_second_page(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    return not image.tag_v2.get(254, 0) & 5  # type: ignore[attr-defined]  # a reduced copy, or a mask


def derain_bytes(
    data: bytes,
    derainer: Derainer,
    options: RequestOptions,
    *,
    max_pixels: int,
    name: str = "the file",
    on_tile: OnTile | None = None,
) -> Result:
    """Derain the bytes of an image file; the result is what ``derain run`` writes.

    Args:
        data: an image file that passed :func:`check_header`.
        derainer: the network.
        options: parameters of the request.
        max_pixels: maximum number of pixels.
        name: what messages call the file.
        on_tile: called after each tile.

    Raises:
        RequestRejected: 422, the file cannot be decoded, or the requested format cannot hold the result; 500, the
            network computed NaN or infinite values.
    """
    try:
        before = images.decode(data, name=name, max_pixels=max_pixels)
        after = derainer(before, strength=options.strength, on_tile=on_tile)
    except ModelError as error:
        raise RequestRejected(500, str(error)) from None
    except DerainError as error:
        raise RequestRejected(422, str(error)) from None
    pillow_format = images.result_format(before) if options.format == "same" else OUTPUT_FORMATS[options.format][0]
    try:
        encoded = images.encode(after, pillow_format, quality=options.quality)
    except Exception as error:  # limits of a format: sides in WebP, length of EXIF in JPEG
        raise RequestRejected(
            422, f"the result cannot be written as {pillow_format} ({error}); request format=png"
        ) from None
    _, media_type, suffix = next(entry for entry in OUTPUT_FORMATS.values() if entry[0] == pillow_format)
    return Result(encoded, media_type, suffix, after.size)
