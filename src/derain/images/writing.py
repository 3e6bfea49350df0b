"""From :class:`Picture` to files, bytes and PIL images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from derain.errors import OutputError
from derain.files import atomic_write

from . import bmp, cmyk, jpeg, png, tiff
from .fitting import fit

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
_MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # pixels


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
        image: what to write; :func:`~derain.images.fitting.fit` says what the format cannot hold.
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
    image = fit(image, kind)
    if image.depth == 16 and kind == "PNG":
        png.write_sixteen_bit(image, file)
    elif kind == "TIFF" and (image.depth == 16 or image.associated):
        tiff.write(image, file)
        tiff.add_metadata(image, file)
    elif kind == "BMP" and image.alpha is not None:
        bmp.write(image, file)
    else:
        _encode_with_pillow(image, kind, file, quality)


def _encode_with_pillow(image: Picture, kind: str, file: BinaryIO, quality: int) -> None:
    options: dict[str, Any] = dict(image.info)
    if image.icc is not None:
        options["icc_profile"] = image.icc
    if kind in ("JPEG", "WEBP", "AVIF", "HEIF"):
        options["quality"] = quality
    if kind == "JPEG":
        # Full chroma resolution at high quality: rain streaks are thin.
        options["subsampling"] = 0 if quality >= 90 else 2
        options["extra"] = jpeg.extra_segments(image)
    if kind == "PNG":
        options["pnginfo"] = PngInfo()
        for tag, body in png.metadata_chunks(image):
            options["pnginfo"].add(tag, body)
    if kind == "TIFF":
        options["compression"] = "tiff_lzw"  # by libtiff
    elif image.exif is not None:
        options["exif"] = image.exif
    if kind in ("JPEG", "WEBP", "AVIF", "HEIF") and image.xmp is not None:
        options["xmp"] = image.xmp
    if kind == "WEBP":
        options["exact"] = True  # keep the colors of transparent pixels
    stored = image.as_stored()
    pil = cmyk.to_cmyk(stored) if image.cmyk is not None else stored.to_pil()
    if kind == "TIFF":
        # libtiff writes to the descriptor and reports a full disk.
        pil.save(file, kind, **options)
        tiff.add_metadata(image, file)
    else:
        pil.save(_WithoutDescriptor(file), kind, **options)  # type: ignore[arg-type]


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
