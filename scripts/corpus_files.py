"""Small files of many kinds, made by Pillow, tifffile, OpenCV and PyAV of a photograph that scikit-image has."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
import tifffile
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

SIZE = (26, 18)  # width and height, pixels
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"%s/>'
    b"</rdf:RDF></x:xmpmeta>"
)
_CAPTION = b"\x1c\x02\x78" + struct.pack(">H", 11) + b"the harbour"
IPTC = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(_CAPTION)) + _CAPTION + b"\0" * (len(_CAPTION) % 2)
COLOR_CHUNKS = {
    "gAMA": struct.pack(">I", 100_000),
    "cHRM": struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),  # Display P3
    "sRGB": b"\0",
    "cICP": bytes([12, 13, 0, 1]),
}


class Variant(NamedTuple):
    """A file: its name, and its content."""

    name: str
    data: bytes


def generate(folder: Path) -> int:
    """Write all files into a folder; returns their number."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for variant in variants():
        (folder / variant.name).write_bytes(variant.data)
        count += 1
    return count + _clips(folder)


def photo() -> npt.NDArray[np.uint8]:
    """A small color photograph, ``(H, W, 3)``."""
    whole = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    return np.array(Image.fromarray(whole[:360, :520]).resize(SIZE, Image.Resampling.BOX))


def image(mode: str) -> Image.Image:
    """The photograph in one of Pillow's modes; alpha grows from left to right, with a fully transparent corner."""
    width, height = SIZE
    pixels = photo()
    alpha = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    alpha[:4, :6] = 0
    if mode in ("I;16", "I", "F"):
        gray = np.asarray(Image.fromarray(pixels).convert("L")).astype(np.uint16) * 257
        gray ^= np.arange(width, dtype=np.uint16)[None] * 7
        return Image.fromarray(gray if mode == "I;16" else gray.astype(np.int32 if mode == "I" else np.float32))
    base = Image.fromarray(pixels)
    if mode in ("LA", "RGBA"):
        base.putalpha(Image.fromarray(alpha))
    return base.convert(mode)


def deep(channels: int) -> npt.NDArray[np.uint16]:
    """The photograph with 16 bits per channel: gray, RGB or RGBA; its low bytes carry information."""
    rng = np.random.default_rng(0)
    values = np.array(image("RGBA" if channels == 4 else "RGB")).astype(np.uint16) * 257
    values ^= rng.integers(0, 200, values.shape, dtype=np.uint16)
    return values[..., 0] if channels == 1 else values


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a file that Pillow writes."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int = 1, *, thumbnail: bool = False) -> bytes:
    """An EXIF block with a maker, a time, a place, and perhaps a thumbnail; orientation 0 leaves that tag out."""
    block = Image.Exif()
    if orientation:
        block[0x0112] = orientation
    block[0x010F] = "Maker"
    block.get_ifd(ExifTags.IFD.Exif)[0x9003] = "2026:01:02 03:04:05"
    block.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    data = block.tobytes()
    if not thumbnail:
        return data
    # The main directory is linked to another one at the end of the block, before the thumbnail.
    body = bytearray(data[6:])
    order = "<" if body[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", body, 4)
    (count,) = struct.unpack_from(order + "H", body, first)
    struct.pack_into(order + "I", body, first + 2 + 12 * count, len(body))
    small = saved(image("RGB").resize((16, 12)), "JPEG", quality=90)
    table = [(0x0103, 3, 6), (0x0201, 4, len(body) + 2 + 3 * 12 + 4), (0x0202, 4, len(small))]
    entries = [
        struct.pack(order + "HHI" + ("HH" if form == 3 else "I"), tag, form, 1, *([n, 0] if form == 3 else [n]))
        for tag, form, n in table
    ]
    return data[:6] + bytes(body) + struct.pack(order + "H", 3) + b"".join(entries) + bytes(4) + small


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with further segments: the second byte of their markers, and their contents."""
    return jpeg[:2] + b"".join(struct.pack(">BBH", 255, c, 2 + len(b)) + b for c, b in segments) + jpeg[2:]


def with_chunks(png: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with further chunks after its header."""
    made = [struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(b, zlib.crc32(t))) for t, b in chunks]
    return png[:33] + b"".join(made) + png[33:]


