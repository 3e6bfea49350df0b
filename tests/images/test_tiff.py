"""TIFF: which image counts, associated alpha, extra channels, and metadata beside 16-bit samples."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from derain import images
from derain.errors import InputError
from support.images import as_bytes, exif_block, sixteen_bit


def tiff(*pages: np.ndarray, options: tuple[dict, ...] = ({}, {}, {})) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page, settings in zip(pages, options, strict=False):
            defaults = {"photometric": "rgb" if page.ndim == 3 else "minisblack", "metadata": None}
            writer.write(page, **(defaults | settings))
    return file.getvalue()


@pytest.mark.parametrize("depth", [8, 16])
def test_reduced_copies_and_masks_are_no_pages(photo, depth):
    values = photo if depth == 8 else sixteen_bit(photo)
    mask = {"subfiletype": 4, "photometric": "mask"}
    data = tiff(values, values[::4, ::4], values[..., 0] > 99, options=({}, {"subfiletype": 1}, mask))
    image = images.decode(data)
    np.testing.assert_array_equal(image.array(), values)
    assert image.notes == ("1 reduced copy is left out", "the transparency mask is left out")
    with pytest.raises(InputError, match="2 frames or pages"):
        images.decode(tiff(values, values))


def test_raw_files_are_refused(photo):
    preview, mosaic = photo[::4, ::4], sixteen_bit(photo)[..., 0]
    dng = (50706, 1, 4, b"\1\4\0\0", True)
    raw = [
        tiff(preview, options=({"extratags": [dng]},)),  # a DNG
        tiff(mosaic, options=({"photometric": 32803, "extratags": [(33421, 3, 2, (2, 2), True)]},)),
        tiff(preview, mosaic, options=({"subfiletype": 1}, {"photometric": 32803})),
        tiff(preview, photo, options=({"subfiletype": 1, "subifds": 1}, {})),  # NEF, ARW: the image is in a sub-IFD
        tiff(preview, photo, options=({"subfiletype": 1}, {})),
    ]
    for data in raw:
        with pytest.raises(InputError, match=r"wet\.nef.*develop it first") as caught:
            images.decode(data, name="wet.nef")
        assert "\n" not in str(caught.value)


def test_a_cr2_is_a_raw_file(photo):
    """Canon's marker stands at byte 8; the first directory is a preview of full type."""
    plain = tiff(photo[:8, :8])
    (first,) = struct.unpack_from("<I", plain, 4)
    directory = bytearray(plain[first:])
    data = plain[:4] + struct.pack("<I", 16) + b"CR\2\0" + bytes(4) + directory
    with pytest.raises(InputError, match="raw file"):
        images.decode(bytes(data).ljust(len(data) + 4096, b"\0"))


def test_a_single_image_marked_as_reduced_is_an_image(photo):
    data = tiff(photo, options=({"subfiletype": 1},))
    np.testing.assert_array_equal(images.decode(data).array(), photo)


