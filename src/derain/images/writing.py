"""From :class:`Picture` to files, bytes and PIL images."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import tifffile
from PIL import Image

from derain.errors import OutputError
from derain.files import atomic_write

from . import cmyk, png
from .picture import Picture

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
_KEEPS_EXIF = {"JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"}
_KEEPS_ALPHA = {"PNG", "WEBP", "TIFF", "AVIF", "HEIF"}
_KEEPS_CMYK = {"JPEG", "TIFF"}
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}  # pixels of a side
_ORIENTATION = 0x0112
_TIFF_STRIP = 2**18  # bytes of one strip, before it is compressed


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


def back_to_pil(picture: Picture, source: Image.Image) -> Image.Image:
    """A picture made by :func:`derain.images.from_pil` as a PIL image again: the source's mode, turn and metadata.

    Palette images come back as RGB or RGBA, bilevel ones as gray.
    """
    stored = picture.turned()
    image = stored.to_pil() if stored.cmyk is None else cmyk.to_inks(stored)
    image.info = {k: v for k, v in source.info.items() if k not in ("transparency", "palette")}
    if picture.orientation != 1 and "exif" not in image.info and picture.exif is not None:
        image.info["exif"] = picture.exif
    return image


def encode(picture: Picture, kind: str, *, quality: int = 95) -> bytes:
    """The bytes of a picture file.

    Args:
        picture: what to write; its depth, alpha, EXIF and ICC profile are kept where ``kind`` can.
        kind: Pillow's format name, such as ``PNG``.
        quality: 1 to 100 for JPEG, WebP and AVIF.

    Raises:
        OutputError: this Pillow cannot write ``kind``, or the format cannot hold so long a side.
    """
    file = io.BytesIO()
    _encode(picture, kind, file, quality)
    return file.getvalue()


def write(picture: Picture, path: Path, *, quality: int = 95, overwrite: bool = False) -> None:
    """Write a picture; the suffix chooses the format. Never leaves a half-written file.

    Raises:
        OutputError: unknown suffix, existing file without ``overwrite``, unwritable place, or a format that
            cannot hold so long a side.
    """
    kind = format_for(path)
    with atomic_write(path, overwrite=overwrite) as file:
        _encode(picture, kind, file, quality)


def _encode(picture: Picture, kind: str, file: BinaryIO, quality: int) -> None:
    if not _pillow_writes(kind):
        raise OutputError(f"this Pillow cannot write {kind}; use .png or .jpg")
    if max(picture.size) > _LONGEST.get(kind, max(picture.size)):
        raise OutputError(
            f"{kind} holds sides up to {_LONGEST[kind]} pixels, and this picture has {max(picture.size)}; "
            "write it as .png or .tif"
        )
    if picture.alpha is not None and kind not in _KEEPS_ALPHA:
        picture = replace(picture, alpha=None)
    if picture.depth == 16 and kind == "TIFF":
        _write_deep_tiff(picture, file)
    elif picture.depth == 16 and kind == "PNG":
        png.write_deep(picture, file)
    else:
        _by_pillow(replace(picture, depth=8), kind, file, quality)


def _by_pillow(picture: Picture, kind: str, file: BinaryIO, quality: int) -> None:
    options: dict[str, Any] = dict(picture.info)
    if kind in _KEEPS_EXIF and picture.exif is not None:
        options["exif"] = picture.exif
        picture = picture.turned()
    in_inks = picture.cmyk is not None and kind in _KEEPS_CMYK
    if picture.icc is not None and (picture.cmyk is None or in_inks):
        options["icc_profile"] = picture.icc
    if kind in ("JPEG", "WEBP", "AVIF", "HEIF"):
        options["quality"] = quality
    if kind == "JPEG":
        # Full chroma resolution where quality is asked for: rain streaks are thin.
        options["subsampling"] = 0 if quality >= 90 else 2
    if kind == "TIFF" and "exif" not in options:
        options["compression"] = "tiff_lzw"  # libtiff, which compresses, cannot write the EXIF directory
    if kind == "WEBP":
        options["exact"] = True  # colors under transparent pixels are the photographer's
    image = cmyk.to_inks(picture) if in_inks else picture.to_pil()
    # libtiff notices a full disk by itself.
    to: Any = file if "compression" in options else _ThroughPython(file)
    image.save(to, kind, **options)


class _ThroughPython:
    """A file without a number: by that, Pillow would write to it and not notice a disk that fills up."""

    def __init__(self, file: BinaryIO) -> None:
        self.write, self.read, self.seek, self.tell, self.flush = (
            file.write,
            file.read,
            file.seek,
            file.tell,
            file.flush,
        )


def _write_deep_tiff(picture: Picture, file: BinaryIO) -> None:
    stored = picture.turned()
    options: dict[str, Any] = {}
    if "dpi" in picture.info:
        options.update(resolution=tuple(picture.info["dpi"]), resolutionunit="INCH")
    if picture.alpha is not None:
        options["extrasamples"] = ["UNASSALPHA"]
    width, height = stored.size
    rows = max(1, _TIFF_STRIP // (2 * width * stored.channels))
    tifffile.imwrite(
        file,
        (zlib.compress(stored.rows(start, start + rows).data) for start in range(0, height, rows)),
        shape=(height, width, stored.channels)[: 2 if stored.channels == 1 else 3],
        dtype="uint16",
        photometric="minisblack" if picture.gray else "rgb",
        planarconfig="contig" if stored.channels > 1 else None,
        compression="zlib",
        rowsperstrip=rows,
        metadata=None,
        iccprofile=picture.icc,
        extratags=[(_ORIENTATION, 3, 1, picture.orientation, True)],
        **options,
    )
