"""TIFF: which of its images counts, samples that Pillow cannot read or write, and its metadata.

Sources: TIFF 6.0 (Adobe, 1992), sections "NewSubfileType" and "ExtraSamples"; DNG 1.7.1; TIFF/EP (ISO 12234-2).
"""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile

from derain.errors import InputError

from . import exif, ifd, iptc, xmp
from .ifd import Entry
from .orientation import ORIENTATION_TAG

if TYPE_CHECKING:
    from .picture import Picture

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Compressions that tifffile decodes without other packages: none, Deflate, Adobe Deflate.
PLAIN_COMPRESSIONS = (1, 8, 32946)
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_SENSOR = (32803, 34892)  # photometric interpretations: color filter array, linear raw
_DNG_VERSION, _XMP, _IPTC, _PHOTOSHOP, _ICC = 50706, 700, 33723, 34377, 34675
_ASSOCIATED, _UNASSOCIATED = 1, 2
_STRIP = 2**18  # bytes per strip before compression

# Tags that cannot be read are left out; that is no news for a user.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class Header(NamedTuple):
    """A file that derain can read: its first page, and attributes of a :class:`~derain.images.Picture`."""

    page: tifffile.TiffPage
    metadata: dict[str, Any]


def header(file: BinaryIO, name: str) -> Header:
    """Read everything but the pixels.

    Raises:
        InputError: damaged, a camera's raw file, or several images.
    """
    file.seek(0)
    try:
        tiff = tifffile.TiffFile(file)  # leaves the file open
        page = tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        notes = _other_pages(tiff, page, name)
        tags = page.tags
        details = {code: tags[code].value for code in (ORIENTATION_TAG, _XMP, _IPTC, _PHOTOSHOP, _ICC) if code in tags}
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name}: damaged or truncated TIFF ({error}); fetch it again") from None
    orientation = details.get(ORIENTATION_TAG)
    packet = xmp.cleaned(_as_bytes(details.get(_XMP)))
    photoshop = _as_bytes(details.get(_PHOTOSHOP)) or b""
    if iptc.records(photoshop) is None and (records := _as_bytes(details.get(_IPTC))):
        photoshop += iptc.of_records(records)
    metadata: dict[str, Any] = {
        "orientation": orientation if orientation in range(1, 9) else xmp.orientation(packet) or 1,
        "exif": exif.of_tiff(file),
        "icc": _as_bytes(details.get(_ICC)),
        "xmp": packet,
        "iptc": iptc.without_thumbnails(photoshop),
        "format": "TIFF",
        "notes": notes,
    }
    return Header(page, metadata)


def _as_bytes(value: Any) -> bytes | None:
    """A tag's value, which some writers declare as numbers of 32 bits."""
    if isinstance(value, tuple):
        return np.array(value, "<u4").tobytes()
    return value or None if isinstance(value, bytes) else None


def _other_pages(tiff: tifffile.TiffFile, first: tifffile.TiffPage, name: str) -> tuple[str, ...]:
    """Refuse files whose first page is not the one image that they hold; notes on what is left out."""
    pages = [first]
    full = [] if _is_reduced(first) else [first]
    count = len(tiff.pages)
    if count > 1:
        for index in range(1, count):
            page = tiff.pages[index]
            assert isinstance(page, (tifffile.TiffPage, tifffile.TiffFrame))
            page = page if isinstance(page, tifffile.TiffPage) else page.aspage()
            pages.append(page)
            if not _is_reduced(page) and not page.subfiletype & _MASK:
                full.append(page)
            if len(full) > 1 or index > 64:
                break
    tiff.filehandle.seek(8)
    is_cr2 = tiff.filehandle.read(2) == b"CR"
    hidden = [page for page in first.pages or () if isinstance(page, tifffile.TiffPage)]
    if is_cr2 or _DNG_VERSION in first.tags or any(p.photometric in _SENSOR for p in (*pages, *hidden)):
        raise InputError(f"{name}: a camera's raw file; develop it first, into a 16-bit TIFF for example")
    larger = [p for p in (*pages[1:], *hidden) if p.imagewidth * p.imagelength > first.imagewidth * first.imagelength]
    if _is_reduced(first) and larger:
        raise InputError(
            f"{name}: its first image is only a preview ({first.imagewidth}×{first.imagelength} of "
            f"{larger[0].imagewidth}×{larger[0].imagelength}); if it is a raw file, develop it first, "
            "otherwise save the full image alone"
        )
    if len(full) > 1:
        raise InputError(f"{name}: contains {count} frames or pages; split it into single images first")
    masks = sum(1 for page in pages[1:] if page.subfiletype & _MASK)
    reduced = count - 1 - masks
    notes = [f"{reduced} reduced {'copy is' if reduced == 1 else 'copies are'} left out"] if reduced else []
    return (*notes, *(["the transparency mask is left out"] if masks else []))


def _is_reduced(page: tifffile.TiffPage) -> bool:
    return bool(page.subfiletype & _REDUCED)


