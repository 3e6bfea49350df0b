"""Signals of color: kept, or turned into a profile that means the same; HDR is refused."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from derain import images
from derain.cli.run_images import _comparison_sheet
from derain.errors import InputError
from support.images import SRGB, as_bytes, sixteen_bit

P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
CHRM = struct.pack(">8I", *(round(v * 1e5) for v in P3))
GAMA = struct.pack(">I", 45455)
# Linear P3 to linear sRGB, from Apple's and the CSS Color 4 specification's matrices.
P3_TO_SRGB = np.array([[1.2249401763, -0.2249401763, 0.0], [-0.0420569547, 1.0420569547, 0.0],
                       [-0.0196375546, -0.0786360456, 1.0982736001]])  # fmt: skip


def srgb_encode(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_decode(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def with_chunks(values: np.ndarray, *chunks: tuple[bytes, bytes], **options: object) -> bytes:
    info = PngInfo()
    for tag, body in chunks:
        info.add(tag, body)
    return as_bytes(Image.fromarray(values), "PNG", pnginfo=info, **options)


def shown(data: bytes) -> np.ndarray:
    """The colors of a file in sRGB, by its ICC profile."""
    image = Image.open(io.BytesIO(data))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(converted).astype(float)


@pytest.fixture
def patches() -> np.ndarray:
    """Squares of random colors."""
    colors = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return colors.repeat(32, axis=0).repeat(32, axis=1)


CASES = {
    "cHRM and gAMA": (((b"gAMA", GAMA), (b"cHRM", CHRM)), lambda v: v**2.2),
    "cICP": (((b"cICP", bytes([12, 13, 0, 1])),), srgb_decode),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "AVIF", "BMP"])
def test_color_chunks_of_a_png_become_a_profile_or_srgb(patches, case, kind):
    chunks, decode = CASES[case]
    data = images.encode(images.decode(with_chunks(patches, *chunks)), kind, quality=100)
    expected = 255 * srgb_encode(decode(patches / 255) @ P3_TO_SRGB.T)
    result = np.asarray(Image.open(io.BytesIO(data))).astype(float) if kind == "BMP" else shown(data)
    assert np.abs(result - expected).mean() < (3 if kind in ("JPEG", "WEBP", "AVIF") else 0.6)
    assert np.abs(patches - expected).mean() > 5, "without the signal the colors are others"


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("chunks", [*(c[0] for c in CASES.values()), ((b"sRGB", b"\1"), (b"gAMA", GAMA))])
def test_color_chunks_stay_in_a_png(photo, chunks, depth):
    data = with_chunks(photo, *chunks)
    image = images.decode(data)
    if depth == 16:
        image = images.Picture(sixteen_bit(photo), depth=16, color_chunks=image.color_chunks)
    written = images.encode(image, "PNG")
    assert images.decode(written).color_chunks == chunks
    for tag, body in chunks:
        assert struct.pack(">I", len(body)) + tag + body in written
        assert written.index(tag) < written.index(b"IDAT")
    assert b"iCCP" not in written


def test_a_png_of_plain_srgb_needs_no_profile(photo):
    srgb = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    for chunks in (((b"gAMA", GAMA),), ((b"gAMA", GAMA), (b"cHRM", srgb)), ((b"cICP", bytes([1, 13, 0, 1])),)):
        data = images.encode(images.decode(with_chunks(photo, *chunks)), "JPEG")
        assert "icc_profile" not in Image.open(io.BytesIO(data)).info


def test_a_linear_gray_png_becomes_a_gray_profile(photo):
    data = with_chunks(photo[..., 0], (b"gAMA", struct.pack(">I", 100_000)))
    tiff = images.encode(images.decode(data), "TIFF")
    expected = 255 * srgb_encode(photo[..., :1] / 255)
    assert np.abs(shown(tiff) - expected).mean() < 0.6


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(photo, transfer, name):
    png = with_chunks(photo, (b"cICP", bytes([9, transfer, 0, 1])))
    avif = as_bytes(Image.fromarray(photo), "AVIF")
    place = avif.index(b"nclx") + 4
    avif = avif[:place] + struct.pack(">HH", 9, transfer) + avif[place + 4 :]
    for data in (png, avif):
        with pytest.raises(InputError, match=rf"wet: an HDR image \({name}\)"):
            images.decode(data, name="wet")


def test_avif_primaries_become_a_profile(photo):
    avif = as_bytes(Image.fromarray(photo), "AVIF", quality=100, subsampling="4:4:4")
    assert images.decode(avif).icc is None
    place = avif.index(b"nclx") + 4
    marked = avif[:place] + struct.pack(">HH", 12, 13) + avif[place + 4 :]
    image = images.decode(marked)
    expected = 255 * srgb_encode(srgb_decode(image.values / 255) @ P3_TO_SRGB.T)
    assert np.abs(shown(images.encode(image, "PNG")) - expected).mean() < 0.6


def test_ten_bits_of_an_avif_are_noted(photo):
    values = photo.astype(np.uint16) * 4
    done, data = cv2.imencode(".avif", values, [cv2.IMWRITE_AVIF_DEPTH, 10])
    assert done
    assert "10 bits per channel become 8" in images.decode(data.tobytes()).notes


def test_p3_becomes_srgb_in_a_bmp(photo):
    profile = images.icc.of_cicp(12, 13, gray=False, name="")
    data = images.encode(images.Picture(photo, icc=profile), "BMP")
    expected = 255 * srgb_encode(srgb_decode(photo / 255) @ P3_TO_SRGB.T)
    difference = np.abs(np.asarray(Image.open(io.BytesIO(data))) - expected)
    assert difference.mean() < 0.4
    assert difference.max() <= 2
    assert images.fit(images.Picture(photo, icc=profile), "BMP").notes


def test_our_profiles_are_accepted_and_mean_what_they_say(photo):
    """Against the sRGB profile of littleCMS."""
    curve = images.icc._curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    own = images.icc._profile(images.icc._SRGB_PRIMARIES, curve, gray=False)
    image = Image.fromarray(photo)
    there = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(own)), ImageCms.createProfile("sRGB"))
    assert np.abs(np.asarray(there).astype(int) - photo).max() <= 1


def gray_profile(gamma: float) -> bytes:
    return images.icc._profile(images.icc._SRGB_PRIMARIES, images.icc._curve(gamma), gray=True)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "JPEG", "PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_gray_profile_is_never_in_a_file_with_colors(photo, kind, alpha):
    gray = photo[..., 1]
    plane = np.full_like(gray, 200) if alpha and kind != "JPEG" else None
    data = images.encode(images.Picture(gray, plane, gray=True, icc=gray_profile(1.8)), kind, quality=100)
    image = Image.open(io.BytesIO(data))
    expected = 255 * srgb_encode((gray / 255) ** 1.8)
    if kind == "BMP":
        seen = np.asarray(image.convert("RGB"))[..., 0]
    else:
        space = image.info["icc_profile"][16:20]
        assert (space == b"GRAY") == (image.mode in ("L", "LA")) or kind == "AVIF"
        if kind == "AVIF" and not alpha:  # stored without colors, but Pillow decodes it to RGB
            image = image.convert("L") if space == b"GRAY" else image
        image = image.convert("RGB" if space == b"RGB " else "L")
        seen = shown(as_bytes(image, "PNG", icc_profile=image.info["icc_profile"]))[..., 0]
    assert np.abs(seen - expected).mean() < 1.5


def test_a_profile_of_other_colors_is_left_out(photo):
    cmyk = SRGB[:16] + b"CMYK" + SRGB[20:]
    image = images.fit(images.Picture(photo, icc=cmyk), "PNG")
    assert image.icc is None
    assert image.notes


def test_comparison_sheets_have_the_profile(photo):
    profile = images.icc.of_cicp(12, 13, gray=False, name="")
    sheet = Image.open(
        io.BytesIO(_comparison_sheet(images.Picture(photo, icc=profile), images.Picture(photo, icc=profile)))
    )
    assert sheet.info["icc_profile"] == profile
    image = images.decode(with_chunks(photo, (b"gAMA", GAMA), (b"cHRM", CHRM)))
    assert b"mntrRGB" in Image.open(io.BytesIO(_comparison_sheet(image, image))).info["icc_profile"]
    gray = images.Picture(photo[..., 0], gray=True, icc=gray_profile(1.8))
    assert Image.open(io.BytesIO(_comparison_sheet(gray, gray))).info["icc_profile"][16:20] == b"RGB "
