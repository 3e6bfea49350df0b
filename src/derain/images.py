"""Picture files, bytes, arrays and PIL images, to one :class:`Picture` value and back.

A ``Picture`` holds what the network needs (float32 RGB, upright) beside everything that must survive
the round trip: alpha, bit depth, greyness, orientation, EXIF, ICC profile, CMYK black, file format.

Pillow reads and writes 8-bit files and 16-bit grey. It cuts 16-bit colour to 8 bits in silence, so
those files go through OpenCV, with their metadata put back afterwards.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import tempfile
import warnings
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from .errors import InputError, OutputError

FloatArray = npt.NDArray[np.float32]

#: Files with more pixels than this are refused before they are decoded (Pillow's own bomb limit).
MAX_PIXELS = 178_956_970
#: Suffix -> Pillow's format name, for choosing files in folders and the format of an output.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
}
_SIXTEEN_BIT = {"PNG", "TIFF"}
_KEEPS_EXIF = {"JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"}
_KEEPS_ALPHA = {"PNG", "WEBP", "TIFF", "AVIF", "HEIF"}
_STRIP = 256  # rows quantised at once
_KEEPS_CMYK = {"JPEG", "TIFF"}
_ORIENTATION = 0x0112
# What EXIF describes among a TIFF's own tags; the others lay out its pixels.
_EXIF_TAGS = {0x010E, 0x010F, 0x0110, _ORIENTATION, 0x0131, 0x0132, 0x013B, 0x8298}
# EXIF orientation -> the PIL operation that makes the picture upright, and the one that undoes it.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_AS_STORED = {**_UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@dataclass(frozen=True)
class Picture:
    """A still picture.

    Attributes:
        pixels: ``(H, W, 3)`` float32 RGB in [0, 1], turned upright.
        alpha: ``(H, W)`` uint8 or uint16 as it was, upright, or ``None``.
        depth: bits a channel of the source, 8 or 16.
        grey: the source had no colour; a result is written without colour too.
        orientation: EXIF orientation of the source, 1 to 8. Files that carry EXIF are written turned
            as the source was, with the same tag, so that they look upright where the source did.
        exif: the source's EXIF block, or ``None``.
        icc: the source's ICC profile, or ``None``. Pixels are never converted to another profile,
            except CMYK, which goes to RGB for the network and back.
        cmyk: ``(H, W, 4)`` uint8 inks of a CMYK source, upright, or ``None``.
        format: Pillow's name of the source format (``JPEG``, ``PNG``…), or ``None``.
        info: further settings to be kept, such as ``dpi``.
    """

    pixels: FloatArray
    alpha: npt.NDArray[Any] | None = None
    depth: int = 8
    grey: bool = False
    orientation: int = 1
    exif: bytes | None = None
    icc: bytes | None = None
    cmyk: npt.NDArray[np.uint8] | None = None
    format: str | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels, as seen upright."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def with_pixels(self, pixels: FloatArray) -> Picture:
        """The same picture with other colours; ``(H, W, 3)`` float, clamped to [0, 1] when written."""
        if pixels.shape != self.pixels.shape:
            raise ValueError(f"new pixels are {pixels.shape}, the picture {self.pixels.shape}")
        return replace(self, pixels=pixels)

    def array(self) -> npt.NDArray[Any]:
        """Upright integer pixels at the source's depth: ``(H, W)``, ``(H, W, 3)`` or with alpha last."""
        top, kind = (65535, np.uint16) if self.depth == 16 else (255, np.uint8)
        height, width = self.pixels.shape[:2]
        quantised = np.empty((height, width, 1 if self.grey else 3), kind)
        for start in range(0, height, _STRIP):  # in strips: a large picture must not need copies in float
            strip = self.pixels[start : start + _STRIP]
            strip = strip.mean(axis=2, keepdims=True) if self.grey else strip
            quantised[start : start + _STRIP] = np.clip(strip, 0, 1) * top + 0.5
        if self.alpha is not None:
            quantised = np.concatenate([quantised, self.alpha.astype(kind)[..., None]], axis=2)
        return quantised[..., 0] if quantised.shape[2] == 1 else quantised

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self.array() if dtype is None else self.array().astype(dtype)

    def to_pil(self) -> Image.Image:
        """An upright 8-bit PIL image (16-bit grey stays ``I;16``; 16-bit colour becomes 8-bit)."""
        if self.depth == 16 and not (self.grey and self.alpha is None):
            return replace(self, depth=8, alpha=_to_8bit(self.alpha)).to_pil()
        return Image.fromarray(self.array())

    def save(self, path: str | Path, *, quality: int = 95, overwrite: bool = False) -> None:
        """Write to a file; see :func:`write`."""
        write(self, Path(path), quality=quality, overwrite=overwrite)


