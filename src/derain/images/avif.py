"""AVIF files: what their boxes say about color and depth.

Source: ISO/IEC 14496-12 (boxes), 23008-12 (item properties), AV1-ISOBMFF 1.3.0 (``av1C``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_META_LIMIT = 2**24  # bytes


class Signals(NamedTuple):
    """Bits per channel, the numbers of primaries and transfer function (H.273), and whether there is a gain map."""

    depth: int
    primaries: int
    transfer: int
    gain_map: bool


def scan(file: BinaryIO) -> Signals:
    """Read the properties of a file; what is missing or damaged counts as 8 bits, unspecified."""
    meta = _meta(file)
    depth, primaries, transfer = 8, 2, 2
    gain_map = False
    for kind, body in boxes(meta[4:]):
        if kind == b"iinf":
            gain_map = b"tmap" in body
        for inner, properties in boxes(body) if kind == b"iprp" else ():
            for name, content in boxes(properties) if inner == b"ipco" else ():
                if (
                    name == b"colr"
                    and content[:4] == b"nclx"
                    and len(content) >= 10
                    and (primaries, transfer) == (2, 2)
                ):
                    primaries, transfer = struct.unpack(">HH", content[4:8])
                if name == b"av1C" and len(content) >= 4:
                    high, twelve = content[2] >> 6 & 1, content[2] >> 5 & 1
                    depth = max(depth, 8 + 2 * high + 2 * (high & twelve))
    return Signals(depth, primaries, transfer, gain_map)


def _meta(file: BinaryIO) -> bytes:
    """The content of the ``meta`` box."""
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        taken = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))
            taken = 16
        if kind == b"meta":
            return file.read(min(length - taken if length else _META_LIMIT, _META_LIMIT))
        if length < taken:
            break
        file.seek(length - taken, 1)
    return b""


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box in some bytes; damage ends them."""
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1 and place + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, place + 8)
            head = 16
        end = place + length if length else len(data)
        if end < place + head:
            return
        yield kind, data[place + head : end]
        place = end
