"""EXIF, XMP, IPTC, comments and texts: kept where a format holds them, and otherwise noted."""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from derain import images
from derain.errors import InputError
from derain.images import exif as exif_blocks
from derain.server.pictures import check_header
from support.images import SRGB, as_bytes, exif_block, sixteen_bit

XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"%s/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
CAPTION = b"\x1c\x02\x78\x00\x0bthe harbour"
IPTC = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(CAPTION)) + CAPTION
ROTATED = XMP % b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"'


def segment(code: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, 2 + len(content)) + content


def jpeg(photo: np.ndarray, *segments: bytes, **options: object) -> bytes:
    data = as_bytes(Image.fromarray(photo), "JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:]


def png_with(photo: np.ndarray, *chunks: tuple[bytes, bytes], **options: object) -> bytes:
    info = PngInfo()
    for tag, body in chunks:
        info.add(tag, body)
    return as_bytes(Image.fromarray(photo), "PNG", pnginfo=info, **options)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_xmp_iptc_comment_and_exif_of_a_jpeg_in_every_format(photo, kind, depth):
    xmp = XMP % b""
    data = jpeg(
        photo,
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp),
        segment(0xED, b"Photoshop 3.0\0" + IPTC + b"\0"),
        segment(0xFE, b"a comment, \xc3\xa9t\xc3\xa9"),
        exif=exif_block(1),
    )
    image = images.decode(data)
    if depth == 16:
        image = images.Picture(
            sixteen_bit(photo), depth=16, xmp=image.xmp, iptc=image.iptc, text=image.text, exif=image.exif
        )
    written = images.encode(image, kind)
    again = images.decode(written)
    pillow = Image.open(io.BytesIO(written)) if (kind, depth) != ("TIFF", 16) else None
    assert again.xmp == xmp
    if pillow is not None:
        pillow.load()
        assert pillow.info["xmp"] == xmp
        assert pillow.getexif()[0x010F] == "Maker"
    with_iptc, with_text = kind in ("JPEG", "PNG", "TIFF"), kind in ("JPEG", "PNG")
    assert (again.iptc is not None and CAPTION in again.iptc) == with_iptc
    assert again.text == ((("Comment", "a comment, été"),) if with_text else ())
    if kind == "JPEG":
        assert pillow.info["comment"] == b"a comment, \xc3\xa9t\xc3\xa9"
        assert pillow.info["photoshop"][0x0404] == CAPTION
    if kind == "PNG":
        assert pillow.text["Comment"] == "a comment, été"
    notes = " ".join(images.fit(image, kind).notes)
    assert ("IPTC" in notes) == (not with_iptc)
    assert ("'Comment'" in notes) == (not with_text)


def test_what_bmp_cannot_hold_is_noted(photo):
    image = images.Picture(photo, exif=exif_block(6), orientation=6, xmp=XMP % b"", iptc=IPTC, text=(("Title", "x"),))
    assert images.fit(image, "BMP").notes == (
        "left out, because BMP cannot hold it: EXIF, XMP, IPTC, the text 'Title'",
    )


@pytest.mark.parametrize("depth", [8, 16])
def test_png_texts_are_kept(photo, depth):
    texts = (("Title", "rain"), ("Copyright", "© été"), ("prompt", "日本語"), ("long", "ab" * 4000), ("Title", "again"))
    image = images.Picture(sixteen_bit(photo) if depth == 16 else photo, depth=depth, text=texts)
    written = images.encode(image, "PNG")
    assert len(written) < len(images.encode(images.Picture(image.values, depth=depth), "PNG")) + 2000, "compressed"
    assert images.decode(written).text == texts
    pillow = Image.open(io.BytesIO(written))
    pillow.load()
    assert pillow.text == dict(texts)
    assert "'prompt'" in images.fit(image, "JPEG").notes[-1]


def test_a_comment_in_another_encoding_keeps_its_bytes(photo):
    image = images.decode(jpeg(photo, segment(0xFE, b"\xe9t\xe9"), segment(0xFE, b"second")))
    written = images.encode(image, "JPEG")
    assert segment(0xFE, b"\xe9t\xe9") + segment(0xFE, b"second") in written
    assert images.decode(images.encode(image, "PNG")).text[1] == ("Comment", "second")


