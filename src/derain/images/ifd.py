"""Directories of tags as in TIFF files and EXIF blocks: read and written entry by entry, values as they stand.

Sources: TIFF 6.0 (Adobe, 1992); BigTIFF, https://www.awaresystems.be/imaging/tiff/bigtiff.html.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO, NamedTuple

import numpy as np

EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
_POINTERS = (EXIF, GPS, INTEROP)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WORDS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}  # bytes that change places with the byte order
_MAX_VALUES = 2**26  # bytes of all values of a directory; entries may point to the same bytes


class Entry(NamedTuple):
    """A tag's value: its TIFF type, the number of its items and its bytes."""

    kind: int
    items: int
    data: bytes


#: Tag -> value, or the directory to which the tag points.
Directory = dict[int, "Entry | Directory"]


class Layout(NamedTuple):
    """A file's byte order (``<`` or ``>``), whether it is a BigTIFF, and where its first directory is."""

    order: str
    big: bool
    first: int


def layout(file: BinaryIO) -> Layout:
    """Read the header.

    Raises:
        ValueError: neither TIFF nor an EXIF block.
    """
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("no TIFF header")
    magic, first = struct.unpack(order + "HI", head[2:8])
    if magic == 43 and len(head) == 16:
        return Layout(order, True, struct.unpack(order + "Q", head[8:])[0])
    if magic != 42:
        raise ValueError("no TIFF header")
    return Layout(order, False, first)


def read(file: BinaryIO, where: Layout, offset: int) -> tuple[Directory, int]:
    """A directory with those it points to, and the offset of the next one (0 if there is none).

    Entries that point out of the file or have an unknown type are left out.

    Raises:
        ValueError: truncated.
    """
    return _read(file, where, offset, depth=0)


def _read(file: BinaryIO, where: Layout, offset: int, depth: int) -> tuple[Directory, int]:
    order, big, _ = where
    file.seek(offset)
    try:
        (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
        table = file.read(min(count, 4096) * (20 if big else 12))
        (following,) = struct.unpack(order + ("Q" if big else "I"), file.read(8 if big else 4))
    except struct.error:
        raise ValueError("truncated directory") from None
    directory: Directory = {}
    left = _MAX_VALUES
    inline = 8 if big else 4
    for tag, kind, items, value in struct.iter_unpack(order + ("HHQ8s" if big else "HHI4s"), table):
        length = _SIZES.get(kind, 0) * items
        if not 0 < length <= left:
            continue
        left -= length
        data = value[:length]
        (pointer,) = struct.unpack(order + ("Q" if big else "I"), value)
        if length > inline:
            file.seek(pointer)
            data = file.read(length)
        if len(data) < length:
            continue
        if tag in _POINTERS and depth < 2 and items == 1 and kind in (4, 13, 16, 18):
            target = pointer if _SIZES[kind] == inline else struct.unpack(order + "I", value[:4])[0]
            try:
                directory[tag] = _read(file, where, target, depth + 1)[0]
            except ValueError:
                continue
        else:
            directory[tag] = Entry(kind, items, data)
    return directory, following


def swapped(directory: Directory) -> Directory:
    """The directory in the other byte order."""
    return {
        tag: swapped(value) if isinstance(value, dict) else value._replace(data=_swap(value))
        for tag, value in directory.items()
    }


def _swap(entry: Entry) -> bytes:
    size = _WORDS.get(entry.kind)
    return entry.data if size is None else np.frombuffer(entry.data, f"<u{size}").byteswap().tobytes()


def serialize(directory: Directory, order: str, offset: int, following: int = 0) -> bytes:
    """The bytes of a directory that begins at ``offset`` of its file, with the directories it points to."""
    entries = sorted(directory.items())
    table = io.BytesIO()
    start = offset + 2 + 12 * len(entries) + 4
    values = io.BytesIO()
    for tag, value in entries:
        where = start + values.tell()
        if isinstance(value, dict):
            values.write(_even(serialize(value, order, where)))
            table.write(struct.pack(order + "HHII", tag, 4, 1, where))
        elif len(value.data) <= 4:
            table.write(struct.pack(order + "HHI4s", tag, *value[:2], value.data))
        else:
            values.write(_even(value.data))
            table.write(struct.pack(order + "HHII", tag, *value[:2], where))
    head, tail = struct.pack(order + "H", len(entries)), struct.pack(order + "I", following)
    return head + table.getvalue() + tail + values.getvalue()


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def add_to_file(file: BinaryIO, extra: Directory, order: str) -> None:
    """Give a TIFF file more tags: its first directory is written anew at the end.

    Args:
        file: a classic TIFF of one image, open for reading and writing.
        extra: replaces tags that are there already.
        order: byte order of ``extra``.
    """
    where = layout(file)
    directory, following = read(file, where, where.first)
    directory.update(extra if order == where.order else swapped(extra))
    end = file.seek(0, io.SEEK_END)
    start = end + end % 2
    file.write(b"\0" * (start - end) + serialize(directory, where.order, start, following))
    file.seek(4)
    file.write(struct.pack(where.order + "I", start))
    file.seek(0, io.SEEK_END)
