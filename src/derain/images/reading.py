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
from .picture import STRIP, Picture, turn

#: Files with more pixels than this are refused before they are decoded (Pillow's own bomb limit).
MAX_PIXELS = 178_956_970
_ORIENTATION = 0x0112
# What EXIF describes among a TIFF's own tags; the others lay out its pixels.
_EXIF_TAGS = {0x010E, 0x010F, 0x0110, _ORIENTATION, 0x0131, 0x0132, 0x013B, 0x8298}
_DEEP_GRAY = ("I;16", "I;16B", "I;16L", "I")
_GRAY_PNG = (0, 4)  # color types
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What tifffile unpacks by itself: nothing, Deflate, Adobe's Deflate.
_TIFFFILE_UNPACKS = (1, 8, 32946)


def read(path: str | Path) -> Picture:
    """Read a picture file.

    Raises:
        InputError: missing, unreadable, empty, truncated, not a still picture, or too large.
    """
    path = Path(path)
    try:
        kind = path.stat().st_mode
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            raise InputError(f"{path}: is a device; give a picture file")
        # What is no plain file, such as a pipe, may not let itself be read twice.
        file = path.open("rb") if stat.S_ISREG(kind) else io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give a picture file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    with file:
        return _decode(file, str(path), MAX_PIXELS)