@pytest.mark.parametrize("keyword", [b"Raw profile type exif", b"Raw profile type APP1"])
@pytest.mark.parametrize("compressed", [False, True])
def test_exif_in_a_text_chunk(photo, keyword, compressed):
    block = exif_block(6)
    digits = block.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    text = f"\nexif\n{len(block):8}\n{lines}\n".encode()
    chunk = (b"zTXt", keyword + b"\0\0" + zlib.compress(text)) if compressed else (b"tEXt", keyword + b"\0" + text)
    image = images.decode(png_with(photo, chunk))
    assert (image.exif, image.orientation, image.text) == (block, 6, ())
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"):
        exif = images.decode(images.encode(image, kind)).exif
        assert exif is not None
        assert exif_blocks.parse(exif)[1][0x010F][2] == b"Maker\0", kind


def test_iptc_and_xmp_in_text_chunks(photo):
    digits = (b"Photoshop 3.0\0" + IPTC).hex()
    image = images.decode(png_with(photo, (b"tEXt", b"Raw profile type iptc\0\niptc\n 36\n" + digits.encode())))
    assert image.iptc is not None
    assert CAPTION in image.iptc
    packet = b"http://ns.adobe.com/xap/1.0/\0" + XMP % b""
    image = images.decode(png_with(photo, (b"tEXt", b"Raw profile type APP1\0\ngeneric\n 9\n" + packet.hex().encode())))
    assert image.xmp == XMP % b""


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("case", ["zTXt", "iTXt", "iCCP", "checksum", "no zlib"])
def test_metadata_that_cannot_be_used_do_not_cost_the_image(photo, depth, case):
    values = sixteen_bit(photo) if depth == 16 else photo
    data = images.encode(images.Picture(values, depth=depth, exif=exif_block(1)), "PNG")
    large = zlib.compress(bytes(3 * 2**20))
    tag, body = {
        "zTXt": (b"zTXt", b"workflow\0\0" + large),
        "iTXt": (b"iTXt", b"workflow\0\1\0\0\0" + large),
        "iCCP": (b"iCCP", b"big\0\0" + large),
        "checksum": (b"tEXt", b"Title\0x"),
        "no zlib": (b"iCCP", b"big\0\0not compressed"),
    }[case]
    checksum = zlib.crc32(tag + body) ^ (case == "checksum")
    data = data[:33] + struct.pack(">I", len(body)) + tag + body + struct.pack(">I", checksum) + data[33:]
    image = images.decode(data)
    np.testing.assert_array_equal(image.array(), values)
    assert image.exif == exif_block(1)
    assert len(image.notes) == 1
    assert image.notes[0].startswith("the color profile" if tag == b"iCCP" else "a text")


def long_exif(maker_note: int, comment: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769).update({0x9003: "2026:01:02 03:04:05", 0x927C: b"m" * maker_note, 0x9286: b"c" * comment})
    return exif.tobytes()


@pytest.mark.parametrize(
    ("sizes", "missing"), [((70_000, 10), "maker note"), ((10, 70_000), "maker note, tag 0x9286"), ((9, 9), "")]
)
def test_exif_too_long_for_jpeg_loses_its_longest_parts(photo, sizes, missing):
    image = images.decode(png_with(photo, exif=long_exif(*sizes)))
    fitted = images.fit(image, "JPEG")
    assert fitted.notes == ((f"left out, because EXIF is too long for JPEG: {missing}",) if missing else ())
    written = Image.open(io.BytesIO(images.encode(image, "JPEG")))
    exif = written.getexif()
    assert (exif[0x0112], exif[0x010F]) == (6, "Maker")
    assert exif.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    assert images.decode(images.encode(image, "PNG")).exif == image.exif


def test_xmp_too_long_for_jpeg_is_noted(photo):
    image = images.Picture(photo, xmp=ROTATED + b" " * 70_000, orientation=6)
    fitted = images.fit(image, "JPEG")
    assert (fitted.xmp, fitted.orientation) == (None, 1)
    assert "XMP" in fitted.notes[0]
    assert images.decode(images.encode(image, "JPEG")).size == image.size


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"optimize": True}])
@pytest.mark.parametrize("tail", [b"", b"\xff", bytes(700)])
def test_a_jpeg_without_its_end_marker_is_decoded(photo, options, tail):
    whole = as_bytes(Image.fromarray(photo), "JPEG", **options)
    image = images.decode(whole[:-2] + tail)
    np.testing.assert_array_equal(image.array(), images.decode(whole).array())
    assert image.notes == ("the end marker of the JPEG is missing; the image is complete",)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
