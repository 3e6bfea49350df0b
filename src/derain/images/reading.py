"""From files, bytes and PIL images to :class:`Picture`."""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from derain.errors import InputError

from . import avif, bmp, containers, icc, jpeg, png, tiff
from .picture import STRIP, Picture
from .pil import SIXTEEN_BIT_MODES, complete_metadata, convert, sixteen_bit, upright

#: Files with more pixels than this are rejected before they are decoded (Pillow's own limit).
MAX_PIXELS = 178_956_970
_READABLE = "JPEG, PNG, WebP, TIFF, BMP or AVIF"


def read(path: str | Path) -> Picture:
    """Read an image file.

    Raises:
        InputError: missing, unreadable, empty, truncated, not a still image, or too large.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InputError(f"{path}: is a device; give an image file")
        # Other files, such as pipes, cannot be read twice.
        file = path.open("rb") if stat.S_ISREG(mode) else io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give an image file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    with file:
        return _decode(file, str(path), MAX_PIXELS)


def decode(data: bytes, *, name: str = "input", max_pixels: int = MAX_PIXELS) -> Picture:
    """Read an image from the bytes of a file.

    Args:
        data: the complete file.
        name: for error messages.
        max_pixels: larger images are rejected before they are decoded.

    Raises:
        InputError: empty, truncated, not a still image, or too large.
    """
    return _decode(io.BytesIO(data), name, max_pixels)


def _decode(file: BinaryIO, name: str, max_pixels: int) -> Picture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large or slightly damaged files; real errors raise
        try:
            head = file.read(26)
            if not head:
                raise InputError(f"{name}: is empty (0 bytes); the copy or download probably failed, fetch it again")
            if head[:4] in tiff.MAGIC:
                return _read_tiff(file, name, max_pixels)
            if head[:8] == png.SIGNATURE:
                return _read_png(file, name, max_pixels)
            return _read_other(file, name, max_pixels)
        except Image.DecompressionBombError:
            raise _too_large(None, name, max_pixels) from None
        except UnidentifiedImageError:
            raise InputError(f"{name}: not an image that derain can read; use {_READABLE}") from None
        except InputError:
            raise
        except MemoryError:
            raise InputError(f"{name}: not enough memory to decode it; reduce its size first") from None
        except Exception as error:  # decoders raise many types on damaged files
            raise InputError(f"{name}: damaged or truncated ({error}); fetch it again") from None


def openable(data: bytes) -> BinaryIO:
    """The bytes of a file for Pillow to open, without the chunks of a PNG for which it would refuse the image."""
    file = io.BytesIO(data)
    return png.without(file, png.scan(file).unusable) if data.startswith(png.SIGNATURE) else file


def _too_large(size: tuple[int, int] | None, name: str, limit: int) -> InputError:
    what = f"{size[0]}×{size[1]} pixels, more" if size else "more pixels"
    return InputError(f"{name}: declares {what} than the limit of {limit / 1e6:.0f} megapixels; reduce it first")


def _check_size(width: int, height: int, name: str, limit: int) -> None:
    if width * height > limit:
        raise _too_large((width, height), name, limit)


def _open(file: BinaryIO, name: str, max_pixels: int, *, one_of_many: bool = False) -> Image.Image:
    """A file opened by Pillow, not yet decoded."""
    file.seek(0)
    pil = Image.open(file)
    _check_size(*pil.size, name, max_pixels)
    frames = getattr(pil, "n_frames", 1) if not one_of_many and pil.format != "MPO" else 1
    if frames > 1:
        raise InputError(f"{name}: contains {frames} frames or pages; split it into single images first")
    return pil


def _read_tiff(file: BinaryIO, name: str, max_pixels: int) -> Picture:
    """A TIFF: with 16-bit samples by tifffile or OpenCV, since Pillow cannot read those in color; others by Pillow."""
    page, metadata = tiff.header(file, name)
    _check_size(page.imagewidth, page.imagelength, name, max_pixels)
    place, associated, notes = tiff.alpha_of(page)
    metadata["notes"] += notes
    if page.bitspersample == 16 and page.sampleformat in (1, None):
        values = tiff.sixteen_bit_samples(file, page, name)
        values = _read_with_cv2(file, name, "TIFF") if values is None else values
        metadata["info"] = {"dpi": page.get_resolution("inch")} if 282 in page.tags else {}
        return upright(sixteen_bit(values, place, gray=page.photometric == 1, associated=associated, **metadata))
    del metadata["icc"]  # as Pillow has it
    with _open(file, name, max_pixels, one_of_many=True) as pil:
        if associated and isinstance(pil, ImageFile.ImageFile):
            # Not divided by alpha, which Pillow does with truncation.
            pil.tile = [tile._replace(args=_without_division(tile.args)) for tile in pil.tile]
        return convert(pil, name=name, associated=associated, **metadata)  # upright, because Pillow rotates TIFFs


def _without_division(arguments: Any) -> Any:
    """A tile's arguments with the raw mode for RGB with alpha, instead of the one that divides RGB by alpha."""
    if isinstance(arguments, tuple) and arguments and arguments[0] == "RGBa":
        return ("RGBA", *arguments[1:])
    return "RGBA" if arguments == "RGBa" else arguments