def decode(data: bytes, *, name: str = "input", max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture from the bytes of a file.

    Args:
        data: the whole file.
        name: what error messages call it.
        max_pixels: refuse larger pictures before decoding them.

    Raises:
        InputError: empty, truncated, not a still picture, or too large.
    """
    return _decode(io.BytesIO(data), name, max_pixels)


def _decode(file: BinaryIO, name: str, max_pixels: int) -> Picture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large or slightly broken files; real faults raise
        try:
            head = file.read(26)
            if not head:
                raise InputError(f"{name}: is empty (0 bytes); the copy or download probably failed, fetch it again")
            if head[:4] in _TIFF and (deep := _deep_tiff(file, name, max_pixels)) is not None:
                return deep
            file.seek(0)
            with Image.open(file) as image:
                _refuse_large(*image.size, name, max_pixels)
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    raise InputError(
                        f"{name}: holds {image.n_frames} frames or pages; split it into single pictures first"  # type: ignore[attr-defined]
                    )
                if image.format == "PNG" and head[24] == 16 and image.mode not in _DEEP_GRAY:
                    return _deep_png(file, image, head[25], name)
                return from_pil(image, name=name)
        except Image.DecompressionBombError:
            raise _too_large(None, name, max_pixels) from None
        except UnidentifiedImageError:
            raise InputError(f"{name}: not a picture that derain can read; use {_known()}") from None
        except InputError:
            raise
        except MemoryError:
            raise InputError(f"{name}: too little memory to decode it; reduce its size first") from None
        except Exception as error:  # decoders raise many kinds on damaged files
            raise InputError(f"{name}: damaged or truncated ({error}); fetch it again") from None


def _known() -> str:
    return "JPEG, PNG, WebP, TIFF, BMP or AVIF"


def _too_large(size: tuple[int, int] | None, name: str, limit: int) -> InputError:
    what = f"{size[0]}×{size[1]} pixels, more" if size else "more pixels"
    return InputError(f"{name}: declares {what} than the limit of {limit / 1e6:.0f} megapixels; reduce it first")


def _refuse_large(width: int, height: int, name: str, limit: int) -> None:
    if width * height > limit:
        raise _too_large((width, height), name, limit)


def from_pil(image: Image.Image, *, name: str = "the image") -> Picture:
    """Take over a PIL image of any mode; nothing is lost but a palette's index order.

    Args:
        image: any PIL image.
        name: what error messages call it.

    Raises:
        InputError: 32-bit modes (``F``, and ``I`` beyond 16 bits).
    """
    image.load()
    about = _about(image)
    width, height = image.size
    colors: npt.NDArray[Any]
    alpha = inks = None
    if image.mode == "F":
        raise InputError(f"{name}: 32-bit float is not supported; convert it to a 16-bit TIFF or PNG first")
    if image.mode in _DEEP_GRAY:
        colors = np.empty((height, width), np.uint16)
        for rows, strip in _strips(image, np.asarray):
            if strip.min() < 0 or strip.max() > 65535:
                raise InputError(f"{name}: 32-bit gray that goes beyond 16 bits; convert it to 16-bit first")
            colors[rows] = strip
        about.update(depth=16, gray=True)
    elif image.mode == "CMYK":
        colors, inks = np.empty((height, width, 3), np.uint8), np.empty((height, width, 4), np.uint8)
        as_rgb = cmyk.to_rgb(about["icc"])
        for rows, part in _strips(image, lambda part: part):
            colors[rows], inks[rows] = np.asarray(as_rgb(part)), np.asarray(part)
    else:
        transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        gray = image.mode in ("1", "L", "LA", "La")
        if not gray and image.mode in ("LAB", "HSV", "YCbCr"):
            about["icc"] = None  # it described that space, and the result is RGB
        about["gray"] = gray
        mode = ("LA" if gray else "RGBA") if transparent else ("L" if gray else "RGB")
        colors = np.empty((height, width) if gray else (height, width, 3), np.uint8)
        alpha = np.empty((height, width), np.uint8) if transparent else None
        for rows, strip in _strips(image, lambda part: np.asarray(part if part.mode == mode else part.convert(mode))):
            if alpha is not None:
                alpha[rows] = strip[..., -1]
            colors[rows] = strip[..., 0] if strip.ndim == 3 and gray else strip[..., :3] if transparent else strip
    return _upright(Picture(colors, alpha, cmyk=inks, **about))


def _strips(image: Image.Image, take: Callable[[Image.Image], Any]) -> Iterator[tuple[slice, Any]]:
    """Some rows of an image after the other."""
    width, height = image.size
    for start in range(0, height, STRIP):
        stop = min(start + STRIP, height)
        yield slice(start, stop), take(image.crop((0, start, width, stop)))


def _about(image: Image.Image) -> dict[str, Any]:
    """What a picture keeps beside its pixels."""
    try:
        # Not a PNG's own method, which decodes all pixels in search of EXIF.
        exif = Image.Image.getexif(image)
    except Exception:  # a broken EXIF block must not cost the photograph
        exif = Image.Exif()
    orientation = exif.get(_ORIENTATION, 1)
    return {
        "orientation": orientation if orientation in range(1, 9) else 1,
        "exif": image.info.get("exif") or _exif_of(image, exif),
        "icc": image.info.get("icc_profile") or None,
        "format": "JPEG" if image.format == "MPO" else image.format,
        "info": {"dpi": image.info["dpi"]} if isinstance(image.info.get("dpi"), tuple) else {},
    }


def _exif_of(image: Image.Image, exif: Image.Exif) -> bytes | None:
    """The EXIF block of an image that does not carry it as bytes, such as a TIFF."""
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag in _EXIF_TAGS or image.format != "TIFF":
            kept[tag] = value
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        for tag, value in exif.get_ifd(directory).items():
            kept.get_ifd(directory)[tag] = value
    return kept.tobytes() if len(kept) or kept.get_ifd(ExifTags.IFD.Exif) else None


def _upright(picture: Picture) -> Picture:
    """A picture as stored, turned as its orientation tells."""

    def turned(values: npt.NDArray[Any] | None) -> Any:
        return None if values is None else turn(values, picture.orientation, undo=False)

    return replace(picture, values=turned(picture.values), alpha=turned(picture.alpha), cmyk=turned(picture.cmyk))


def _deep_png(file: BinaryIO, header: Image.Image, color_type: int, name: str) -> Picture:
    """A 16-bit PNG with color or alpha. Pillow gives its metadata, OpenCV its pixels."""
    exif = png.check(file)  # older OpenCV fills the missing part of a truncated file in silence; this raises
    if exif is not None:
        header.info.setdefault("exif", b"Exif\0\0" + exif)
    return _deep(_by_cv2(file, name, "PNG"), gray=color_type in _GRAY_PNG, **_about(header))


def _deep_tiff(file: BinaryIO, name: str, max_pixels: int) -> Picture | None:
    """The picture of a TIFF with 16-bit samples, which Pillow cannot read in color; ``None`` for other TIFFs."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        tiff = tifffile.TiffFile(file)  # leaves the file open
        pages = len(tiff.pages)
        page = tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)
    except Exception as error:
        raise InputError(f"{name}: damaged or truncated TIFF ({error}); fetch it again") from None
    _refuse_large(page.imagewidth, page.imagelength, name, max_pixels)
    if page.bitspersample != 16 or page.sampleformat not in (1, None):
        return None
    if pages > 1:
        raise InputError(f"{name}: holds {pages} pages; split it into single pictures first")
    if page.photometric not in (1, 2):
        raise InputError(
            f"{name}: a 16-bit TIFF of another color model than RGB or gray; convert it to RGB or gray first"
        )
    if any(o + n > size for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise InputError(f"{name}: truncated 16-bit TIFF; fetch it again")
    tags = page.tags
    orientation = int(tags[_ORIENTATION].value) if _ORIENTATION in tags else 1
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    values: npt.NDArray[Any]
    if page.compression in _TIFFFILE_UNPACKS:
        values = page.asarray().astype(np.uint16, copy=False)  # strip by strip; in this machine's byte order
        values = np.moveaxis(values, 0, -1) if planar else values
    elif planar:  # OpenCV would mix the planes up
        raise InputError(f"{name}: a compressed 16-bit TIFF of separate planes; save it with interleaved channels")
    else:
        values = _by_cv2(file, name, "TIFF")
    return _deep(
        values,
        gray=page.photometric == 1,
        orientation=orientation if orientation in range(1, 9) else 1,
        icc=bytes(tags[34675].value) if 34675 in tags else None,
        format="TIFF",
        info={"dpi": page.get_resolution("inch")} if 282 in tags else {},
    )


def _by_cv2(file: BinaryIO, name: str, kind: str) -> npt.NDArray[np.uint16]:
    """The pixels of a 16-bit file: gray, RGB or RGBA."""
    path = getattr(file, "name", None)
    values = cv2.imread(path, cv2.IMREAD_UNCHANGED) if path else None
    if values is None:  # no file, or one whose name OpenCV cannot take
        file.seek(0)
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise InputError(f"{name}: damaged 16-bit {kind}, or a compression that OpenCV lacks; save it anew")
    if values.ndim == 3:
        for start in range(0, len(values), STRIP):  # OpenCV has blue first
            values[start : start + STRIP, :, :3] = values[start : start + STRIP, :, 2::-1]
    return values  # type: ignore[return-value]


def _deep(values: npt.NDArray[np.uint16], *, gray: bool, **about: Any) -> Picture:
    """A picture of 16 bits a channel from its pixels as stored: the colors, then alpha if there is one."""
    values = values[..., None] if values.ndim == 2 else values
    samples = values.shape[2]
    if samples > 4 or (samples < 3 and not gray):
        raise ValueError(f"{samples} samples a pixel")
    alpha = values[..., -1] if samples in (2, 4) else None
    colors = values[..., 0] if gray else values[..., :3]
    return _upright(Picture(colors, alpha, depth=16, gray=gray, **about))
