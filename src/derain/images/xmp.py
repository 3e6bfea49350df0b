"""XMP packets: orientation, and what they say about parts of a file that derain does not write.

Sources: XMP specification part 1 (ISO 16684-1); Ultra HDR image format 1.1; Motion photo format 1.0
(https://developer.android.com/media/platform/).
"""

from __future__ import annotations

import re

#: Keyword of a PNG text chunk that holds XMP; how it begins in a JPEG segment.
PNG_KEYWORD = b"XML:com.adobe.xmp"
JPEG_HEADER = b"http://ns.adobe.com/xap/1.0/\0"

_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")
_GAIN_MAP = re.compile(rb"hdrgm:Version|HDRGainMap", re.IGNORECASE)
_VIDEO = re.compile(rb"(?:MotionPhoto|MicroVideo)\s*(?:=\s*[\"']|>)\s*1")
_NAME = rb"(?:(?:hdrgm|HDRGainMap):[\w.]+|\w+:(?:MotionPhoto|MicroVideo)\w*)"
# Descriptions of thumbnails, of appended images and videos, and of gain maps: none of them is in the result.
_STALE_ELEMENT = re.compile(rb"<(xmp:Thumbnails|G?Container:Directory|%s)(?=[\s/>])" % _NAME)
_STALE_ATTRIBUTE = re.compile(rb"\s%s\s*=\s*(?:\"[^\"]*\"|'[^']*')" % _NAME)


def orientation(packet: bytes | None) -> int | None:
    """The orientation, 1 to 8, or ``None``."""
    found = _ORIENTATION.search(packet or b"")
    return int(found[1]) if found else None


def has_gain_map(packet: bytes | None) -> bool:
    """Whether the packet announces a gain map."""
    return _GAIN_MAP.search(packet or b"") is not None


def has_video(packet: bytes | None) -> bool:
    """Whether the packet announces the video of a motion photo."""
    return _VIDEO.search(packet or b"") is not None


def cleaned(packet: bytes | None) -> bytes | None:
    """The packet without what it says about thumbnails, gain maps and appended videos; ``None`` if it is empty."""
    packet = packet or b""
    kept, place = [], 0
    while found := _STALE_ELEMENT.search(packet, place):
        # By searching forward only: the time is in proportion to the length, whatever the packet is.
        end = packet.find(b">", found.end()) + 1
        if end and packet[end - 2 : end] != b"/>":
            close = b"</%s>" % found[1]
            start = packet.find(close, end)
            end = start + len(close) if start >= 0 else 0
        if not end:
            break
        kept.append(packet[place : found.start()])
        place = end
    return _STALE_ATTRIBUTE.sub(b"", b"".join([*kept, packet[place:]])) or None
