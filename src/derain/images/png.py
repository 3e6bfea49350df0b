"""PNG chunks: read, checked and written; files with 16 bits per channel, which Pillow cannot write in color.

Source: the PNG specification (ISO/IEC 15948), https://www.w3.org/TR/png-3/; ImageMagick's and ExifTool's "Raw profile
type" text chunks.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from . import iptc, xmp

if TYPE_CHECKING:
    from .picture import Picture

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_SUB = 1  # filter: difference to the same byte of the pixel to the left; cheap, and close to the best
_LEVEL = 3
_BLOCK = 2**20  # bytes read at a time
_LIMIT = 2**20  # bytes of a text or profile when decompressed: Pillow refuses files with more
_TOTAL_LIMIT = 2**24  # bytes of all compressed texts and profiles together
_RAW_LIMIT = 2**22  # bytes of a text that is not compressed
_COMPRESS = 2**10  # texts of this length and more are compressed
_COLOR_LENGTH = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_RAW_PROFILE = "Raw profile type "


@dataclass
class Chunks:
    """What a file's chunks say besides the pixels.

    Attributes:
        depth: bits per channel.
        color_type: 0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGBA.
        transparency: the ``tRNS`` chunk, or ``None``.
        exif: EXIF block, or ``None``; wherever it is in the file, also in a text chunk.
        xmp: XMP packet, or ``None``.
        iptc: Photoshop's image resources, or ``None``.
        text: keywords and texts.
        color: the chunks of :data:`derain.images.icc.of_png`.
        notes: what is left out.
        unusable: offset and length of chunks that decoders must not see.
        inflated: bytes that were decompressed so far.
    """

    depth: int = 8
    color_type: int = 2
    transparency: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    text: list[tuple[str, str]] = field(default_factory=list)
    color: dict[bytes, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unusable: list[tuple[int, int]] = field(default_factory=list)
    inflated: int = 0

    def inflate(self, data: bytes) -> bytes:
        """Decompress a text or profile.

        Raises:
            ValueError: it is too long, or all of them are.
            zlib.error: damaged.
        """
        if self.inflated > _TOTAL_LIMIT:
            raise ValueError(f"all together are longer than {_TOTAL_LIMIT >> 20} MiB")
        result = zlib.decompressobj().decompress(data, _LIMIT + 1)
        self.inflated += len(result)
        if len(result) > _LIMIT:
            raise ValueError(f"it is longer than {_LIMIT >> 20} MiB")
        return result


def scan(file: BinaryIO) -> Chunks:
    """Read the chunks of a file except its pixels; truncation ends the scan, damaged texts are left out."""
    chunks = Chunks()
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, tag = struct.unpack(">I4s", head)
        start = file.tell() - 8
        if tag in (b"IDAT", b"fdAT", b"PLTE") or tag == b"IEND":
            file.seek(length + 4, 1)
            continue
        if length > 2 * _RAW_LIMIT:
            chunks.unusable.append((start, length + 12))
            chunks.notes.append(f"{_describe(tag)} of {length / 2**20:.0f} MiB is left out")
            file.seek(length + 4, 1)
            continue
        body, checksum = file.read(length), file.read(4)
        if len(checksum) < 4:
            break
        ancillary = tag[:1].islower()
        try:
            if ancillary and zlib.crc32(body, zlib.crc32(tag)) != struct.unpack(">I", checksum)[0]:
                raise ValueError("a wrong checksum")
            _take(chunks, tag, body)
        except (ValueError, zlib.error, IndexError, struct.error) as error:
            if ancillary and tag != b"tRNS":
                chunks.unusable.append((start, length + 12))
                chunks.notes.append(f"{_describe(tag)} is left out: {error}")
    return chunks


def _describe(tag: bytes) -> str:
    names = {b"iCCP": "the color profile", b"eXIf": "EXIF"} | dict.fromkeys(_TEXT, "a text")
    return names.get(tag, f"a {tag.decode('latin-1')} chunk")


def _take(chunks: Chunks, tag: bytes, body: bytes) -> None:
    if tag == b"IHDR":
        chunks.depth, chunks.color_type = body[8], body[9]
    elif tag == b"tRNS":
        chunks.transparency = body
    elif tag == b"eXIf":
        chunks.exif = b"Exif\0\0" + body.removeprefix(b"Exif\0\0")
    elif tag == b"iCCP":
        chunks.inflate(body[body.index(b"\0") + 2 :])
    elif len(body) == _COLOR_LENGTH.get(tag):
        chunks.color[tag] = body
    elif tag in _TEXT:
        keyword, value = _text(chunks, tag, body)
        if keyword == xmp.PNG_KEYWORD:
            chunks.xmp = xmp.cleaned(value)
        else:
            encoding = "utf-8" if tag == b"iTXt" else "latin-1"
            _take_text(chunks, keyword.decode("latin-1"), value.decode(encoding, "replace"))


def _text(chunks: Chunks, tag: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Keyword and text of a text chunk."""
    keyword, _, rest = body.partition(b"\0")
    if tag == b"zTXt":
        return keyword, chunks.inflate(rest[1:])
    if tag == b"tEXt":
        return keyword, rest
    compressed = rest[0]
    _language, _translated, value = rest[2:].split(b"\0", 2)
    return keyword, chunks.inflate(value) if compressed else value