# --- reading -------------------------------------------------------------------------------------


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
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give a picture file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    return decode(data, name=str(path))


def decode(data: bytes, *, name: str = "input", max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture from the bytes of a file.

    Args:
        data: the whole file.
        name: what error messages call it.
        max_pixels: refuse larger pictures before decoding them.

    Raises:
        InputError: empty, truncated, not a still picture, or too large.
    """
    if not data:
        raise InputError(f"{name}: is empty (0 bytes); the copy or download probably failed, fetch it again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large or slightly broken files; real faults raise
        try:
            if data[:4] in (b"II*\0", b"MM\0*") and _is_deep_tiff(data, name, max_pixels):
                return _decode_deep_tiff(data, name)
            with Image.open(io.BytesIO(data)) as image:
                _refuse_large(*image.size, name, max_pixels)
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    raise InputError(
                        f"{name}: holds {image.n_frames} frames or pages; split it into single pictures first"  # type: ignore[attr-defined]
                    )
                if image.format == "PNG" and data[24] == 16 and image.mode not in ("I;16", "I;16B", "I"):
                    return _decode_deep_png(data, image, name)
                image.load()
                return from_pil(image, name=name)
        except Image.DecompressionBombError:
            raise _too_large(None, name, max_pixels) from None
        except UnidentifiedImageError:
            raise InputError(f"{name}: not a picture that derain can read; use {_known()}") from None
        except InputError:
            raise
        except MemoryError:
            raise InputError(f"{name}: too little memory to decode it; reduce its size first") from None
        except Exception as error:  # Pillow's decoders raise many kinds on damaged files
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
    info: dict[str, Any] = {}
    if isinstance(image.info.get("dpi"), tuple):
        info["dpi"] = image.info["dpi"]
    try:
        exif = image.getexif()
    except Exception:  # a broken EXIF block must not cost the photograph
        exif = Image.Exif()
    orientation = exif.get(_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    common: dict[str, Any] = {
        "orientation": orientation,
        "exif": image.info.get("exif") or _exif_of(image, exif),
        "icc": image.info.get("icc_profile") or None,
        "format": "JPEG" if image.format == "MPO" else image.format,
        "info": info,
    }
    if orientation != 1:
        image = image.transpose(_UPRIGHT[orientation])

    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{name}: 32-bit grey that goes beyond 16 bits; convert it to 16-bit first")
        grey = (values / 65535).astype(np.float32)
        return Picture(_as_rgb(grey), depth=16, grey=True, **common)
    if image.mode == "F":
        raise InputError(f"{name}: 32-bit float is not supported; convert it to a 16-bit TIFF or PNG first")
    if image.mode == "CMYK":
        inks = np.asarray(image)
        rgb = np.asarray(_cmyk_to_rgb(image, common["icc"]))
        return Picture(_unit(rgb), cmyk=inks, **common)

    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    grey_mode = image.mode in ("1", "L", "LA", "La")
    if not grey_mode and image.mode in ("LAB", "HSV", "YCbCr"):
        common["icc"] = None  # it described that space, and the result is RGB
    image = image.convert(("LA" if grey_mode else "RGBA") if transparent else ("L" if grey_mode else "RGB"))
    values8 = np.asarray(image)
    if grey_mode and not transparent:
        return Picture(_as_rgb(_unit(values8)), grey=True, **common)
    alpha = np.ascontiguousarray(values8[..., -1]) if transparent else None
    colour = _as_rgb(_unit(values8[..., 0])) if grey_mode else _unit(values8[..., :3])
    return Picture(colour, alpha=alpha, grey=grey_mode, **common)


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


def back_to_pil(picture: Picture, source: Image.Image) -> Image.Image:
    """A picture made by :func:`from_pil` as a PIL image again: the source's mode, turn and metadata.

    Palette images come back as RGB or RGBA, bilevel ones as grey.
    """
    image = _rgb_to_cmyk(picture) if picture.cmyk is not None else picture.to_pil()
    image = _as_stored(image, picture.orientation)
    image.info = {k: v for k, v in source.info.items() if k not in ("transparency", "palette")}
    if picture.orientation != 1 and "exif" not in image.info and picture.exif is not None:
        image.info["exif"] = picture.exif
    return image


def _as_stored(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an upright image back to how its source was stored."""
    return image if orientation == 1 else image.transpose(_AS_STORED[orientation])


def _unit(values: npt.NDArray[Any]) -> FloatArray:
    """Integers to float32 in [0, 1]."""
    unit: FloatArray = np.divide(values, np.float32(np.iinfo(values.dtype).max), dtype=np.float32)
    return unit


def _as_rgb(grey: FloatArray) -> FloatArray:
    return np.repeat(grey[..., None], 3, axis=2)


def _to_8bit(values: npt.NDArray[Any] | None) -> npt.NDArray[np.uint8] | None:
    if values is None or values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_cv2(values: npt.NDArray[Any], **common: Any) -> Picture:
    """A 16-bit array in OpenCV's channel order (grey, BGR, BGRA) to a picture, turned upright."""
    values = _turn(values, common["orientation"], undo=False)
    if values.ndim == 2:
        return Picture(_as_rgb(_unit(values)), depth=16, grey=True, **common)
    alpha = np.ascontiguousarray(values[..., 3]) if values.shape[2] == 4 else None
    return Picture(_unit(values[..., 2::-1]), alpha=alpha, depth=16, **common)


def _turn(values: npt.NDArray[Any], orientation: int, *, undo: bool) -> npt.NDArray[Any]:
    """Turn an array upright as EXIF says, or back."""
    if orientation in (1, None):
        return values
    if undo and orientation in (6, 8):
        orientation = 14 - orientation  # the two quarter turns undo each other; all others are their own
    turned = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a[::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }[orientation](values)
    return np.ascontiguousarray(turned)


def _decode_deep_png(data: bytes, header: Image.Image, name: str) -> Picture:
    """A 16-bit PNG with colour or alpha. Pillow gives its metadata, OpenCV its pixels."""
    header.load()  # OpenCV would fill the missing part of a truncated file in silence; this raises
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise InputError(f"{name}: damaged 16-bit PNG; fetch it again")
    about = from_pil(header, name=name)
    picture = _from_cv2(
        values, orientation=about.orientation, exif=about.exif, icc=about.icc, format="PNG", info=about.info
    )
    # OpenCV turns grey with alpha into colour; Pillow knew better.
    return replace(picture, grey=header.mode in ("LA", "L", "I;16"))


def _tiff_page(data: bytes) -> tifffile.TiffPage:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        return page


def _is_deep_tiff(data: bytes, name: str, max_pixels: int) -> bool:
    """Whether a TIFF holds 16-bit samples, which Pillow cannot read in colour."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pages = len(file.pages)
        page = _tiff_page(data)
    except Exception as error:
        raise InputError(f"{name}: damaged or truncated TIFF ({error}); fetch it again") from None
    _refuse_large(page.imagewidth, page.imagelength, name, max_pixels)
    if page.bitspersample != 16 or page.sampleformat not in (1, None):
        return False
    if pages > 1:
        raise InputError(f"{name}: holds {pages} pages; split it into single pictures first")
    return True


def _decode_deep_tiff(data: bytes, name: str) -> Picture:
    page = _tiff_page(data)
    if page.photometric not in (1, 2):
        raise InputError(
            f"{name}: a 16-bit TIFF of another colour model than RGB or grey; convert it to RGB or grey first"
        )
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise InputError(f"{name}: damaged 16-bit TIFF, or a compression that OpenCV lacks; save it anew")
    tags = page.tags
    orientation = int(tags[_ORIENTATION].value) if _ORIENTATION in tags else 1
    return _from_cv2(
        values,
        orientation=orientation if orientation in _UPRIGHT else 1,
        icc=bytes(tags[34675].value) if 34675 in tags else None,
        format="TIFF",
        info={"dpi": page.get_resolution("inch")} if 282 in tags else {},
    )


# --- CMYK ----------------------------------------------------------------------------------------


def _profile(icc: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(icc))


def _cmyk_to_rgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc is not None:
        try:
            srgb = ImageCms.createProfile("sRGB")
            turned = ImageCms.profileToProfile(image, _profile(icc), srgb, outputMode="RGB")
            if turned is not None:
                return turned
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile: fall through to the plain formula
    return image.convert("RGB")


def _rgb_to_cmyk(picture: Picture) -> Image.Image:
    rgb = np.clip(picture.pixels, 0, 1)
    if picture.icc is not None:
        try:
            srgb = ImageCms.createProfile("sRGB")
            eight = Image.fromarray((rgb * 255 + 0.5).astype(np.uint8))
            turned = ImageCms.profileToProfile(eight, srgb, _profile(picture.icc), outputMode="CMYK")
            if turned is not None:
                return turned
        except (ImageCms.PyCMSError, OSError):
            pass
    assert picture.cmyk is not None
    # Keep the black plate where the new colour allows it; the other inks follow from R = (1-C)(1-K).
    black = np.minimum(picture.cmyk[..., 3] / 255.0, 1 - rgb.max(axis=2))
    inks = 1 - rgb / np.maximum(1 - black, 1e-6)[..., None]
    stacked = np.concatenate([np.clip(inks, 0, 1), black[..., None]], axis=2)
    return Image.fromarray((stacked * 255 + 0.5).astype(np.uint8), mode="CMYK")


# --- writing -------------------------------------------------------------------------------------


def format_for(path: Path) -> str:
    """Pillow's format name for a file name.

    Raises:
        OutputError: a suffix that derain cannot write.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None or (kind == "HEIF" and not _pillow_writes(kind)):
        raise OutputError(
            f"{path}: cannot write {path.suffix or 'a file without suffix'}; use .jpg, .png, .webp or .tif"
        )
    return kind


def result_format(picture: Picture) -> str:
    """Pillow's name of the format that a result is given in if none is asked for.

    The source's own format, or PNG where derain does not write that.
    """
    kind = picture.format
    return kind if kind is not None and kind in FORMATS.values() and _pillow_writes(kind) else "PNG"


def _pillow_writes(kind: str) -> bool:
    Image.init()
    return kind in Image.SAVE


def encode(picture: Picture, kind: str, *, quality: int = 95) -> bytes:
    """The bytes of a picture file.

    Args:
        picture: what to write; its depth, alpha, EXIF and ICC profile are kept where ``kind`` can.
        kind: Pillow's format name, such as ``PNG``.
        quality: 1 to 100 for JPEG, WebP and AVIF.

    Raises:
        OutputError: this Pillow cannot write ``kind``.
    """
    if not _pillow_writes(kind):
        raise OutputError(f"this Pillow cannot write {kind}; use .png or .jpg")
    if picture.alpha is not None and kind not in _KEEPS_ALPHA:
        picture = replace(picture, alpha=None)
    if picture.depth == 16 and (kind == "TIFF" or (kind == "PNG" and not picture.grey)):
        return _encode_deep_tiff(picture) if kind == "TIFF" else _encode_deep_png(picture)
    if picture.depth == 16 and picture.alpha is not None and kind == "PNG":
        return _encode_deep_png(picture)

    if picture.depth == 16 and kind not in _SIXTEEN_BIT:
        picture = replace(picture, depth=8, alpha=_to_8bit(picture.alpha))
    image = _rgb_to_cmyk(picture) if picture.cmyk is not None and kind in _KEEPS_CMYK else picture.to_pil()
    carries_exif = kind in _KEEPS_EXIF and picture.exif is not None
    if carries_exif:
        image = _as_stored(image, picture.orientation)

    options: dict[str, Any] = dict(picture.info)
    if carries_exif:
        options["exif"] = picture.exif
    if picture.icc is not None and (picture.cmyk is None or image.mode == "CMYK"):
        options["icc_profile"] = picture.icc
    if kind in ("JPEG", "WEBP", "AVIF", "HEIF"):
        options["quality"] = quality
    if kind == "JPEG":
        # Full chroma resolution where quality is asked for: rain streaks are thin.
        options["subsampling"] = 0 if quality >= 90 else 2
    if kind == "TIFF" and "exif" not in options:
        options["compression"] = "tiff_lzw"  # libtiff, which compresses, cannot write the EXIF directory
    if kind == "WEBP":
        options["exact"] = True  # colours under transparent pixels are the photographer's
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _encode_deep_png(picture: Picture) -> bytes:
    values = picture.array()
    keeps_tag = picture.exif is not None
    if keeps_tag:
        values = _turn(values, picture.orientation, undo=True)
    if values.shape[2] == 2:  # OpenCV has no grey with alpha: write colour
        values = np.concatenate([np.repeat(values[..., :1], 3, axis=2), values[..., 1:]], axis=2)
    swapped = values[..., [2, 1, 0, 3]] if values.shape[2] == 4 else values[..., ::-1]
    ok, encoded = cv2.imencode(".png", np.ascontiguousarray(swapped))
    if not ok:
        raise OutputError("OpenCV could not write the 16-bit PNG; save as .tif instead")
    chunks = []
    if picture.icc is not None:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc)))
    if keeps_tag:
        assert picture.exif is not None
        chunks.append((b"eXIf", picture.exif.removeprefix(b"Exif\0\0")))
    if "dpi" in picture.info:
        metre = [round(float(d) / 0.0254) for d in picture.info["dpi"]]
        chunks.append((b"pHYs", struct.pack(">IIB", *metre, 1)))
    data = encoded.tobytes()
    after_header = 8 + 25  # signature, then the IHDR chunk of fixed length
    extra = b"".join(
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body)) for tag, body in chunks
    )
    return data[:after_header] + extra + data[after_header:]


