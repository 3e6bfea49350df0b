"""Alpha: found in every form, written where a format has it, and white behind it elsewhere."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from derain import images
from support.images import as_bytes, sixteen_bit


def png(values: np.ndarray, depth: int, color_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written from the specification: samples of 1 to 16 bits, no filter."""
    height, width = values.shape[:2]
    rows = values.reshape(height, -1)
    if depth == 16:
        lines = rows.astype(">u2").view(np.uint8)
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :].reshape(height, -1)
        lines = np.packbits(bits, axis=1)
    body = b"".join(b"\0" + line.tobytes() for line in lines)
    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    parts = ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in parts
    )


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_gray_value_of_every_depth(depth):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**depth, (9, 13)) if depth < 16 else rng.integers(0, 9, (9, 13)) * 7000
    key = int(values[0, 0])
    image = images.decode(png(values, depth, 0, (b"tRNS", struct.pack(">H", key))))
    assert image.gray
    assert image.alpha is not None
    np.testing.assert_array_equal(image.alpha == 0, values == key)
    assert set(np.unique(image.alpha)) <= {0, 65535 if depth == 16 else 255}
    np.testing.assert_array_equal(image.values, values * (255 // (2**depth - 1)) if depth < 16 else values)
    again = images.decode(images.encode(image, "PNG"))
    np.testing.assert_array_equal(again.array(), image.array())


def test_a_transparent_16_bit_color(photo):
    values = sixteen_bit(photo)
    image = images.decode(png(values, 16, 2, (b"tRNS", struct.pack(">3H", *values[5, 7]))))
    assert image.alpha is not None
    np.testing.assert_array_equal(image.alpha == 0, (values == values[5, 7]).all(axis=2))
    np.testing.assert_array_equal(image.values, values)


def test_bmp_keeps_alpha(photo):
    rgba = np.dstack([photo, photo[..., 1]])
    image = images.Picture(photo, photo[..., 1])
    data = images.encode(image, "BMP")
    pillow = Image.open(io.BytesIO(data))
    assert pillow.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(pillow), rgba)
    np.testing.assert_array_equal(images.decode(data).array(), rgba)
    gray = images.encode(images.Picture(photo[..., 0], photo[..., 1], gray=True), "BMP")
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(gray))), np.dstack([photo[..., [0, 0, 0]], rgba[..., 3]])
    )


@pytest.mark.parametrize("upside_down", [False, True])
def test_bmp_without_masks_has_alpha_in_the_fourth_byte(photo, upside_down):
    rgba = np.dstack([photo, photo[..., 1]])
    data = bytearray(as_bytes(Image.fromarray(rgba), "BMP"))  # Pillow writes it, but does not read it
    assert Image.open(io.BytesIO(data)).mode == "RGB"
    if upside_down:
        struct.pack_into("<i", data, 22, -photo.shape[0])
        rgba = rgba[::-1]
    np.testing.assert_array_equal(images.decode(bytes(data)).array(), rgba)
    for same in (0, 255):
        rgba[..., 3] = same
        opaque = images.decode(as_bytes(Image.fromarray(rgba), "BMP"))
        assert opaque.alpha is None


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_jpeg_has_white_behind_transparency(photo, depth, gray):
    alpha = np.zeros(photo.shape[:2], np.uint8)
    alpha[:, 64:128], alpha[:, 128:] = 128, 255
    values = photo[..., 1] if gray else photo
    deep = (values.astype(np.uint16) * 257, alpha.astype(np.uint16) * 257) if depth == 16 else (values, alpha)
    image = images.fit(images.Picture(*deep, depth=depth, gray=gray), "JPEG")
    weight = alpha.reshape(alpha.shape + (1,) * (values.ndim - 2)) / 255
    expected = values * weight + 255 * (1 - weight)
    assert np.abs(image.array() - expected).max() <= 0.51
    assert image.notes[0] == "transparent parts become white, because JPEG has no alpha"
    opaque = images.fit(images.Picture(values, np.full_like(alpha, 255), gray=gray), "JPEG")
    assert opaque.notes == ()
    np.testing.assert_array_equal(opaque.array(), values)