def test_a_jpeg_of_which_more_is_missing_is_refused(photo, options):
    whole = as_bytes(Image.fromarray(photo), "JPEG", **options)
    scans = [i for i in range(len(whole) - 1) if whole[i : i + 2] == b"\xff\xda"][1:]
    restarts = [i for i in range(700, len(whole) - 1) if whole[i] == 0xFF and 0xD0 <= whole[i + 1] <= 0xD7]
    for end in (len(whole) // 2, len(whole) - 300, len(whole) - 40, *scans, *restarts[-4:]):
        for tail in (b"", bytes(5000)):
            with pytest.raises(InputError, match="truncated"):
                images.decode(whole[:end] + tail)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP"])
@pytest.mark.parametrize("with_exif", [False, True])
def test_orientation_that_stands_only_in_xmp(photo, kind, with_exif):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    options = {"exif": exif.tobytes()} if with_exif else {}
    data = jpeg(photo, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + ROTATED), quality=95, **options)
    image = images.decode(data)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (image.orientation, image.size) == (6, expected.size)
    np.testing.assert_array_equal(image.array(), np.asarray(expected))
    written = Image.open(io.BytesIO(images.encode(image, kind)))
    seen = ImageOps.exif_transpose(written)
    assert seen.size == expected.size
    assert np.abs(np.asarray(seen.convert("RGB")).astype(int) - np.asarray(expected)).mean() < 4
    if kind in ("JPEG", "PNG", "WEBP"):
        assert written.size == Image.open(io.BytesIO(data)).size, "stored as the source"


def with_thumbnail(order: str, orientation: int, thumbnail: bytes) -> bytes:
    """An EXIF block with a thumbnail behind everything else."""
    main = struct.pack(order + "HHHII", 1, 0x0112, 3, 1, orientation << (16 if order == ">" else 0))
    first = 8 + len(main) + 4
    second = struct.pack(order + "HHHIIHHII", 2, 0x0201, 4, 1, first + 30, 0x0202, 4, 1, len(thumbnail))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return b"Exif\0\0" + head + main + struct.pack(order + "I", first) + second + bytes(4) + thumbnail


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_thumbnail_shows_the_result(photo, kind, orientation, order):
    rainy = as_bytes(Image.new("RGB", (96, 64), "blue"), "JPEG", quality=95) + bytes(6000)
    data = jpeg(photo, exif=with_thumbnail(order, orientation, rainy))
    image = images.decode(data)
    derained = images.Picture(np.ascontiguousarray(255 - image.values), exif=image.exif, orientation=orientation)
    exif = Image.open(io.BytesIO(images.encode(derained, kind))).info["exif"]
    directory = Image.Exif()
    directory.load(exif)
    details = directory.get_ifd(ExifTags.IFD.IFD1)
    start = details[0x0201] + (6 if exif.startswith(b"Exif\0\0") else 0)
    small = Image.open(io.BytesIO(exif[start : start + details[0x0202]]))
    assert small.size == (96, 64)
    expected = ImageOps.pad(derained.as_stored().to_pil(), (96, 64))
    assert np.abs(np.asarray(small).astype(int) - np.asarray(expected)).mean() < 12


def test_a_thumbnail_that_cannot_be_replaced_is_removed(photo):
    for thumbnail in (b"not a JPEG" * 40, as_bytes(Image.new("RGB", (160, 120), "blue"), "JPEG", quality=1)[:300]):
        block = with_thumbnail("<", 1, thumbnail)
        exif = images.fit(images.Picture(photo, exif=block), "JPEG").exif
        assert exif is not None
        assert len(exif) < len(block) - len(thumbnail) + 1
        assert thumbnail[:20] not in exif
        assert exif_blocks.orientation(exif) == 1
        again = Image.Exif()
        again.load(exif)
        assert again.get_ifd(ExifTags.IFD.IFD1) == {}


