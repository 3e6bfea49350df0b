"""What image files and clips hold, as Pillow, tifffile, OpenCV and PyAV see it: the outside view of ``corpus.py``.

Nothing here uses ``derain``: a mistake that it made twice, in reading and in writing, would not show otherwise.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image

Array = npt.NDArray[Any]

_ORIENTATION = 0x0112
_POINTERS = (_ORIENTATION, 0x8769, 0x8825, 0xA005)
# The tags of a TIFF that describe the image rather than the layout of its pixels.
_TIFF_TAGS = (0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)
# How the notes of tifffile about itself begin, and those of a JPEG 2000 encoder.
_TIFFFILE = ('{"shape": [', "tifffile.py")
_OPENJPEG = "Created by OpenJPEG"
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I")
_COLOR_CHUNKS = (b"cICP", b"gAMA", b"cHRM", b"sRGB")
_XMP = re.compile(rb"\s(?!xmlns:|rdf:|x:)([\w]+:\w+)=[\"']([^\"']*)[\"']|<(?!rdf:|x:)(\w+:\w+)>([^<]*)</")
_IDENTITY_KEYS = ("encoder", "major_brand", "minor_version", "compatible_brands", "vendor_id", "duration", "software")


@dataclass
class Facts:
    """What one file holds.

    Attributes:
        kind: Pillow's name of the format, or FFmpeg's of the video codec.
        size: width and height when upright, pixels.
        orientation: EXIF orientation of an image, rotation in degrees of a clip.
        depth: bits per channel; less than 8 count as 8.
        colors: upright, ``(H, W, 3)`` RGB or ``(H, W, 4)`` CMYK of an image, ``(N, H, W, 3)`` of a clip, 0 to 255;
            ``None`` if no reader understands them.
        alpha: ``(H, W)`` or ``(N, H, W)``, 0 to 255, or ``None``.
        metadata: all else, by names such as ``EXIF Make``.
        lossless: of a clip: its codec reproduces the values that it is given, of this pixel format.
        pix_fmt: of a clip.
    """

    kind: str
    size: tuple[int, int]
    orientation: int
    depth: int
    colors: Array | None
    alpha: Array | None
    metadata: dict[str, object] = field(default_factory=dict)
    lossless: bool = False
    pix_fmt: str = ""

    @property
    def profile(self) -> object:
        """The ICC profile, or ``None``."""
        return self.metadata.get("ICC profile")


def image_facts(path: Path) -> Facts:
    """What an image file holds.

    Raises:
        Exception: of many types, if Pillow cannot read it.
    """
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as pil:
        kind = pil.format or "?"
        if kind != "TIFF":  # those are rotated when they are loaded; the EXIF of a PNG may follow the pixels
            pil.load()
        exif = pil.getexif()
        if kind == "JPEG2000" and (place := data.find(b"JpgTiffExif->JP2")) >= 0:
            exif.load(data[place + 16 :])
        orientation = int(exif.get(_ORIENTATION, 1))
        metadata = _metadata(pil, kind, exif, data)
        deep = _sixteen_bit(data, kind, pil.mode)
        colors: Array | None
        if deep is not None:
            colors, alpha = deep
            depth = 16
        else:
            depth = 16 if pil.mode in _SIXTEEN_BIT_MODES else 8
            if kind == "AVIF" and (found := re.search(rb"av1C.{2}(.)", data, re.DOTALL)):
                depth = 8 + 2 * (found[1][0] >> 6 & 1)
            colors, alpha = _pixels(pil)
        rotated = 1 if kind == "TIFF" and deep is None else orientation
    if colors is not None:
        colors = _upright(colors, rotated)
        size = (colors.shape[1], colors.shape[0])
    else:
        size = pil.size
    return Facts(
        "JPEG" if kind == "MPO" else kind,
        size,
        orientation if orientation in range(1, 9) else 1,
        depth,
        colors,
        None if alpha is None else _upright(alpha, rotated),
        metadata,
    )


def _upright(values: Array, orientation: int) -> Array:
    turned: dict[int, Array] = {
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values.swapaxes(0, 1),
        6: np.rot90(values, -1),
        7: np.rot90(values, 2).swapaxes(0, 1),
        8: np.rot90(values),
    }
    return turned.get(orientation, values)


def _sixteen_bit(data: bytes, kind: str, mode: str) -> tuple[Array, Array | None] | None:
    """Colors and alpha, as stored, of files that Pillow would reduce to 8 bits; ``None`` for others."""
    if mode in _SIXTEEN_BIT_MODES:
        return None
    if kind == "PNG" and data[24] == 16:
        values: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        values = values[..., None] if values.ndim == 2 else values
        alpha = values[..., -1] if values.shape[2] in (2, 4) else None
        values = values[..., 2::-1]
    elif kind == "TIFF":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if page.bitspersample != 16:
                return None
            values = page.asarray()
            if page.planarconfig == 2 and page.samplesperpixel > 1:
                values = np.moveaxis(values, 0, -1)
            values = values[..., None] if values.ndim == 2 else values
            count = 1 if page.photometric in (0, 1) else 3
            alpha = values[..., count] if page.extrasamples and page.extrasamples[0] in (1, 2) else None
            values = values[..., :count]
    else:
        return None
    return np.broadcast_to(values, (*values.shape[:2], 3)) / 257, None if alpha is None else alpha / 257


def _pixels(pil: Image.Image) -> tuple[Array | None, Array | None]:
    """Colors and alpha of what Pillow decodes."""
    if pil.mode in _SIXTEEN_BIT_MODES:
        values = np.asarray(pil).astype(float)
        key = pil.info.get("transparency")
        alpha = np.where(values == key, 0.0, 255.0) if isinstance(key, int) else None
        return np.repeat(values[..., None] / 257, 3, axis=2), alpha
    if pil.mode == "CMYK":
        return np.asarray(pil), None
    if pil.mode in ("F", "LAB", "HSV"):
        return None, None
    if pil.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in pil.info:
        values = np.asarray(pil.convert("RGBA"))
        return values[..., :3], values[..., 3]
    return np.asarray(pil.convert("RGB")), None


def _metadata(pil: Image.Image, kind: str, exif: Image.Exif, data: bytes) -> dict[str, object]:
    found: dict[str, object] = {}
    for tag, value in exif.items():
        if tag not in _POINTERS and (kind != "TIFF" or (tag in _TIFF_TAGS and not str(value).startswith(_TIFFFILE))):
            found[f"EXIF {ExifTags.TAGS.get(tag, hex(tag))}"] = repr(value)
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        names = ExifTags.GPSTAGS if ifd == ExifTags.IFD.GPSInfo else ExifTags.TAGS
        for tag, value in exif.get_ifd(ifd).items():
            if tag not in _POINTERS:
                found[f"EXIF {names.get(tag, hex(tag))}"] = repr(value)
    if (thumbnail := _thumbnail(pil, exif, data)) is not None:
        found["thumbnail"] = thumbnail
    packet = pil.info.get("xmp") or b""
    if not isinstance(packet, bytes):
        packet = str(packet).encode()
    if kind in ("GIF", "JPEG2000") and b"<x:xmpmeta" in data:
        packet = data[data.index(b"<x:xmpmeta") :]
    for match in _XMP.finditer(packet):
        found[f"XMP {(match[1] or match[3]).decode()}"] = match[2] or match[4]
    for name, value in _iptc(pil, kind):
        found[f"IPTC {name}"] = value
    for keyword, text in _texts(pil, kind):
        found[f"text {keyword}"] = text
    if pil.info.get("icc_profile"):
        found["ICC profile"] = pil.info["icc_profile"]
    if kind == "JPEG2000" and (place := data.find(b"colr\2")) >= 0:
        (length,) = struct.unpack_from(">I", data, place - 4)
        found["ICC profile"] = data[place + 7 : place - 4 + length]
    if kind == "PNG":
        found |= {f"color {tag.decode()}": body for tag, body in _chunks(data) if tag in _COLOR_CHUNKS}
    if kind == "AVIF" and (color := re.search(rb"colrnclx(.{2})(.{2})", data, re.DOTALL)) is not None:
        signals = tuple(int.from_bytes(part, "big") for part in color.groups())
        if signals not in ((1, 13), (2, 2)):  # sRGB, unspecified
            found["color CICP"] = signals
    if b"hdrgm:Version" in data or b"urn:iso:std:iso:ts:21496" in data or (kind == "AVIF" and b"tmap" in data):
        found["gain map"] = True
    said = kind in ("JPEG", "PNG") or (kind == "TIFF" and 282 in getattr(pil, "tag_v2", ()))
    if said and isinstance(pil.info.get("dpi"), tuple):
        found["resolution"] = tuple(round(float(side)) for side in pil.info["dpi"])
    return found


def _thumbnail(pil: Image.Image, exif: Image.Exif, data: bytes) -> object:
    """That of EXIF, or the number of reduced copies in a TIFF; ``None`` if there is none."""
    if pil.format == "TIFF":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return sum(bool(page.subfiletype & 1) for page in file.pages) or None  # type: ignore[union-attr]
    block = pil.info.get("exif")
    place = exif.get_ifd(ExifTags.IFD.IFD1)
    if not isinstance(block, bytes) or 0x0201 not in place:
        return None
    start = place[0x0201] + (6 if block.startswith(b"Exif\0\0") else 0)
    return block[start : start + place.get(0x0202, 0)]


def _iptc(pil: Image.Image, kind: str) -> list[tuple[str, bytes]]:
    """Number and content of the records of a file."""
    block: Any = b""
    if kind in ("JPEG", "MPO"):
        block = pil.info.get("photoshop", {}).get(0x0404, b"")
    elif kind == "TIFF":
        block = getattr(pil, "tag_v2", {}).get(33723, b"")
    elif kind == "PNG":
        text = getattr(pil, "text", {}).get("Raw profile type iptc", "")
        block = bytes.fromhex("".join(text.split()[2:]))
    block = block if isinstance(block, bytes) else b""
    place = max(block.find(b"\x1c"), 0)
    found = []
    while block[place : place + 1] == b"\x1c" and place + 5 <= len(block):
        record, dataset, length = struct.unpack_from(">BBH", block, place + 1)
        found.append((f"{record}:{dataset}", block[place + 5 : place + 5 + length]))
        place += 5 + length
    return found


def _texts(pil: Image.Image, kind: str) -> list[tuple[str, str]]:
    if kind == "PNG":
        texts = getattr(pil, "text", {})
        return [(k, str(v)) for k, v in texts.items() if not k.startswith(("Raw profile", "XML:com.adobe.xmp"))]
    comment = pil.info.get("comment")
    text = comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment or "")
    return [("Comment", text)] if text and not text.startswith(_OPENJPEG) else []


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += length + 12
    return found


def clip_facts(path: Path, limit: int = 50) -> Facts:
    """What a clip holds; of its pixels only those of the first frames.

    Raises:
        Exception: of many types, if FFmpeg cannot read it.
    """
    metadata: dict[str, object] = {}
    frames: list[Array] = []
    alphas: list[Array] = []
    times: list[float | None] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for key, value in container.metadata.items():
            metadata[f"container {key}"] = value
        for number, other in enumerate(container.streams):
            if other.index != stream.index:
                codec = getattr(other, "codec_context", None)
                metadata[f"stream {number} {other.type}"] = codec.name if codec is not None else ""
        for key, value in stream.metadata.items():
            metadata[f"video {key}"] = value
        for number, chapter in enumerate(container.chapters()):
            metadata[f"chapter {number}"] = repr(chapter.get("metadata"))
        rotation, pix_fmt = 0, ""
        for frame in container.decode(stream):
            times.append(frame.time)
            if len(frames) < limit:
                pix_fmt, rotation = frame.format.name, int(frame.rotation)
                parts = frame.format.components
                values = frame.to_ndarray(format="rgba")
                frames.append(values[..., :3])
                if any(part.is_alpha for part in parts):
                    alphas.append(values[..., 3])
        codec_name = stream.codec_context.name
        if not alphas and stream.metadata.get("alpha_mode") == "1":  # which FFmpeg's own decoders ignore
            metadata["alpha channel"] = True
        depth = max(8, *(part.bits for part in av.VideoFormat(pix_fmt).components))
    metadata = {k: v for k, v in metadata.items() if k.split(" ", 1)[1].lower() not in _IDENTITY_KEYS}
    start = times[0] or 0.0
    metadata["times"] = tuple(round((time or 0.0) - start, 3) for time in times)
    colors = np.stack(frames)
    return Facts(
        codec_name,
        (colors.shape[2], colors.shape[1]),
        rotation,
        depth,
        colors,
        np.stack(alphas) if alphas else None,
        metadata,
        codec_name in ("ffv1", "png", "qtrle", "huffyuv", "ffvhuff", "rawvideo", "utvideo"),
        pix_fmt,
    )
