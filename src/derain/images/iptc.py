"""Photoshop image resources (``8BIM`` blocks), in which JPEG files keep IPTC records.

Source: Adobe Photoshop file formats specification, section "Image resource blocks".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

#: How resources begin in a JPEG segment.
JPEG_HEADER = b"Photoshop 3.0\0"
_RECORDS = 0x0404
_THUMBNAILS = (0x0409, 0x040C)


def _resources(block: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, content and the complete bytes of each resource."""
    place = 0
    while block[place : place + 4] == b"8BIM" and place + 12 <= len(block):
        (number,) = struct.unpack_from(">H", block, place + 4)
        content = place + 6 + (block[place + 6] + 2) // 2 * 2 + 4  # after an even-sized name and the length
        if content > len(block):
            return
        (length,) = struct.unpack_from(">I", block, content - 4)
        end = content + length + length % 2
        yield number, block[content : content + length], block[place:end].ljust(end - place, b"\0")
        place = end


def without_thumbnails(block: bytes) -> bytes | None:
    """The resources except thumbnails; ``None`` if nothing remains."""
    return b"".join(whole for number, _, whole in _resources(block) if number not in _THUMBNAILS) or None


def records(block: bytes) -> bytes | None:
    """The IPTC records, or ``None``."""
    return next((content for number, content, _ in _resources(block) if number == _RECORDS and content), None)


def of_records(content: bytes) -> bytes:
    """IPTC records as a resource."""
    return b"8BIM" + struct.pack(">HHI", _RECORDS, 0, len(content)) + content + b"\0" * (len(content) % 2)