def _read_png(file: BinaryIO, name: str, max_pixels: int) -> Picture:
    """A PNG: with 16-bit color or alpha by OpenCV, others by Pillow; metadata by ourselves."""
    chunks = png.scan(file)
    file = png.without(file, chunks.unusable)
    gray = chunks.color_type in (0, 4)
    icc.of_png(chunks.color, gray=gray, name=name)  # refuses HDR
    with _open(file, name, max_pixels) as pil:
        metadata: dict[str, Any] = {
            "exif": chunks.exif,
            "xmp": chunks.xmp,
            "iptc": chunks.iptc,
            "text": tuple(chunks.text),
            "color_chunks": tuple(chunks.color.items()),
            "notes": tuple(dict.fromkeys(chunks.notes)),
        }
        if chunks.depth == 16 and pil.mode not in SIXTEEN_BIT_MODES:
            png.check(file)  # raises on truncated files, whose missing part older OpenCV silently fills
            values = _read_with_cv2(file, name, "PNG")
            place = values.shape[2] - 1 if values.ndim == 3 and values.shape[2] in (2, 4) else None
            return upright(sixteen_bit(values, place, gray=gray, **complete_metadata(pil, metadata)))
        if gray and chunks.depth < 8 and "transparency" in pil.info and chunks.transparency:
            # Pillow widens the pixels to 8 bits, but not the value that is transparent.
            pil.info["transparency"] = int.from_bytes(chunks.transparency[:2]) * 255 // (2**chunks.depth - 1)
        return upright(convert(pil, name=name, **metadata))


def _read_other(file: BinaryIO, name: str, max_pixels: int) -> Picture:
    """A file of any other format, by Pillow."""
    with _open(file, name, max_pixels) as pil:
        metadata: dict[str, Any] = {}
        if pil.format in ("JPEG", "MPO"):
            file.seek(0)
            data = file.read()
            segments = jpeg.scan(data)
            metadata = jpeg.metadata(data, segments)
            if segments.end is None:
                # Pillow refuses it, or fills what is missing if zeros follow.
                complete = jpeg.with_end(data, segments)
                if complete is None:
                    raise OSError("a part of the image is missing")
                metadata["notes"] += ("the end marker of the JPEG is missing; the image is complete",)
                with _open(io.BytesIO(complete), name, max_pixels) as repaired:
                    return upright(convert(repaired, name=name, **metadata))
        elif pil.format in ("GIF", "JPEG2000"):
            file.seek(0)
            metadata = (containers.gif_metadata if pil.format == "GIF" else containers.jp2_metadata)(file.read())
        elif pil.format == "AVIF":
            signals = avif.scan(file)
            if "icc_profile" not in pil.info:
                metadata["icc"] = icc.of_cicp(signals.primaries, signals.transfer, gray=False, name=name)
            if signals.depth > 8:
                metadata["notes"] = (f"{signals.depth} bits per channel become 8",)
            if signals.gain_map:
                metadata["notes"] = (*metadata.get("notes", ()), "the gain map (HDR) is left out")
        image = convert(pil, name=name, **metadata)
        if pil.format == "BMP" and image.alpha is None and not image.gray:
            image = replace(image, alpha=bmp.alpha(file))
        return upright(image)


def _read_with_cv2(file: BinaryIO, name: str, kind: str) -> npt.NDArray[np.uint16]:
    """The pixels of a 16-bit file: gray, RGB or RGBA."""
    path = getattr(file, "name", None)
    if path and str(path).encode(errors="ignore") != os.fsencode(path):
        path = None  # OpenCV crashes on names that are not UTF-8
    values = cv2.imread(path, cv2.IMREAD_UNCHANGED) if path else None
    if values is None:  # not a file, or OpenCV cannot open its name
        file.seek(0)
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise InputError(f"{name}: damaged 16-bit {kind}, or a compression that OpenCV does not support; save it again")
    if values.ndim == 3:
        for start in range(0, len(values), STRIP):  # OpenCV has BGR
            values[start : start + STRIP, :, :3] = values[start : start + STRIP, :, 2::-1]
    return values  # type: ignore[return-value]