def _encode_deep_tiff(picture: Picture) -> bytes:
    values = _turn(picture.array(), picture.orientation, undo=True)
    options: dict[str, Any] = {}
    if "dpi" in picture.info:
        options.update(resolution=tuple(picture.info["dpi"]), resolutionunit="INCH")
    if picture.alpha is not None:
        options["extrasamples"] = ["UNASSALPHA"]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        values,
        photometric="minisblack" if picture.grey else "rgb",
        compression="zlib",
        metadata=None,
        iccprofile=picture.icc,
        extratags=[(_ORIENTATION, 3, 1, picture.orientation, True)],
        **options,
    )
    return buffer.getvalue()


def write_bytes(data: bytes, path: Path, *, overwrite: bool = False) -> None:
    """Put bytes into a file whole or not at all: a temporary file beside it, then a rename.

    Raises:
        OutputError: the file exists and ``overwrite`` is off, or it cannot be written.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; add --overwrite or choose another output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".derain-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another output folder") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write(picture: Picture, path: Path, *, quality: int = 95, overwrite: bool = False) -> None:
    """Write a picture; the suffix chooses the format. Never leaves a half-written file.

    Raises:
        OutputError: unknown suffix, existing file without ``overwrite``, or unwritable place.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; add --overwrite or choose another output")
    write_bytes(encode(picture, format_for(path), quality=quality), path, overwrite=overwrite)
