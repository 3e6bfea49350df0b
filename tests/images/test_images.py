"""Round trips: what a photographer put into the file must come out again."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from derain import files, images
from derain.errors import InputError, OutputError
from derain.images.picture import turn
from support.images import SRGB, as_bytes, bomb, deep, exif_block

# Pillow's BMP has no alpha.
LOSSLESS = [(kind, mode) for kind in ("PNG", "TIFF") for mode in ("RGB", "L", "RGBA", "LA")]


@pytest.mark.parametrize(("kind", "mode"), [*LOSSLESS, ("BMP", "RGB"), ("BMP", "L")])
def test_lossless_formats_give_back_every_value(photo, kind, mode):
    image = Image.fromarray(photo).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(photo[..., 1]))
    again = Image.open(io.BytesIO(images.encode(images.decode(as_bytes(image, kind)), kind)))
    assert again.mode == mode
    np.testing.assert_array_equal(np.asarray(again), np.asarray(image))


def test_webp_keeps_alpha_and_colors_below_it(photo):
    image = Image.fromarray(photo).convert("RGBA")
    image.putalpha(Image.fromarray(np.where(photo[..., 0] > 99, 255, 0).astype(np.uint8)))
    picture = images.decode(as_bytes(image, "WEBP", lossless=True, exact=True))
    again = Image.open(io.BytesIO(images.encode(picture, "WEBP")))
    assert again.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(again)[..., 3], np.asarray(image)[..., 3])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_16_bit_is_exact(photo, channels):
    values = deep(photo)
    values = np.concatenate([values, values[..., :1]], axis=2)[..., :channels]
    written = cv2.imencode(".png", values.squeeze())[1].tobytes()
    picture = images.decode(written)
    assert picture.depth == 16
    assert picture.gray == (channels == 1)
    again = cv2.imdecode(np.frombuffer(images.encode(picture, "PNG"), np.uint8), cv2.IMREAD_UNCHANGED)
    assert again.dtype == np.uint16
    np.testing.assert_array_equal(again, values.squeeze())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_16_bit_is_exact_and_keeps_profile_and_resolution(photo, channels):
    values = deep(photo)
    values = np.concatenate([values, values[..., :1]], axis=2)[..., :channels].squeeze()
    buffer = io.BytesIO()
    extra = {"extrasamples": ["UNASSALPHA"]} if channels == 4 else {}
    photometric = "minisblack" if channels == 1 else "rgb"
    tifffile.imwrite(
        buffer, values, photometric=photometric, iccprofile=SRGB, resolution=(300, 300), resolutionunit="INCH", **extra
    )
    picture = images.decode(buffer.getvalue())
    assert (picture.depth, picture.icc) == (16, SRGB)
    with tifffile.TiffFile(io.BytesIO(images.encode(picture, "TIFF"))) as file:
        np.testing.assert_array_equal(file.asarray(), values)
        assert file.pages[0].tags[34675].value == SRGB
        assert file.pages[0].get_resolution("inch") == (300, 300)


def test_png_16_bit_keeps_icc_exif_and_resolution(photo):
    values = deep(photo)
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone_for_the_network_and_kept_in_the_file(photo, kind, orientation):
    stored = Image.fromarray(photo)
    data = as_bytes(stored, kind, exif=exif_block(orientation), **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    picture = images.decode(data)
    np.testing.assert_array_equal(picture.array(), expected)
    again = Image.open(io.BytesIO(images.encode(picture, kind)))
    if kind != "TIFF":  # Pillow turns a TIFF upright while it loads it, and drops the tag
        assert again.size == stored.size
        assert again.getexif()[0x0112] == orientation
    assert again.getexif()[0x010F] == "Maker"
    seen = np.asarray(ImageOps.exif_transpose(again).convert("RGB")).astype(int)
    assert np.abs(seen - expected).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_array_turns_agree_with_pillow(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(io.BytesIO(as_bytes(Image.fromarray(photo), "PNG", exif=exif)))
    upright = turn(photo, orientation, undo=False)
    np.testing.assert_array_equal(upright, np.asarray(ImageOps.exif_transpose(image)))
    np.testing.assert_array_equal(turn(upright, orientation, undo=True), photo)


def test_orientation_is_baked_in_where_the_format_has_no_exif(photo):
    data = as_bytes(Image.fromarray(photo), "JPEG", exif=exif_block(6), quality=95)
    again = Image.open(io.BytesIO(images.encode(images.decode(data), "BMP")))
    assert again.size == (photo.shape[0], photo.shape[1])


def test_exif_details_and_icc_survive_a_jpeg(photo):
    data = as_bytes(Image.fromarray(photo), "JPEG", exif=exif_block(1), icc_profile=SRGB, dpi=(240, 240))
    again = Image.open(io.BytesIO(images.encode(images.decode(data), "JPEG")))
    assert again.info["icc_profile"] == SRGB
    assert again.getexif().get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    assert again.info["dpi"] == (240, 240)


def test_gray_stays_gray_and_16_bit_gray_stays_deep(photo):
    gray = Image.fromarray(photo).convert("L")
    assert Image.open(io.BytesIO(images.encode(images.decode(as_bytes(gray, "JPEG")), "JPEG"))).mode == "L"
    values = deep(photo)[..., 0]
    again = Image.open(io.BytesIO(images.encode(images.decode(as_bytes(Image.fromarray(values), "PNG")), "PNG")))
    np.testing.assert_array_equal(np.asarray(again).astype(np.uint16), values)


def test_palette_with_transparency_becomes_rgba(photo):
    image = Image.fromarray(photo).quantize(64)
    data = as_bytes(image, "PNG", transparency=3)
    again = Image.open(io.BytesIO(images.encode(images.decode(data), "PNG")))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))


def test_cmyk_without_profile_comes_back_as_the_same_inks(photo):
    image = Image.fromarray(photo).convert("CMYK")
    inks = np.asarray(image).copy()
    inks[..., 3] = 40  # a real black plate
    data = as_bytes(Image.fromarray(inks, mode="CMYK"), "TIFF")
    picture = images.decode(data)
    again = Image.open(io.BytesIO(images.encode(picture, "TIFF")))
    assert again.mode == "CMYK"
    seen, meant = (np.asarray(i.convert("RGB")).astype(int) for i in (again, Image.open(io.BytesIO(data))))
    assert np.abs(seen - meant).max() <= 2
    assert np.abs(np.asarray(again)[..., 3].astype(int) - 40).max() <= 1


def test_cmyk_jpeg_round_trip(photo):
    data = as_bytes(Image.fromarray(photo).convert("CMYK"), "JPEG", quality=95)
    again = Image.open(io.BytesIO(images.encode(images.decode(data), "JPEG")))
    assert again.mode == "CMYK"
    before = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(np.asarray(again.convert("RGB")).astype(int) - before).mean() < 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, not a picture", "not a picture"),
        (b"II*\0" + b"\0" * 50, "TIFF"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "damaged|not a picture"),
    ],
)
def test_rubbish_is_told_in_one_line(data, words):
    with pytest.raises(InputError, match=words) as caught:
        images.decode(data, name="wet.jpg")
    assert "wet.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused(photo, kind):
    data = as_bytes(Image.fromarray(photo), kind)
    with pytest.raises(InputError):
        images.decode(data[: len(data) // 2])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_truncated_16_bit_files_are_refused(photo, suffix):
    data = cv2.imencode(suffix, deep(photo))[1].tobytes()
    with pytest.raises(InputError):
        images.decode(data[: len(data) // 2])


def test_header_bombs_are_refused_before_decoding():
    with pytest.raises(InputError, match="megapixels"):
        images.decode(bomb(30_000, 30_000))
    with pytest.raises(InputError, match="100×90"):
        images.decode(bomb(100, 90), max_pixels=8_000)


def test_float_and_32_bit_pictures_are_refused_by_name(photo):
    float_tiff = as_bytes(Image.fromarray(photo[..., 0].astype(np.float32)), "TIFF")
    deep_tiff = as_bytes(Image.fromarray(photo[..., 0].astype(np.int32) * 70_000), "TIFF")
    for data, words in ((float_tiff, "wet.tif: 32-bit float"), (deep_tiff, "wet.tif: 32-bit gray")):
        with pytest.raises(InputError, match=words):
            images.decode(data, name="wet.tif")


def test_animations_are_refused(photo):
    frames = [Image.fromarray(photo), Image.fromarray(photo[::-1])]
    data = as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="2 frames"):
        images.decode(data)


def test_write_is_whole_or_nothing(photo, tmp_path: Path):
    picture = images.from_pil(Image.fromarray(photo))
    goal = tmp_path / "new" / "a.png"
    picture.save(goal)
    with pytest.raises(OutputError, match="exists"):
        picture.save(goal)
    picture.save(goal, overwrite=True)
    with pytest.raises(OutputError, match="cannot write"):
        picture.save(tmp_path / "a.xyz")
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        picture.save(blocked / "a.png")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.png", "file", "new"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        files.write_bytes(b"data", tmp_path / "a.png", overwrite=False)
    assert list(tmp_path.iterdir()) == []


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