def iptc_text() -> tuple[bytes, bytes]:
    """IPTC records as a chunk of a PNG."""
    return b"tEXt", b"Raw profile type iptc\0\niptc\n%8d\n%s\n" % (len(IPTC), IPTC.hex().encode())


def sixteen_bit_png(channels: int) -> bytes:
    """A PNG with 16 bits per channel, by OpenCV."""
    values = deep(channels)
    if channels > 1:
        values = values[..., [2, 1, 0, 3][:channels]]
    return bytes(cv2.imencode(".png", values)[1])


def sixteen_bit_tiff(channels: int, **options: Any) -> bytes:
    """A TIFF with 16 bits per channel, by tifffile."""
    file = io.BytesIO()
    values = deep(channels)
    if options.get("planarconfig") == "separate":
        values = np.moveaxis(values, -1, 0)
    if channels == 4:
        options.setdefault("extrasamples", ["UNASSALPHA"])
    if options.get("extrasamples") == ["ASSOCALPHA"]:
        opacity = values[..., 3:].astype(np.int64)
        values = np.concatenate([values[..., :3] * opacity // 65535, opacity], axis=2).astype(np.uint16)
    photometric = "minisblack" if channels == 1 else "rgb"
    tifffile.imwrite(file, values, photometric=photometric, **options)
    return file.getvalue()


def variants() -> Iterator[Variant]:
    """All images, damaged ones too."""
    for family in (_jpeg, _png, _webp, _tiff, _bmp, _avif, _others):
        seen = []
        for name, data in family():
            seen.append(data)
            yield Variant(name, data)
        # The last and the middle of a family without their ends.
        for number, data in enumerate((seen[0], seen[len(seen) // 2], seen[-1])):
            suffix = {_others: ".gif"}.get(family, "." + family.__name__[1:])
            yield Variant(f"truncated-{number}{suffix}", data[: len(data) * 2 // 3])
    yield Variant("empty.png", b"")
    yield Variant("text.jpg", b"not an image\n" * 20)


def _jpeg() -> Iterator[tuple[str, bytes]]:
    options: dict[str, dict[str, Any]] = {
        "q50": {"quality": 50},
        "q95": {"quality": 95},
        "progressive": {"progressive": True},
        "optimized": {"optimize": True},
        "444": {"subsampling": 0},
        "422": {"subsampling": 1},
        "420": {"subsampling": 2},
        "restarts": {"restart_marker_blocks": 1},
        "dpi": {"dpi": (300, 150)},
    }
    for mode, (name, values) in itertools.product(("L", "RGB", "CMYK"), options.items()):
        yield f"jpeg-{mode}-{name}.jpg", saved(image(mode), "JPEG", **values)
    for mode, number in itertools.product(("L", "RGB"), range(1, 9)):
        yield f"jpeg-{mode}-orientation{number}.jpg", saved(image(mode), "JPEG", exif=exif(number, thumbnail=True))
    header, turned = (
        b"http://ns.adobe.com/xap/1.0/\0",
        b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"',
    )
    for mode in ("L", "RGB", "CMYK"):
        plain = saved(image(mode), "JPEG")
        yield f"jpeg-{mode}-xmp.jpg", with_segments(plain, (0xE1, header + XMP % b""))
        yield f"jpeg-{mode}-iptc.jpg", with_segments(plain, (0xED, b"Photoshop 3.0\0" + IPTC))
        yield f"jpeg-{mode}-comment.jpg", saved(image(mode), "JPEG", comment="a comment, été")
        yield f"jpeg-{mode}-tail.jpg", plain + b"something after the end"
        yield f"jpeg-{mode}-xmp-orientation6.jpg", with_segments(plain, (0xE1, header + XMP % (turned % 6)))
        if mode != "CMYK":
            yield f"jpeg-{mode}-icc.jpg", saved(image(mode), "JPEG", icc_profile=SRGB)
    yield "mpo.jpg", saved(image("RGB"), "MPO", save_all=True, append_images=[image("RGB")])


def _png() -> Iterator[tuple[str, bytes]]:
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "stored": {"compress_level": 0},
        "small": {"optimize": True},
        "dpi": {"dpi": (300, 300)},
    }
    for mode, (name, values) in itertools.product(modes, options.items()):
        yield f"png-{mode}-{name}.png", saved(image(mode), "PNG", **values)
    for bits in (1, 2, 4):
        yield f"png-P-{bits}bits.png", saved(image("RGB").quantize(2**bits), "PNG", bits=bits)
    yield "png-P-one-transparent.png", saved(image("P"), "PNG", transparency=3)
    yield "png-P-alphas.png", saved(image("P"), "PNG", transparency=bytes(range(256)))
    yield "png-L-transparent.png", saved(image("L"), "PNG", transparency=int(np.asarray(image("L"))[0, 0]))
    yield "png-RGB-transparent.png", saved(image("RGB"), "PNG", transparency=tuple(map(int, photo()[0, 0])))
    for mode, number in itertools.product(("RGB", "LA", "P", "I;16"), range(1, 9)):
        yield f"png-{mode}-orientation{number}.png", saved(image(mode), "PNG", exif=exif(number))
    for mode in ("L", "LA", "RGB", "RGBA", "P", "I;16", *range(1, 5)):
        if mode == 2:
            continue
        plain = sixteen_bit_png(mode) if isinstance(mode, int) else saved(image(mode), "PNG")
        name = f"16bit{mode}" if isinstance(mode, int) else mode
        text = PngInfo()
        text.add_text("Title", "rain")
        text.add_text("Long", "ab" * 2000, zip=True)
        text.add_itxt("Author", "日本語")
        texts = [(tag, body) for tag, body, *_ in text.chunks]
        yield f"png-{name}-text.png", with_chunks(plain, *texts)
        yield f"png-{name}-xmp.png", with_chunks(plain, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % b""))
        yield f"png-{name}-iptc.png", with_chunks(plain, iptc_text())
        yield f"png-{name}-exif.png", with_chunks(plain, (b"eXIf", exif(6, thumbnail=True)[6:]))
        for tag, body in COLOR_CHUNKS.items():
            yield f"png-{name}-{tag}.png", with_chunks(plain, (tag.encode(), body))
        if mode not in ("L", "LA", "I;16", 1):
            yield f"png-{name}-icc.png", with_chunks(plain, (b"iCCP", b"sRGB\0\0" + zlib.compress(SRGB)))


def _webp() -> Iterator[tuple[str, bytes]]:
    options: dict[str, dict[str, Any]] = {
        "lossless": {"lossless": True},
        "exact": {"lossless": True, "exact": True},
        "q80": {"quality": 80},
        "q100": {"quality": 100},
        "fast": {"method": 0},
        "icc": {"icc_profile": SRGB},
        "xmp": {"xmp": XMP % b""},
    }
    for mode, (name, values) in itertools.product(("L", "RGB", "RGBA"), options.items()):
        yield f"webp-{mode}-{name}.webp", saved(image(mode), "WEBP", **values)
    for mode, number in itertools.product(("RGB", "RGBA"), range(1, 9)):
        yield f"webp-{mode}-orientation{number}.webp", saved(image(mode), "WEBP", exif=exif(number, thumbnail=True))


def _tiff() -> Iterator[tuple[str, bytes]]:
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "YCbCr", "LAB", "I", "F")
    for mode, packing in itertools.product(modes, ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")):
        yield f"tiff-{mode}-{packing}.tif", saved(image(mode), "TIFF", compression=packing)
    for packing in ("group3", "group4", "tiff_ccitt"):
        yield f"tiff-1-{packing}.tif", saved(image("1"), "TIFF", compression=packing)
    for mode in ("L", "RGB"):
        yield f"tiff-{mode}-jpeg.tif", saved(image(mode), "TIFF", compression="jpeg", quality=90)
        yield f"tiff-{mode}-big.tif", saved(image(mode), "TIFF", big_tiff=True)
    for mode, number in itertools.product(("RGB", "LA", "CMYK", "I;16"), range(1, 9)):
        yield f"tiff-{mode}-orientation{number}.tif", saved(image(mode), "TIFF", tiffinfo={0x0112: number})
    for mode in ("L", "RGB", "RGBA", "CMYK", "I;16"):
        tags: dict[str, dict[int, Any]] = {
            "xmp": {700: XMP % b""},
            "iptc": {33723: _CAPTION},
            "description": {0x010E: "a street", 0x010F: "Maker", 0x0131: "scanner"},
        }
        for name, info in tags.items():
            yield f"tiff-{mode}-{name}.tif", saved(image(mode), "TIFF", tiffinfo=info)
        yield f"tiff-{mode}-dpi.tif", saved(image(mode), "TIFF", dpi=(300, 300))
        if mode.startswith("RGB"):
            yield f"tiff-{mode}-icc.tif", saved(image(mode), "TIFF", icc_profile=SRGB)
    layouts: dict[str, dict[str, Any]] = {
        "plain": {},
        "zlib": {"compression": "zlib"},
        "tiles": {"tile": (16, 16)},
        "big-endian": {"byteorder": ">"},
        "strips": {"rowsperstrip": 5},
        "icc": {"iccprofile": SRGB},
        "dpi": {"resolution": (300, 300), "resolutionunit": "INCH"},
        "planes": {"planarconfig": "separate"},
    }
    for channels, (name, values) in itertools.product((1, 3, 4), layouts.items()):
        if channels > 1 or name not in ("planes", "icc"):
            yield f"tiff-16bit{channels}-{name}.tif", sixteen_bit_tiff(channels, **values)
    yield "tiff-16bit4-associated.tif", sixteen_bit_tiff(4, extrasamples=["ASSOCALPHA"])
    yield "tiff-16bit4-unspecified.tif", sixteen_bit_tiff(4, extrasamples=["UNSPECIFIED"])


def _bmp() -> Iterator[tuple[str, bytes]]:
    for mode, dpi in itertools.product(("1", "L", "P", "RGB", "RGBA"), (96, 300)):
        yield f"bmp-{mode}-{dpi}.bmp", saved(image(mode), "BMP", dpi=(dpi, dpi))


def _avif() -> Iterator[tuple[str, bytes]]:
    options: dict[str, dict[str, Any]] = {
        "q60": {"quality": 60},
        "q95": {"quality": 95, "subsampling": "4:4:4"},
        "limited": {"range": "limited"},
        "icc": {"icc_profile": SRGB},
        "xmp": {"xmp": XMP % b""},
    }
    for mode, (name, values) in itertools.product(("L", "RGB", "RGBA"), options.items()):
        yield f"avif-{mode}-{name}.avif", saved(image(mode), "AVIF", speed=10, **values)
    for number in range(1, 9):
        yield f"avif-orientation{number}.avif", saved(image("RGB"), "AVIF", speed=10, exif=exif(number))


def _others() -> Iterator[tuple[str, bytes]]:
    options: dict[str, dict[str, Any]] = {"plain": {}, "rows": {"interlace": 0}, "comment": {"comment": b"a comment"}}
    for mode, (name, values) in itertools.product(("1", "L", "P", "RGB", "RGBA"), options.items()):
        yield f"gif-{mode}-{name}.gif", saved(image(mode), "GIF", **values)
    for mode in ("L", "LA", "RGB", "RGBA", "I;16"):
        yield f"jp2-{mode}-exact.jp2", saved(image(mode), "JPEG2000")
        yield f"jp2-{mode}-lossy.jp2", saved(image(mode), "JPEG2000", irreversible=True)
        yield f"jp2-{mode}-codestream.j2k", saved(image(mode), "JPEG2000", no_jp2=True)
    known = {
        "PPM": ("1", "L", "RGB", "RGBA", "I;16"),
        "TGA": ("1", "L", "LA", "P", "RGB", "RGBA"),
        "PCX": ("1", "L", "P", "RGB"),
        "SGI": ("L", "RGB", "RGBA"),
        "QOI": ("RGB", "RGBA"),
        "DDS": ("L", "LA", "RGB", "RGBA"),
        "ICO": ("RGB", "RGBA"),
        "DIB": ("1", "L", "RGB"),
        "MSP": ("1",),
        "SPIDER": ("F",),
        "XBM": ("1",),
    }
    for kind, modes in known.items():
        for mode in modes:
            yield f"{kind.lower()}-{mode}.{kind.lower()}", saved(image(mode), kind)
    frames = [image("P"), image("P").transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    yield "two-frames.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


#: Name -> suffix, codec, pixel format.
_CLIPS = {
    "h264": (".mp4", "libx264", "yuv420p"),
    "h264-444": (".mp4", "libx264", "yuv444p"),
    "h264-mov": (".mov", "libx264", "yuv422p"),
    "h264-ts": (".ts", "libx264", "yuv420p"),
    "h264-rgb": (".mkv", "libx264rgb", "rgb24"),
    "hevc-10": (".mp4", "libx265", "yuv420p10le"),
    "vp8": (".webm", "libvpx", "yuv420p"),
    "vp9": (".webm", "libvpx-vp9", "yuv420p"),
    "ffv1": (".mkv", "ffv1", "yuv420p"),
    "ffv1-10": (".mkv", "ffv1", "yuv422p10le"),
    "ffv1-alpha": (".mkv", "ffv1", "yuva420p"),
    "ffv1-rgb": (".mkv", "ffv1", "bgr0"),
    "png": (".mov", "png", "rgb24"),
    "png-alpha": (".mov", "png", "rgba"),
    "qtrle": (".mov", "qtrle", "argb"),
    "mjpeg": (".avi", "mjpeg", "yuvj420p"),
    "mpeg4": (".avi", "mpeg4", "yuv420p"),
    "mpeg2": (".mpg", "mpeg2video", "yuv420p"),
    "wmv2": (".wmv", "wmv2", "yuv420p"),
    "flv": (".flv", "flv1", "yuv420p"),
}


def _clips(folder: Path) -> int:
    """Clips of three frames; one is rotated. libx265 crashes on frames of less than a block (64 × 48 is safe)."""
    pixels = np.asarray(Image.fromarray(photo()).resize((64, 48), Image.Resampling.BICUBIC))
    frames = [np.roll(pixels, step, axis=1) for step in range(3)]
    for name, (suffix, codec, pix_fmt) in _CLIPS.items():
        write_clip(folder / f"clip-{name}{suffix}", frames, codec, pix_fmt)
    write_clip(folder / "clip-rotated.mp4", frames, "libx264", "yuv420p", rotation=90)
    return len(_CLIPS) + 1


def write_clip(path: Path, frames: list[npt.NDArray[np.uint8]], codec: str, pix_fmt: str, rotation: int = 0) -> None:
    """Encode RGB frames by PyAV, 25 per second; alpha is that of :func:`image`."""
    height, width = frames[0].shape[:2]
    alpha = np.asarray(image("RGBA").resize((width, height)))[..., 3:]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, width=width, height=height, pix_fmt=pix_fmt)
        assert isinstance(stream, av.VideoStream)
        if codec.startswith("libx264"):
            stream.codec_context.options = {"preset": "ultrafast"}
        if codec == "libx265":
            stream.codec_context.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        if rotation:
            stream.set_display_rotation(rotation)
        out.metadata["title"] = "a street in the rain"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.concatenate([pixels, alpha], axis=2), format="rgba")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
