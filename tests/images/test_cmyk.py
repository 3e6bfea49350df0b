"""CMYK files: to RGB and back."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import skimage.color
from PIL import Image, ImageCms

from derain import images
from support.images import as_bytes


def test_cmyk_without_a_profile_keeps_its_values(photo):
    image = Image.fromarray(photo).convert("CMYK")
    values = np.asarray(image).copy()
    values[..., 3] = 40  # a black channel
    data = as_bytes(Image.fromarray(values, mode="CMYK"), "TIFF")
    decoded = images.decode(data)
    again = Image.open(io.BytesIO(images.encode(decoded, "TIFF")))
    assert again.mode == "CMYK"
    result, expected = (np.asarray(i.convert("RGB")).astype(int) for i in (again, Image.open(io.BytesIO(data))))
    assert np.abs(result - expected).max() <= 2
    assert np.abs(np.asarray(again)[..., 3].astype(int) - 40).max() <= 1


def test_cmyk_jpeg_round_trip(photo):
    data = as_bytes(Image.fromarray(photo).convert("CMYK"), "JPEG", quality=95)
    again = Image.open(io.BytesIO(images.encode(images.decode(data), "JPEG")))
    assert again.mode == "CMYK"
    before = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(np.asarray(again.convert("RGB")).astype(int) - before).mean() < 2


def table(ins: int, outs: int, points: int, values: np.ndarray) -> bytes:
    """A lookup table of an ICC profile with 8 bits (``mft1``) and straight curves."""
    head = b"mft1" + struct.pack(">IBBBB", 0, ins, outs, points, 0)
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    straight = bytes(range(256))
    return head + matrix + straight * ins + np.round(values).clip(0, 255).astype(np.uint8).tobytes() + straight * outs


@pytest.fixture(scope="module")
def profile() -> bytes:
    """A printer whose inks mix as R = (1 - C)(1 - K) · 0.9 + 0.1: its black is not black, as on paper."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * 4, indexing="ij"), axis=-1)
    rgb = (1 - grid[..., :3]) * (1 - grid[..., 3:]) * 0.9 + 0.1
    lab = skimage.color.rgb2lab(rgb)
    to_lab = np.stack([lab[..., 0] * 2.55, lab[..., 1] + 128, lab[..., 2] + 128], axis=-1)
    points = [np.linspace(0, 100, 33), np.linspace(-128, 127, 33), np.linspace(-128, 127, 33)]
    colors = skimage.color.lab2rgb(np.stack(np.meshgrid(*points, indexing="ij"), axis=-1))
    mixed = np.clip((colors - 0.1) / 0.9, 0, 1)
    black = 0.6 * (1 - mixed.max(axis=-1, keepdims=True))
    inks = np.concatenate([1 - mixed / np.maximum(1 - black, 1e-6), black], axis=-1)
    tags = {
        b"A2B0": table(4, 3, 9, to_lab),
        b"B2A0": table(3, 4, 33, 255 * inks),
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
    }
    start, listing, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        listing += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">IIIIII", start + len(body), 0, 0x02400000, *struct.unpack(">III", b"prtrCMYKLab "))
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + listing + body


@pytest.fixture(params=["TIFF", "JPEG"])
def kind(request) -> str:
    return request.param


@pytest.fixture(params=[False, True])
def icc(request, profile) -> bytes | None:
    return profile if request.param else None


def decoded(inks: np.ndarray, icc: bytes | None) -> images.Picture:
    image = Image.frombytes("CMYK", inks.shape[1::-1], inks.tobytes())
    return images.decode(as_bytes(image, "TIFF", **({"icc_profile": icc} if icc else {})))


def written(image: images.Picture, values: np.ndarray, kind: str = "TIFF") -> np.ndarray:
    result = images.Picture(values, cmyk=image.cmyk, icc=image.icc, format="TIFF")
    again = Image.open(io.BytesIO(images.encode(result, kind, quality=100)))
    assert again.mode == "CMYK"
    return np.asarray(again).astype(int)


def test_unchanged_pixels_keep_their_inks(icc, kind):
    inks = np.random.default_rng(0).integers(0, 256, (64, 48, 4), dtype=np.uint8)
    inks[:8] = (0, 0, 0, 255)  # text
    inks[8:16] = (153, 102, 102, 255)  # rich black
    image = decoded(inks, icc)
    assert image.icc == icc
    result = written(image, image.values, kind)
    if kind == "TIFF":
        np.testing.assert_array_equal(result, inks)
    values = image.values.copy()
    values[32:] ^= 64
    np.testing.assert_array_equal(written(image, values)[:32], inks[:32])


def test_what_had_only_black_gets_only_black(icc):
    inks = np.zeros((16, 256, 4), np.uint8)
    inks[..., 3] = np.arange(256)
    image = decoded(inks, icc)
    shift = np.arange(-24, 24, 3)[:, None, None]
    tint = np.array([5, 0, -5])
    values = np.clip(image.values.astype(int) + shift + tint, 0, 255).astype(np.uint8)
    result = written(image, values)
    assert (result[..., :3] == 0).all()
    # Read again, it is as bright as was asked for, within what black ink alone can show.
    seen = decoded(result.astype(np.uint8), icc).values.astype(int).mean(axis=2)
    asked = values.astype(int) @ [0.299, 0.587, 0.114]
    darkest = image.values.min()
    inside = (asked > darkest + 6) & (asked < 250)
    assert np.abs(seen - asked)[inside].max() <= 7
    assert inside.mean() > 0.5


def test_changed_colors_are_as_asked_for(icc, photo):
    cmy = 255 - photo.astype(int)
    black = cmy.min(axis=2, keepdims=True) // 2
    inks = np.concatenate([np.clip((cmy - black) * 255 // np.maximum(255 - black, 1), 0, 255), black], axis=2)
    image = decoded(inks.astype(np.uint8), icc)
    values = np.clip(image.values.astype(int) + 12, 0, 255).astype(np.uint8)
    darker = np.clip(image.values.astype(int) - 12, 0, 255).astype(np.uint8)
    for asked in (values, darker):
        seen = decoded(written(image, asked).astype(np.uint8), icc).values.astype(int)
        error = np.abs(seen - asked)[(asked > 40).all(axis=2) & (asked < 240).all(axis=2)]
        assert error.mean() < (1 if icc is None else 4)
    assert np.abs(written(image, values) - written(image, darker)).mean() > 3


def test_small_changes_of_color_change_inks_a_little(icc):
    """No jumps between a pixel that is kept and one that changed by one level, other than in deep shadows."""
    inks = np.random.default_rng(1).integers(0, 200, (64, 48, 4), dtype=np.uint8)
    image = decoded(inks, icc)
    for change in (1, -1):
        values = np.clip(image.values.astype(int) + change, 0, 255).astype(np.uint8)
        light = (inks[..., 3] < 128) & (image.values > 30).all(axis=2)
        assert np.abs(written(image, values) - inks)[light].max() <= 12


def test_the_profile_of_this_test_is_valid(profile):
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)), "RGB", "CMYK"
    )
    assert transform is not None