def _take_text(chunks: Chunks, keyword: str, value: str) -> None:
    if not keyword.startswith(_RAW_PROFILE):
        chunks.text.append((keyword, value))
        return
    # A line with the kind, one with the number of bytes, then hexadecimal digits.
    _kind, _count, digits = value.strip().split("\n", 2)
    content = bytes.fromhex("".join(digits.split()))
    if content.startswith(xmp.JPEG_HEADER):
        content = content.removeprefix(xmp.JPEG_HEADER)
        chunks.xmp = chunks.xmp or xmp.cleaned(content)
        return
    kind = keyword.removeprefix(_RAW_PROFILE).lower()
    if kind in ("exif", "app1"):
        chunks.exif = chunks.exif or b"Exif\0\0" + content.removeprefix(b"Exif\0\0")
    elif kind == "xmp":
        chunks.xmp = chunks.xmp or xmp.cleaned(content)
    elif kind in ("iptc", "8bim"):
        content = content.removeprefix(iptc.JPEG_HEADER)
        chunks.iptc = iptc.without_thumbnails(content if content[:4] == b"8BIM" else iptc.of_records(content))
    else:
        chunks.text.append((keyword, value))


def without(file: BinaryIO, unusable: list[tuple[int, int]]) -> BinaryIO:
    """The file without some chunks; the same file if there are none."""
    if not unusable:
        return file
    file.seek(0)
    data = bytearray(file.read())
    for start, length in reversed(unusable):
        del data[start : start + length]
    return io.BytesIO(data)


def check(file: BinaryIO) -> None:
    """Walk through the chunks of a file and compare their checksums.

    Args:
        file: with PNG's signature; its position changes.

    Raises:
        ValueError: truncated, or damaged.
    """
    file.seek(len(SIGNATURE))
    while True:
        length, tag = struct.unpack(">I4s", _read_exactly(file, 8))
        checksum = zlib.crc32(tag)
        for start in range(0, length, _BLOCK):
            checksum = zlib.crc32(_read_exactly(file, min(_BLOCK, length - start)), checksum)
        if checksum != struct.unpack(">I", _read_exactly(file, 4))[0]:
            raise ValueError(f"wrong checksum of a {tag.decode('latin-1')} chunk")
        if tag == b"IEND":
            return


def _read_exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise ValueError("unexpected end of file")
    return data


def metadata_chunks(image: Picture) -> Iterator[tuple[bytes, bytes]]:
    """The chunks for an image's color signals, texts, XMP and IPTC."""
    yield from ((tag, body) for tag, body in image.color_chunks if not (tag == b"sRGB" and image.icc))
    for keyword, value in image.text:
        yield _text_chunk(keyword, value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    if image.xmp is not None:
        yield b"iTXt", xmp.PNG_KEYWORD + b"\0\0\0\0\0" + image.xmp
    if image.iptc is not None:
        digits = image.iptc.hex()
        lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
        yield _text_chunk(_RAW_PROFILE + "iptc", f"\niptc\n{len(image.iptc):8}\n{lines}\n")


def _text_chunk(keyword: str, value: str) -> tuple[bytes, bytes]:
    name = (keyword.encode("latin-1", "replace")[:79] or b"Comment") + b"\0"
    value = value.replace("\0", "")
    try:
        plain, latin = value.encode("latin-1"), True
    except UnicodeEncodeError:
        plain, latin = value.encode(), False
    compress = _COMPRESS <= len(plain) <= _LIMIT
    content = zlib.compress(plain) if compress else plain
    if latin:
        return (b"zTXt", name + b"\0" + content) if compress else (b"tEXt", name + content)
    return b"iTXt", name + bytes([compress, 0]) + b"\0\0" + content


def write_sixteen_bit(image: Picture, file: BinaryIO) -> None:
    """Write an image with 16 bits per channel and its metadata."""
    stored = image.as_stored()
    width, height = stored.size
    file.write(SIGNATURE)
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPE[stored.channels], 0, 0, 0))
    if image.icc is not None:
        _write_chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(image.icc))
    if "dpi" in image.info:
        per_meter = [round(float(d) / 0.0254) for d in image.info["dpi"]]
        _write_chunk(file, b"pHYs", struct.pack(">IIB", *per_meter, 1))
    for tag, body in metadata_chunks(image):
        _write_chunk(file, tag, body)
    if image.exif is not None:
        _write_chunk(file, b"eXIf", image.exif.removeprefix(b"Exif\0\0"))
    step = 2 * stored.channels  # bytes per pixel
    stream = zlib.compressobj(_LEVEL)
    for rows in stored.strips():
        strip = stored.integer_rows(rows)
        data = strip.astype(">u2").reshape(len(strip), -1).view(np.uint8)
        filtered = np.empty((len(data), 1 + data.shape[1]), np.uint8)
        filtered[:, 0] = _SUB
        filtered[:, 1 : 1 + step] = data[:, :step]
        np.subtract(data[:, step:], data[:, :-step], out=filtered[:, 1 + step :])
        _write_chunk(file, b"IDAT", stream.compress(filtered.data))
    _write_chunk(file, b"IDAT", stream.flush())
    _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, tag: bytes, body: bytes) -> None:
    if body or tag == b"IEND":  # the compressor may buffer its input and return nothing
        file.write(struct.pack(">I", len(body)) + tag)
        file.write(body)
        file.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(tag))))
