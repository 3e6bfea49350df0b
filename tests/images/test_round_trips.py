"""Round trips: what is in a file must be in the result."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from derain import images
from support.images import SRGB, as_bytes, exif_block, sixteen_bit

# Pillow's BMP has no alpha.
LOSSLESS = [(kind, mode) for kind in ("PNG", "TIFF") for mode in ("RGB", "L", "RGBA", "LA")]


@pytest.mark.parametrize(("kind", "mode"), [*LOSSLESS, ("BMP", "RGB"), ("BMP", "L")])
def test_lossless_formats_are_exact(photo, kind, mode):
    image = Image.fromarray(photo).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(photo[..., 1]))
    again = Image.open(io.BytesIO(images.encode(images.decode(as_bytes(image, kind)), kind)))
    assert again.mode == mode
    np.testing.assert_array_equal(np.asarray(again), np.asarray(image))


def test_webp_keeps_alpha_and_the_colors_below_it(photo):
    image = Image.fromarray(photo).convert("RGBA")
    image.putalpha(Image.fromarray(np.where(photo[..., 0] > 99, 255, 0).astype(np.uint8)))
    decoded = images.decode(as_bytes(image, "WEBP", lossless=True, exact=True))
    again = Image.open(io.BytesIO(images.encode(decoded, "WEBP")))
    assert again.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(again)[..., 3], np.asarray(image)[..., 3])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_16_bit_is_exact(photo, channels):
    values = sixteen_bit(photo)
    values = np.concatenate([values, values[..., :1]], axis=2)[..., :channels]
    written = cv2.imencode(".png", values.squeeze())[1].tobytes()
    decoded = images.decode(written)
    assert decoded.depth == 16
    assert decoded.gray == (channels == 1)
    again = cv2.imdecode(np.frombuffer(images.encode(decoded, "PNG"), np.uint8), cv2.IMREAD_UNCHANGED)
    assert again.dtype == np.uint16
    np.testing.assert_array_equal(again, values.squeeze())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_16_bit_is_exact_and_keeps_profile_and_resolution(photo, channels):
    values = sixteen_bit(photo)
    values = np.concatenate([values, values[..., :1]], axis=2)[..., :channels].squeeze()
    buffer = io.BytesIO()
    extra = {"extrasamples": ["UNASSALPHA"]} if channels == 4 else {}
    photometric = "minisblack" if channels == 1 else "rgb"
    tifffile.imwrite(
        buffer, values, photometric=photometric, iccprofile=SRGB, resolution=(300, 300), resolutionunit="INCH", **extra
    )
    decoded = images.decode(buffer.getvalue())
    assert (decoded.depth, decoded.icc) == (16, SRGB)
    with tifffile.TiffFile(io.BytesIO(images.encode(decoded, "TIFF"))) as file:
        np.testing.assert_array_equal(file.asarray(), values)
        assert file.pages[0].tags[34675].value == SRGB
        assert file.pages[0].get_resolution("inch") == (300, 300)


def test_png_16_bit_keeps_icc_exif_and_resolution(photo):
    values = sixteen_bit(photo)
    plain = images.Picture(
        values.astype(np.float32) / 65535,
        depth=16,
        icc=SRGB,
        exif=exif_block(1),
        format="PNG",
        info={"dpi": (300, 300)},
    )
    again = Image.open(io.BytesIO(images.encode(plain, "PNG")))
    again.load()
    assert again.info["icc_profile"] == SRGB
    assert again.getexif()[0x010F] == "Maker"
    assert again.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    read = images.decode(images.encode(plain, "PNG"))
    assert read.icc == SRGB
    np.testing.assert_array_equal(read.array(), values)


def test_exif_details_and_icc_survive_a_jpeg(photo):
    data = as_bytes(Image.fromarray(photo), "JPEG", exif=exif_block(1), icc_profile=SRGB, dpi=(240, 240))
    again = Image.open(io.BytesIO(images.encode(images.decode(data), "JPEG")))
    assert again.info["icc_profile"] == SRGB
    assert again.getexif().get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    assert again.info["dpi"] == (240, 240)


def test_gray_stays_gray_and_16_bit_gray_stays_16_bit(photo):
    gray = Image.fromarray(photo).convert("L")
    assert Image.open(io.BytesIO(images.encode(images.decode(as_bytes(gray, "JPEG")), "JPEG"))).mode == "L"
    values = sixteen_bit(photo)[..., 0]
    again = Image.open(io.BytesIO(images.encode(images.decode(as_bytes(Image.fromarray(values), "PNG")), "PNG")))
    np.testing.assert_array_equal(np.asarray(again).astype(np.uint16), values)


def test_palette_with_transparency_becomes_rgba(photo):
    image = Image.fromarray(photo).quantize(64)
    data = as_bytes(image, "PNG", transparency=3)
    again = Image.open(io.BytesIO(images.encode(images.decode(data), "PNG")))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))


@settings(max_examples=30)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["L", "LA", "RGB", "RGBA"]),
    st.sampled_from(["PNG", "TIFF"]),
)
def test_any_size_and_mode_round_trips(width, height, mode, kind):
    rng = np.random.default_rng(width * 41 + height)
    values = rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    image = Image.fromarray(values.squeeze(2) if len(mode) == 1 else values, mode=mode)
    again = Image.open(io.BytesIO(images.encode(images.decode(as_bytes(image, kind)), kind)))
    assert again.mode == mode
    np.testing.assert_array_equal(np.asarray(again), np.asarray(image))