def premultiplied(photo: np.ndarray, dtype: type, gray: bool) -> np.ndarray:
    """Colors multiplied by a ramp of alpha that begins at 0."""
    white = np.iinfo(dtype).max
    values = (sixteen_bit(photo) if dtype == np.uint16 else photo).astype(np.int64)[..., : 1 if gray else 3]
    alpha = np.broadcast_to(np.linspace(0, white, photo.shape[1]).astype(np.int64)[:, None], (*photo.shape[:2], 1))
    return np.concatenate([(values * alpha + white // 2) // white, alpha], axis=2).astype(dtype)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_associated_alpha_is_divided_for_the_network_and_comes_back_exactly(photo, gray, dtype, compression):
    values = premultiplied(photo, dtype, gray)
    photometric = "minisblack" if gray else "rgb"
    settings = {"photometric": photometric, "extrasamples": ["ASSOCALPHA"], "compression": compression}
    image = images.decode(tiff(values, options=(settings,)))
    white = np.iinfo(dtype).max
    alpha = values[..., -1:].astype(float)
    straight = np.where(alpha > 0, values[..., :-1].astype(float) * white / np.maximum(alpha, 1), 0)
    assert np.abs(np.minimum(straight, white).squeeze() - image.values).max() <= 0.51
    with tifffile.TiffFile(io.BytesIO(images.encode(image, "TIFF"))) as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), values)
        assert page.extrasamples == (1,)
    png = images.decode(images.encode(image, "PNG"))  # in which alpha is never associated
    np.testing.assert_array_equal(png.array(), image.array())


def test_associated_alpha_compressed_by_lzw(photo):
    """As libtiff writes it; only the label differs."""
    values = premultiplied(photo, np.uint8, gray=False)
    data = bytearray(as_bytes(Image.fromarray(values), "TIFF", compression="tiff_lzw"))
    label = data.index(struct.pack("<HHI", 338, 3, 1)) + 8
    assert data[label] == 2
    data[label] = 1
    image = images.decode(bytes(data))
    assert image.associated
    with tifffile.TiffFile(io.BytesIO(images.encode(image, "TIFF"))) as file:
        np.testing.assert_array_equal(file.asarray(), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_extra_channels_of_unknown_meaning_are_no_alpha(photo, dtype):
    values = photo if dtype == np.uint8 else sixteen_bit(photo)
    extra = np.concatenate([values, values[..., :1] // 2], axis=2)
    image = images.decode(tiff(extra, options=({"extrasamples": ["UNSPECIFIED"]},)))
    assert image.alpha is None
    np.testing.assert_array_equal(image.array(), values)
    assert image.notes == ("1 extra channel of unknown meaning left out",)


def test_alpha_after_a_channel_of_unknown_meaning(photo):
    values = np.concatenate([sixteen_bit(photo), sixteen_bit(photo)[..., :2]], axis=2)
    image = images.decode(tiff(values, options=({"extrasamples": ["UNSPECIFIED", "UNASSALPHA"]},)))
    np.testing.assert_array_equal(image.array(), values[..., [0, 1, 2, 4]])
    assert len(image.notes) == 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [8, 16])
def test_exif_xmp_and_iptc_are_kept_beside_every_depth(photo, depth, order):
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769).update({0x9003: "2026:01:02 03:04:05", 0x829A: 0.0125, 0x927C: b"maker note" * 9})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.5)})
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    iptc = b"8BIM\4\4\0\0\0\0\0\x0e\x1c\2\x78\0\x09a caption"
    values = photo if depth == 8 else sixteen_bit(photo)
    source = images.Picture(values, depth=depth, exif=exif.tobytes(), xmp=xmp, iptc=iptc, orientation=6)
    data = images.encode(source, "TIFF")
    again = images.decode(data)
    np.testing.assert_array_equal(again.array(), values)
    assert (again.orientation, again.xmp, again.iptc) == (6, xmp, iptc)
    pillow = Image.open(io.BytesIO(data)).getexif() if depth == 8 else Image.Exif()
    if depth == 16:
        assert again.exif is not None
        pillow.load(again.exif)
    assert pillow[0x010F] == "Maker"
    assert pillow.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    assert pillow.get_ifd(0x8769)[0x829A] == pytest.approx(0.0125)
    assert pillow.get_ifd(0x8769)[0x927C] == b"maker note" * 9
    assert pillow.get_ifd(0x8825)[2] == (48.0, 8.0, 14.5)
    assert images.decode(images.encode(again, "TIFF")).exif == again.exif
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].tags[700].value == xmp
        assert file.pages[0].tags[33723].value == b"\x1c\2\x78\0\x09a caption"


def test_exif_of_a_tiff_goes_into_other_formats(photo):
    data = as_bytes(Image.fromarray(photo), "TIFF", exif=exif_block(1))
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        exif = Image.open(io.BytesIO(images.encode(images.decode(data), kind))).getexif()
        assert exif[0x010F] == "Maker", kind
        assert exif.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05", kind
