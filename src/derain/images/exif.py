"""EXIF blocks: what they say, and changes that keep every other byte in its place where possible.

Source: EXIF 2.32 (CIPA DC-008), sections 4.5 (thumbnails) and 4.6 (tags).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import BinaryIO

from . import ifd
from .ifd import Directory, Entry
from .orientation import ORIENTATION_TAG

HEADER = b"Exif\0\0"
_MAKER_NOTE = 0x927C
_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 0x0201, 0x0202
# The EXIF tags among a TIFF's own tags; the others describe its pixel layout.
_TIFF_TAGS = (0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)
_DESCRIPTION, _SOFTWARE = 0x010E, 0x0131


def parse(block: bytes) -> tuple[str, Directory]:
    """Byte order and main directory of a block.

    Raises:
        ValueError: damaged.
    """
    file = io.BytesIO(block.removeprefix(HEADER))
    where = ifd.layout(file)
    return where.order, ifd.read(file, where, where.first)[0]


def build(order: str, directory: Directory) -> bytes:
    """A block from its main directory; thumbnails are left out."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return HEADER + head + ifd.serialize(directory, order, 8)


def orientation(block: bytes | None) -> int | None:
    """The orientation, 1 to 8; ``None`` if the block gives none, or an invalid one."""
    if block is None:
        return None
    try:
        order, directory = parse(block)
    except ValueError:
        return None
    entry = directory.get(ORIENTATION_TAG)
    if not isinstance(entry, Entry) or entry.kind not in (3, 4):
        return None
    (value,) = struct.unpack_from(order + ("H" if entry.kind == 3 else "I"), entry.data)
    return value if value in range(1, 9) else None


def of_tiff(file: BinaryIO) -> bytes | None:
    """The EXIF block that a TIFF file's tags make, without orientation; ``None`` if there are no such tags."""
    try:
        where = ifd.layout(file)
        tags = ifd.read(file, where, where.first)[0]
    except (ValueError, OSError):
        return None
    block = {tag: tags[tag] for tag in (*_TIFF_TAGS, ifd.EXIF, ifd.GPS) if tag in tags}
    description = block.get(_DESCRIPTION)
    if isinstance(description, Entry) and description.data.startswith(b'{"shape": ['):
        del block[_DESCRIPTION]  # tifffile's own note about the layout of that file
    software = block.get(_SOFTWARE)
    if isinstance(software, Entry) and software.data.startswith(b"tifffile.py"):
        del block[_SOFTWARE]
    return build(where.order, block) if block else None


def with_orientation(block: bytes, value: int) -> bytes:
    """The block with another orientation."""
    order, directory = parse(block)
    return build(order, {**directory, ORIENTATION_TAG: Entry(3, 1, struct.pack(order + "H", value))})


def with_thumbnail(block: bytes, draw: Callable[[bytes, int], bytes | None]) -> bytes:
    """Replace the thumbnail in place, or remove it.

    Args:
        block: with or without a thumbnail.
        draw: gets the old thumbnail and the number of bytes that there is room for; returns a JPEG file of no more
            bytes, or ``None`` to remove the thumbnail.
    """
    head = HEADER if block.startswith(HEADER) else b""
    body = bytearray(block[len(head) :])
    file = io.BytesIO(body)
    try:
        where = ifd.layout(file)
        (count,) = struct.unpack_from(where.order + "H", body, where.first)
        link = where.first + 2 + 12 * count
        (start,) = struct.unpack_from(where.order + "I", body, link)
        if not start:
            return block
        old, _ = ifd.read(file, where, start)
    except (ValueError, struct.error):
        return block
    place = [_number(old.get(tag), where.order) for tag in (_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH)]
    first, length = place if None not in place else (0, 0)
    assert first is not None
    assert length is not None
    inside = first > 0 and first + length <= len(body)
    new = draw(bytes(body[first : first + length]), length) if inside and length else None
    if new is not None and len(new) <= length:
        body[first : first + length] = new.ljust(length, b"\0")
        _set_number(body, where.order, start, _THUMBNAIL_LENGTH, len(new))
        return head + bytes(body)
    struct.pack_into(where.order + "I", body, link, 0)
    if inside:
        body[first : first + length] = bytes(length)
    (entries,) = struct.unpack_from(where.order + "H", body, start)
    table = 2 + 12 * entries + 4
    body[start : start + table] = bytes(min(table, len(body) - start))
    # Where nothing else follows, the block becomes shorter.
    if inside and first + length >= len(body) - 4 and 0 <= first - (start + table) <= 64:
        del body[start:]
    return head + bytes(body)


def _number(value: Entry | Directory | None, order: str) -> int | None:
    if not isinstance(value, Entry) or value.kind not in (3, 4):
        return None
    number: int = struct.unpack_from(order + ("H" if value.kind == 3 else "I"), value.data)[0]
    return number


def _set_number(body: bytearray, order: str, start: int, tag: int, value: int) -> None:
    (count,) = struct.unpack_from(order + "H", body, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        found, kind = struct.unpack_from(order + "HH", body, place)
        if found == tag:
            struct.pack_into(order + ("H" if kind == 3 else "I"), body, place + 8, value)


def shortened(block: bytes, limit: int) -> tuple[bytes | None, list[str]]:
    """The block without what makes it too long: first the thumbnail, then the maker note, then the longest values.

    Args:
        block: longer than ``limit``.
        limit: bytes.

    Returns:
        The block, ``None`` if it is damaged; and the names of what is missing in it.
    """
    shorter = with_thumbnail(block, lambda _old, _room: None)
    missing = ["thumbnail"] if shorter != block else []
    if len(shorter) <= limit:
        return shorter, missing
    try:
        order, directory = parse(shorter)
    except ValueError:
        return None, ["EXIF"]
    details = directory.get(ifd.EXIF)
    if isinstance(details, dict) and details.pop(_MAKER_NOTE, None) is not None:
        missing.append("maker note")
    while len(result := build(order, directory)) > limit:
        tag, parent = _longest(directory)
        del parent[tag]
        missing.append(f"tag 0x{tag:04X}")
    return result, missing


def _longest(directory: Directory) -> tuple[int, Directory]:
    """The tag of the longest value, and the directory that has it."""
    found = [
        (len(value.data), tag, parent)
        for parent in (directory, *(d for d in directory.values() if isinstance(d, dict)))
        for tag, value in parent.items()
        if isinstance(value, Entry)
    ]
    _, tag, parent = max(found, key=lambda item: item[0])
    return tag, parent
