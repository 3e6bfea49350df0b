"""From files, bytes and PIL images to :class:`Picture`."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image, UnidentifiedImageError

from derain.errors import InputError

from . import cmyk, png
from .orientation import ORIENTATION_TAG, to_upright
from .picture import STRIP, Picture

#: Files with more pixels than this are rejected before they are decoded (Pillow's own limit).
MAX_PIXELS = 178_956_970
# The EXIF tags among a TIFF's own tags; the others describe its pixel layout.
_EXIF_TAGS = {0x010E, 0x010F, 0x0110, ORIENTATION_TAG, 0x0131, 0x0132, 0x013B, 0x8298}
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I")
_GRAY_PNG = (0, 4)  # color types
_READABLE = "JPEG, PNG, WebP, TIFF, BMP or AVIF"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Compressions that tifffile decodes without other packages: none, Deflate, Adobe Deflate.
_TIFFFILE_COMPRESSIONS = (1, 8, 32946)


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
            if head[:4] in _TIFF and (image := _read_sixteen_bit_tiff(file, name, max_pixels)) is not None:
                return image
            file.seek(0)
            with Image.open(file) as pil:
                _check_size(*pil.size, name, max_pixels)
                if getattr(pil, "n_frames", 1) > 1 and pil.format != "MPO":
                    raise InputError(
                        f"{name}: contains {pil.n_frames} frames or pages; split it into single images first"  # type: ignore[attr-defined]
                    )
                if pil.format == "PNG" and head[24] == 16 and pil.mode not in _SIXTEEN_BIT_MODES:
                    return _read_sixteen_bit_png(file, pil, head[25], name)
                return from_pil(pil, name=name)
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


def _too_large(size: tuple[int, int] | None, name: str, limit: int) -> InputError:
    what = f"{size[0]}×{size[1]} pixels, more" if size else "more pixels"
    return InputError(f"{name}: declares {what} than the limit of {limit / 1e6:.0f} megapixels; reduce it first")


def _check_size(width: int, height: int, name: str, limit: int) -> None:
    if width * height > limit:
        raise _too_large((width, height), name, limit)


def from_pil(image: Image.Image, *, name: str = "the image") -> Picture:
    """Convert a PIL image of any mode; nothing is lost except the index order of a palette.

    Args:
        image: any PIL image.
        name: for error messages.

    Raises:
        InputError: 32-bit modes (``F``, and ``I`` beyond 16 bits).
    """
    image.load()
    metadata = _metadata(image)
    width, height = image.size
    colors: npt.NDArray[Any]
    alpha = cmyk_values = None
    if image.mode == "F":
        raise InputError(f"{name}: 32-bit float is not supported; convert it to a 16-bit TIFF or PNG first")
    if image.mode in _SIXTEEN_BIT_MODES:
        colors = np.empty((height, width), np.uint16)
        for rows, strip in _strips(image, np.asarray):
            if strip.min() < 0 or strip.max() > 65535:
                raise InputError(f"{name}: 32-bit gray with values beyond 16 bits; convert it to 16-bit first")
            colors[rows] = strip
        metadata.update(depth=16, gray=True)
    elif image.mode == "CMYK":
        colors, cmyk_values = np.empty((height, width, 3), np.uint8), np.empty((height, width, 4), np.uint8)
        convert = cmyk.rgb_converter(metadata["icc"])
        for rows, part in _strips(image, lambda part: part):
            colors[rows], cmyk_values[rows] = np.asarray(convert(part)), np.asarray(part)
    else:
        transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        gray = image.mode in ("1", "L", "LA", "La")
        if not gray and image.mode in ("LAB", "HSV", "YCbCr"):
            metadata["icc"] = None  # it describes that color space, and the result is RGB
        metadata["gray"] = gray
        mode = ("LA" if gray else "RGBA") if transparent else ("L" if gray else "RGB")
        colors = np.empty((height, width) if gray else (height, width, 3), np.uint8)
        alpha = np.empty((height, width), np.uint8) if transparent else None
        for rows, strip in _strips(image, lambda part: np.asarray(part if part.mode == mode else part.convert(mode))):
            if alpha is not None:
                alpha[rows] = strip[..., -1]
            colors[rows] = strip[..., 0] if strip.ndim == 3 and gray else strip[..., :3] if transparent else strip
    return _upright(Picture(colors, alpha, cmyk=cmyk_values, **metadata))


def _strips(image: Image.Image, convert: Callable[[Image.Image], Any]) -> Iterator[tuple[slice, Any]]:
    """The converted strips of an image from top to bottom, each with its slice of rows."""
    width, height = image.size
    for start in range(0, height, STRIP):
        stop = min(start + STRIP, height)
        yield slice(start, stop), convert(image.crop((0, start, width, stop)))


def _metadata(image: Image.Image) -> dict[str, Any]:
    """The attributes of a :class:`Picture` besides its pixels."""
    try:
        # Not PngImageFile's method, which decodes all pixels to find EXIF.
        exif = Image.Image.getexif(image)
    except Exception:  # a damaged EXIF block must not make the image unreadable
        exif = Image.Exif()
    orientation = exif.get(ORIENTATION_TAG, 1)
    return {
        "orientation": orientation if orientation in range(1, 9) else 1,
        "exif": image.info.get("exif") or _exif_bytes(image, exif),
        "icc": image.info.get("icc_profile") or None,
        "format": "JPEG" if image.format == "MPO" else image.format,
        "info": {"dpi": image.info["dpi"]} if isinstance(image.info.get("dpi"), tuple) else {},
    }


def _exif_bytes(image: Image.Image, exif: Image.Exif) -> bytes | None:
    """The EXIF block of an image that does not provide it as bytes, such as a TIFF."""
    block = Image.Exif()
    for tag, value in exif.items():
        if tag in _EXIF_TAGS or image.format != "TIFF":
            block[tag] = value
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        for tag, value in exif.get_ifd(directory).items():
            block.get_ifd(directory)[tag] = value
    return block.tobytes() if len(block) or block.get_ifd(ExifTags.IFD.Exif) else None


def _upright(image: Picture) -> Picture:
    """An image in stored orientation, rotated upright."""

    def upright(values: npt.NDArray[Any] | None) -> Any:
        return None if values is None else to_upright(values, image.orientation)

    return replace(image, values=upright(image.values), alpha=upright(image.alpha), cmyk=upright(image.cmyk))


def _read_sixteen_bit_png(file: BinaryIO, header: Image.Image, color_type: int, name: str) -> Picture:
    """A 16-bit PNG with color or alpha: metadata by Pillow, pixels by OpenCV."""
    exif = png.check(file)  # raises on truncated files, whose missing part older OpenCV silently fills
    if exif is not None:
        header.info.setdefault("exif", b"Exif\0\0" + exif)
    return _sixteen_bit_image(_read_with_cv2(file, name, "PNG"), gray=color_type in _GRAY_PNG, **_metadata(header))


def _read_sixteen_bit_tiff(file: BinaryIO, name: str, max_pixels: int) -> Picture | None:
    """The image of a TIFF with 16-bit samples, which Pillow cannot read in color; ``None`` for other TIFFs."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        tiff = tifffile.TiffFile(file)  # leaves the file open
        pages = len(tiff.pages)
        page = tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)
    except Exception as error:
        raise InputError(f"{name}: damaged or truncated TIFF ({error}); fetch it again") from None
    _check_size(page.imagewidth, page.imagelength, name, max_pixels)
    if page.bitspersample != 16 or page.sampleformat not in (1, None):
        return None
    if pages > 1:
        raise InputError(f"{name}: contains {pages} pages; split it into single images first")
    if page.photometric not in (1, 2):
        raise InputError(f"{name}: 16-bit TIFFs must be RGB or gray; convert it to one of them first")
    if any(o + n > size for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise InputError(f"{name}: truncated 16-bit TIFF; fetch it again")
    tags = page.tags
    orientation = int(tags[ORIENTATION_TAG].value) if ORIENTATION_TAG in tags else 1
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    values: npt.NDArray[Any]
    if page.compression in _TIFFFILE_COMPRESSIONS:
        values = page.asarray().astype(np.uint16, copy=False)  # strip by strip; in native byte order
        values = np.moveaxis(values, 0, -1) if planar else values
    elif planar:  # OpenCV would mix up the planes
        raise InputError(f"{name}: a compressed 16-bit TIFF with separate planes; save it with interleaved channels")
    else:
        values = _read_with_cv2(file, name, "TIFF")
    return _sixteen_bit_image(
        values,
        gray=page.photometric == 1,
        orientation=orientation if orientation in range(1, 9) else 1,
        icc=bytes(tags[34675].value) if 34675 in tags else None,
        format="TIFF",
        info={"dpi": page.get_resolution("inch")} if 282 in tags else {},
    )


def _read_with_cv2(file: BinaryIO, name: str, kind: str) -> npt.NDArray[np.uint16]:
    """The pixels of a 16-bit file: gray, RGB or RGBA."""
    path = getattr(file, "name", None)
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


def _sixteen_bit_image(values: npt.NDArray[np.uint16], *, gray: bool, **metadata: Any) -> Picture:
    """An image with 16 bits per channel from its pixels as stored: the colors, then alpha if there is one."""
    values = values[..., None] if values.ndim == 2 else values
    samples = values.shape[2]
    if samples > 4 or (samples < 3 and not gray):
        raise ValueError(f"{samples} samples per pixel")
    alpha = values[..., -1] if samples in (2, 4) else None
    colors = values[..., 0] if gray else values[..., :3]
    return _upright(Picture(colors, alpha, depth=16, gray=gray, **metadata))
