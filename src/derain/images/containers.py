"""What GIF and JPEG 2000 files hold besides the pixels; Pillow reads none of it.

Sources: XMP specification part 3, sections 1.1.2 (GIF) and 1.1.4 (JPEG 2000); ISO/IEC 15444-1, annex I (boxes, color
specification); the UUID of EXIF as ExifTool and Exiv2 know it.
"""

from __future__ import annotations

from typing import Any

from . import exif, xmp
from .avif import boxes

_GIF_XMP = b"\x21\xff\x0bXMP DataXMP"
_GIF_TRAILER = b"\x01\xff\xfe\xfd"  # of 258 bytes that let decoders skip the packet
_XMP_ID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_ID = b"JpgTiffExif->JP2"
_RESTRICTED_ICC = 2


def gif_metadata(data: bytes) -> dict[str, Any]:
    """The XMP packet of a GIF, as an attribute of a :class:`~derain.images.Picture`."""
    start = data.find(_GIF_XMP)
    end = data.find(_GIF_TRAILER, start)
    return {"xmp": xmp.cleaned(data[start + len(_GIF_XMP) : end])} if 0 <= start < end else {}


def jp2_metadata(data: bytes) -> dict[str, Any]:
    """XMP, EXIF and profile of a JPEG 2000 file, as attributes of a :class:`~derain.images.Picture`."""
    found: dict[str, Any] = {}
    for kind, content in boxes(data):
        if kind == b"uuid" and content.startswith(_XMP_ID):
            found["xmp"] = xmp.cleaned(content[len(_XMP_ID) :])
        elif kind == b"uuid" and content.startswith(_EXIF_ID):
            found["exif"] = exif.HEADER + content[len(_EXIF_ID) :].removeprefix(exif.HEADER)
        elif kind == b"jp2h":
            for inner, color in boxes(content):
                if inner == b"colr" and color[:1] == bytes([_RESTRICTED_ICC]):
                    found["icc"] = color[3:]
    return found
