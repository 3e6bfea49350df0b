"""From :class:`Picture` to files, bytes and PIL images."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import tifffile
from PIL import Image

from derain.errors import OutputError
from derain.files import atomic_write

from . import cmyk, png
from .orientation import ORIENTATION_TAG

if TYPE_CHECKING:
    from .picture import Picture

#: Suffix -> Pillow's format name; selects the files of a folder and the format of an output.
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
_WITH_EXIF = {"JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"}
_WITH_ALPHA = {"PNG", "WEBP", "TIFF", "AVIF", "HEIF"}
_WITH_CMYK = {"JPEG", "TIFF"}
_MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # pixels
_TIFF_STRIP = 2**18  # bytes per strip before compression


def format_for(path: Path) -> str:
    """Pillow's format name for a file name.

    Raises:
        OutputError: derain cannot write this suffix.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None or (kind == "HEIF" and not _pillow_writes(kind)):
        raise OutputError(
            f"{path}: cannot write {path.suffix or 'a file without suffix'}; use .jpg, .png, .webp or .tif"
        )
    return kind


def result_format(image: Picture) -> str:
    """Pillow's name of the default format of a result: the source's format, or PNG if derain cannot write that."""
    kind = image.format
    return kind if kind is not None and kind in FORMATS.values() and _pillow_writes(kind) else "PNG"


def _pillow_writes(kind: str) -> bool:
    Image.init()
    return kind in Image.SAVE


def back_to_pil(image: Picture, source: Image.Image) -> Image.Image:
    """Convert what :func:`derain.images.from_pil` made back to a PIL image.

    Args:
        image: made from ``source``, with other pixels.
        source: its mode, orientation and metadata are those of the result.

    Returns:
        A PIL image. Palette images become RGB or RGBA, bilevel ones gray.
    """
    stored = image.as_stored()
    result = stored.to_pil() if stored.cmyk is None else cmyk.to_cmyk(stored)
    result.info = {k: v for k, v in source.info.items() if k not in ("transparency", "palette")}
    if image.orientation != 1 and "exif" not in result.info and image.exif is not None:
        result.info["exif"] = image.exif
    return result


def encode(image: Picture, kind: str, *, quality: int = 95) -> bytes:
    """The bytes of an image file.

    Args:
        image: what to write; depth, alpha, EXIF and ICC profile are preserved if the format can hold them.
        kind: Pillow's format name, such as ``PNG``.
        quality: 1 to 100 for JPEG, WebP and AVIF.

    Raises:
        OutputError: the installed Pillow cannot write ``kind``, or the image is too large for the format.
    """
    file = io.BytesIO()
    _encode(image, kind, file, quality)
    return file.getvalue()


def write(image: Picture, path: Path, *, quality: int = 95, overwrite: bool = False) -> None:
    """Write an image atomically; the suffix selects the format.

    Raises:
        OutputError: unknown suffix, existing file without ``overwrite``, path not writable, or an image that is
            too large for the format.
    """
    kind = format_for(path)
    with atomic_write(path, overwrite=overwrite) as file:
        _encode(image, kind, file, quality)


def _encode(image: Picture, kind: str, file: BinaryIO, quality: int) -> None:
    if not _pillow_writes(kind):
        raise OutputError(f"the installed Pillow cannot write {kind}; use .png or .jpg")
    if max(image.size) > _MAX_SIDE.get(kind, max(image.size)):
        raise OutputError(
            f"{kind} is limited to {_MAX_SIDE[kind]} pixels per side, and this image has {max(image.size)}; "
            "write it as .png or .tif"
        )
    if image.alpha is not None and kind not in _WITH_ALPHA:
        image = replace(image, alpha=None)
    if image.depth == 16 and kind == "TIFF":
        _write_sixteen_bit_tiff(image, file)
    elif image.depth == 16 and kind == "PNG":
        png.write_sixteen_bit(image, file)
    else:
        _encode_with_pillow(replace(image, depth=8), kind, file, quality)


def _encode_with_pillow(image: Picture, kind: str, file: BinaryIO, quality: int) -> None:
    options: dict[str, Any] = dict(image.info)
    if kind in _WITH_EXIF and image.exif is not None:
        options["exif"] = image.exif
        image = image.as_stored()
    as_cmyk = image.cmyk is not None and kind in _WITH_CMYK
    if image.icc is not None and (image.cmyk is None or as_cmyk):
        options["icc_profile"] = image.icc
    if kind in ("JPEG", "WEBP", "AVIF", "HEIF"):
        options["quality"] = quality
    if kind == "JPEG":
        # Full chroma resolution at high quality: rain streaks are thin.
        options["subsampling"] = 0 if quality >= 90 else 2
    if kind == "TIFF" and "exif" not in options:
        options["compression"] = "tiff_lzw"  # by libtiff, which cannot write the EXIF directory
    if kind == "WEBP":
        options["exact"] = True  # keep the colors of transparent pixels
    pil = cmyk.to_cmyk(image) if as_cmyk else image.to_pil()
    # libtiff, which compresses, writes to the descriptor and reports a full disk.
    target: Any = file if "compression" in options else _WithoutDescriptor(file)
    pil.save(target, kind, **options)


class _WithoutDescriptor:
    """A file without ``fileno``, through which Pillow would write and miss the error of a full disk."""

    def __init__(self, file: BinaryIO) -> None:
        self.write, self.read, self.seek, self.tell, self.flush = (
            file.write,
            file.read,
            file.seek,
            file.tell,
            file.flush,
        )


def _write_sixteen_bit_tiff(image: Picture, file: BinaryIO) -> None:
    stored = image.as_stored()
    options: dict[str, Any] = {}
    if "dpi" in image.info:
        options.update(resolution=tuple(image.info["dpi"]), resolutionunit="INCH")
    if image.alpha is not None:
        options["extrasamples"] = ["UNASSALPHA"]
    width, height = stored.size
    rows = max(1, _TIFF_STRIP // (2 * width * stored.channels))
    tifffile.imwrite(
        file,
        (zlib.compress(stored.integer_rows(slice(start, start + rows)).data) for start in range(0, height, rows)),
        shape=(height, width, stored.channels)[: 2 if stored.channels == 1 else 3],
        dtype="uint16",
        photometric="minisblack" if image.gray else "rgb",
        planarconfig="contig" if stored.channels > 1 else None,
        compression="zlib",
        rowsperstrip=rows,
        metadata=None,
        iccprofile=image.icc,
        extratags=[(ORIENTATION_TAG, 3, 1, image.orientation, True)],
        **options,
    )
