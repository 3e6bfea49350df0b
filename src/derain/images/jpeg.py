"""JPEG files: their segments, what follows the image, and a missing end.

Source: ITU-T T.81 (markers); CIPA DC-007 (multi-picture format); ISO 21496-1 (gain maps).
"""

from __future__ import annotations

import io
import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from . import iptc, xmp

if TYPE_CHECKING:
    from .picture import Picture

#: The longest content of a segment, bytes.
MAX_SEGMENT = 65533
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # in entropy-coded data
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_PROGRESSIVE, _SCAN, _END, _COMMENT, _RESTART_INTERVAL = 0xC2, 0xDA, 0xD9, 0xFE, 0xDD
_GAIN_MAP = b"urn:iso:std:iso:ts:21496"
_FILLER = bytes(range(0x11, 0xF0)) * 4  # as entropy-coded data, anything but zeros


class Segments(NamedTuple):
    """The segments of a file up to its end marker, and what is after it."""

    found: list[tuple[int, bytes]]  # marker and content
    end: int | None  # where the end marker ends; None without one


def scan(data: bytes) -> Segments:
    """Find the segments of the first image in a file; damage ends the list."""
    found: list[tuple[int, bytes]] = []
    place = 2
    while marker := _NEXT_MARKER.search(data, place):
        code, place = marker[1][0], marker.end()
        if code == _END:
            return Segments(found, place)
        if place + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, place)
        found.append((code, data[place + 2 : place + length]))
        place += length
    return Segments(found, None)


def metadata(data: bytes, segments: Segments) -> dict[str, Any]:
    """Attributes of a :class:`~derain.images.Picture` that Pillow does not give, and notes on what is left out."""
    notes = []
    app1 = [content for code, content in segments.found if code == 0xE1]
    packet = next((c.removeprefix(xmp.JPEG_HEADER) for c in app1 if c.startswith(xmp.JPEG_HEADER)), None)
    if any(c.startswith(b"http://ns.adobe.com/xmp/extension/") for c in app1):
        notes.append("extended XMP is left out")
    photoshop = b"".join(
        c.removeprefix(iptc.JPEG_HEADER)
        for code, c in segments.found
        if code == 0xED and c.startswith(iptc.JPEG_HEADER)
    )
    app2 = [content for code, content in segments.found if code == 0xE2]
    tail = data[segments.end :] if segments.end else b""
    if xmp.has_gain_map(packet) or any(c.startswith(_GAIN_MAP) for c in app2):
        notes.append("the gain map (HDR) is left out")
    elif any(c.startswith(b"MPF\0") for c in app2) and tail.count(b"\xff\xd8\xff"):
        notes.append("only the first image is kept, without the file's other images (stereo half or preview)")
    if tail and (b"ftyp" in tail or b"MotionPhoto_Data" in tail or xmp.has_video(packet)):
        notes.append("the video of this motion photo is left out")
    comments = [content for code, content in segments.found if code == _COMMENT]
    return {
        "xmp": xmp.cleaned(packet),
        "iptc": iptc.without_thumbnails(photoshop),
        "text": tuple(("Comment", comment.decode("utf-8", "surrogateescape")) for comment in comments),
        "notes": tuple(notes),
    }


def with_end(data: bytes, segments: Segments) -> bytes | None:
    """The file with its end marker, if that is all that is missing; ``None`` if a part of the image is missing.

    Whatever stands between the last block and the end marker is skipped by decoders. So the image is complete if
    more data before the end marker do not change it.
    """
    codes = [code for code, _ in segments.found]
    if segments.end is not None or _SCAN not in codes or (_PROGRESSIVE in codes and not _all_scans(segments)):
        return None
    data = data.rstrip(b"\0").rstrip(b"\xff")
    restarts = _RESTART.findall(data[-(2**20) :]) if _RESTART_INTERVAL in codes else []
    last = restarts[-1][0] if restarts else 0xD7
    filler = (bytes([0xFF, 0xD0 + (last - 0xD0 + 1) % 8]) if _RESTART_INTERVAL in codes else b"") + _FILLER
    end = bytes([0xFF, _END])
    first, second = (Image.open(io.BytesIO(data + more + end)) for more in (b"", filler))
    try:
        first.load()
        second.load()
    except OSError:
        return None
    return data + end if first.tobytes() == second.tobytes() else None


def _all_scans(segments: Segments) -> bool:
    """Whether a progressive file has the last scan of each component's coefficients."""
    frame = next(content for code, content in segments.found if code == _PROGRESSIVE)
    components = set(frame[6 : 6 + 3 * frame[5] : 3])
    done: dict[bool, set[int]] = {True: set(), False: set()}  # the constant coefficients, and the others
    for code, content in segments.found:
        if code == _SCAN:
            count = content[0]
            first, last, precision = content[1 + 2 * count : 4 + 2 * count]
            if precision & 15 == 0 and (first == 0 or last == 63):
                done[first == 0].update(content[1 : 1 + 2 * count : 2])
    return all(components <= finished for finished in done.values())


def extra_segments(image: Picture) -> bytes:
    """The segments with IPTC and comments, which Pillow does not write."""
    room = MAX_SEGMENT - len(iptc.JPEG_HEADER)
    block = image.iptc or b""
    resources = (iptc.JPEG_HEADER + block[start : start + room] for start in range(0, len(block), room))
    comments = (value.encode("utf-8", "surrogateescape") for _, value in image.text)
    return b"".join(
        struct.pack(">BBH", 0xFF, code, 2 + len(content)) + content
        for code, contents in ((0xED, resources), (_COMMENT, comments))
        for content in contents
    )