def sixteen_bit_samples(file: BinaryIO, page: tifffile.TiffPage, name: str) -> npt.NDArray[np.uint16] | None:
    """``(H, W, samples)`` of a page with 16-bit samples; ``None`` if tifffile cannot decompress it.

    Raises:
        InputError: truncated, or neither RGB nor gray.
    """
    if page.photometric not in (1, 2):
        raise InputError(f"{name}: 16-bit TIFFs must be RGB or gray; convert it to one of them first")
    size = file.seek(0, io.SEEK_END)
    if any(o + n > size for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise InputError(f"{name}: truncated 16-bit TIFF; fetch it again")
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    if page.compression not in PLAIN_COMPRESSIONS:
        if planar:  # OpenCV would mix up the planes
            raise InputError(
                f"{name}: a compressed 16-bit TIFF with separate planes; save it with interleaved channels"
            )
        return None
    values = page.asarray().astype(np.uint16, copy=False)  # strip by strip; in native byte order
    return np.moveaxis(values, 0, -1) if planar else values


def alpha_of(page: tifffile.TiffPage) -> tuple[int | None, bool, tuple[str, ...]]:
    """Which sample of a pixel is alpha, whether the colors are multiplied by it, and notes on other samples."""
    colors = 1 if page.photometric in (0, 1, 3) else 4 if page.photometric == 5 else 3
    count = page.samplesperpixel - colors
    # A single sample of which nothing is said is alpha.
    kinds = [int(kind) for kind in page.extrasamples] or ([_UNASSOCIATED] if count == 1 else [0] * count)
    alphas = [i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED)]
    spare = count - len(alphas[:1])
    notes = (
        (f"{spare} extra {'channel' if spare == 1 else 'channels'} of unknown meaning left out",) if spare > 0 else ()
    )
    if not alphas:
        return None, False, notes
    return colors + alphas[0], kinds[alphas[0]] == _ASSOCIATED, notes


def unassociated(colors: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Colors that were multiplied by alpha, divided by it; black where alpha is 0."""
    white = np.iinfo(alpha.dtype).max
    result = np.empty_like(colors)
    for row, (line, opacity) in enumerate(zip(colors, alpha, strict=True)):
        by = opacity.astype(np.int64).reshape(opacity.shape + (1,) * (line.ndim - 1))
        safe = np.maximum(by, 1)
        divided = (line.astype(np.int64) * white + safe // 2) // safe
        result[row] = np.where(by > 0, np.minimum(divided, white), 0)
    return result


def _associated(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Interleaved samples with the colors multiplied by alpha, the last of them; inverts :func:`unassociated`."""
    white = np.iinfo(samples.dtype).max
    wide = samples.astype(np.int64)
    wide[..., :-1] = (wide[..., :-1] * wide[..., -1:] + white // 2) // white
    return wide.astype(samples.dtype)


def write(image: Picture, file: BinaryIO) -> None:
    """Write the pixels of an image as stored, with ICC profile and resolution, compressed by Deflate."""
    stored = image.as_stored()
    options: dict[str, Any] = {}
    if "dpi" in image.info:
        options.update(resolution=tuple(image.info["dpi"]), resolutionunit="INCH")
    if image.alpha is not None:
        options["extrasamples"] = ["ASSOCALPHA" if image.associated else "UNASSALPHA"]
    width, height = stored.size
    rows = max(1, _STRIP // (image.depth // 8 * width * stored.channels))

    def strip(start: int) -> bytes:
        samples = stored.integer_rows(slice(start, start + rows))
        return zlib.compress((_associated(samples) if image.associated else samples).tobytes())

    tifffile.imwrite(
        file,
        (strip(start) for start in range(0, height, rows)),
        shape=(height, width, stored.channels)[: 2 if stored.channels == 1 else 3],
        dtype=f"uint{image.depth}",
        photometric="minisblack" if image.gray else "rgb",
        planarconfig="contig" if stored.channels > 1 else None,
        compression="zlib",
        rowsperstrip=rows,
        metadata=None,
        iccprofile=image.icc,
        extratags=[(ORIENTATION_TAG, 3, 1, image.orientation, True)],
        **options,
    )


def add_metadata(image: Picture, file: BinaryIO) -> None:
    """Add EXIF, XMP and IPTC to a file that has been written."""
    order, tags = "<", ifd.Directory()
    if image.exif is not None:
        with contextlib.suppress(ValueError):  # a damaged block has no place among tags
            order, tags = exif.parse(image.exif)
    if image.orientation != 1:
        tags[ORIENTATION_TAG] = Entry(3, 1, struct.pack(order + "H", image.orientation))
    if image.xmp is not None:
        tags[_XMP] = Entry(1, len(image.xmp), image.xmp)
    if image.iptc is not None:
        tags[_PHOTOSHOP] = Entry(7, len(image.iptc), image.iptc)
        if (records := iptc.records(image.iptc)) is not None:
            tags[_IPTC] = Entry(7, len(records), records)
    if tags:
        ifd.add_to_file(file, tags, order)