def test_other_thumbnails_are_removed(photo):
    small = as_bytes(Image.new("RGB", (8, 8), "blue"), "JPEG")
    listed = b"><xmp:Thumbnails><rdf:Alt><rdf:li>" + base64.b64encode(small) + b"</rdf:li></rdf:Alt></xmp:Thumbnails"
    resource = b"8BIM\x04\x0c\0\0" + struct.pack(">I", len(small)) + small + b"\0" * (len(small) % 2)
    packet = (XMP % listed).replace(b"</xmp:Thumbnails/>", b"</xmp:Thumbnails></rdf:Description>")
    data = jpeg(
        photo,
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet),
        segment(0xED, b"Photoshop 3.0\0" + resource + IPTC + b"\0"),
    )
    image = images.decode(data)
    assert image.xmp is not None
    assert b"Thumbnails" not in image.xmp
    assert b'xmp:Rating="4"' in image.xmp
    assert image.iptc is not None
    assert (small in image.iptc, CAPTION in image.iptc) == (False, True)


def test_what_follows_the_image_is_noted(photo):
    first, second = as_bytes(Image.fromarray(photo), "JPEG"), as_bytes(Image.fromarray(photo[::4, ::4]), "JPEG")
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "MPO", save_all=True, append_images=[Image.fromarray(photo[::-1])])
    assert "other images" in images.decode(file.getvalue()).notes[0]

    gain = XMP % b' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
    image = images.decode(jpeg(photo, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + gain)) + second)
    assert image.notes == ("the gain map (HDR) is left out",)
    assert image.xmp is not None
    assert b"hdrgm:Version" not in image.xmp
    iso = jpeg(photo, segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"))
    assert images.decode(iso + second).notes == ("the gain map (HDR) is left out",)

    video = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(99)
    motion = XMP % b' xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"'
    image = images.decode(jpeg(photo, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + motion)) + video)
    assert image.notes == ("the video of this motion photo is left out",)
    assert image.xmp is not None
    assert b"GCamera:MotionPhoto" not in image.xmp
    assert images.decode(first).notes == images.decode(first + bytes(50)).notes == ()


def test_files_without_anything_special_have_no_notes(photo):
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        data = as_bytes(Image.fromarray(photo), kind, exif=exif_block(3), icc_profile=SRGB)
        image = images.decode(data)
        assert images.fit(image, kind).notes == ()


def test_hostile_metadata_take_neither_time_nor_memory(photo):
    """Limits of size and time; without them these take minutes or gigabytes."""
    small = photo[:8, :8]
    start = time.process_time()
    bomb = (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20)))
    image = images.decode(png_with(small, *([bomb] * 3000)))
    assert len(image.text) <= 17
    assert len(image.notes) == 1
    for packet in (b"<hdrgm:a>" * 100_000, b" " * 900_000, b"<xmp:Thumbnails " * 60_000, b"tiff:Orientation" * 60_000):
        images.decode(png_with(small, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)))
    tags = b"".join(struct.pack("<HHII", 40_000 + i, 7, 2**22, 8) for i in range(4000))
    block = (
        b"II*\0" + struct.pack("<IH", 8 + 2**22, 4000)[:4] + bytes(2**22) + struct.pack("<H", 4000) + tags + bytes(4)
    )
    tracemalloc.start()
    try:
        exif_blocks.parse(block)
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 10


def test_notes_are_printed_and_in_the_json(command, photo, tmp_path):
    path = tmp_path / "wet.jpg"
    path.write_bytes(as_bytes(Image.fromarray(photo), "JPEG")[:-2])
    note = "the end marker of the JPEG is missing; the image is complete"
    code, out, _ = command("run", path, "-o", tmp_path / "a.bmp")
    assert code == 0
    assert "a.bmp (" in out.splitlines()[0]
    assert out.splitlines()[1] == f"  note: {note}"
    code, out, _ = command("run", path, "-o", tmp_path / "b.png", "--json")
    assert json.loads(out)["notes"] == [note]
    code, out, _ = command("run", tmp_path / "b.png", "-o", tmp_path / "c.png", "--json")
    assert "notes" not in json.loads(out)
    code, out, _ = command("run", path, "-o", tmp_path / "d.png", "--quiet")
    assert out == ""


def test_the_header_check_of_the_server_sees_what_is_decoded(photo):
    png = png_with(photo, (b"zTXt", b"workflow\0\0" + zlib.compress(bytes(3 * 2**20))))
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(png))
    check_header(png, max_pixels=10**6)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(photo, photometric="rgb", metadata=None)
        writer.write(photo[::4, ::4], photometric="rgb", metadata=None, subfiletype=1)
    check_header(file.getvalue(), max_pixels=10**6)
