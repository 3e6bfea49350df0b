"""Unusable files are rejected with one-line errors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from derain import images
from derain.errors import InputError
from support.images import as_bytes, bomb, sixteen_bit


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello, not an image", "not an image"),
        (b"II*\0" + b"\0" * 50, "TIFF"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "damaged|not an image"),
    ],
)
def test_unusable_data_gives_a_one_line_error(data, message):
    with pytest.raises(InputError, match=message) as caught:
        images.decode(data, name="wet.jpg")
    assert "wet.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_rejected(photo, kind):
    data = as_bytes(Image.fromarray(photo), kind)
    with pytest.raises(InputError):
        images.decode(data[: len(data) // 2])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_truncated_16_bit_files_are_rejected(photo, suffix):
    data = cv2.imencode(suffix, sixteen_bit(photo))[1].tobytes()
    with pytest.raises(InputError):
        images.decode(data[: len(data) // 2])


def test_header_bombs_are_rejected_before_decoding():
    with pytest.raises(InputError, match="megapixels"):
        images.decode(bomb(30_000, 30_000))
    with pytest.raises(InputError, match="100×90"):
        images.decode(bomb(100, 90), max_pixels=8_000)


def test_float_and_32_bit_images_are_rejected(photo):
    float_tiff = as_bytes(Image.fromarray(photo[..., 0].astype(np.float32)), "TIFF")
    integer_tiff = as_bytes(Image.fromarray(photo[..., 0].astype(np.int32) * 70_000), "TIFF")
    for data, message in ((float_tiff, "wet.tif: 32-bit float"), (integer_tiff, "wet.tif: 32-bit gray")):
        with pytest.raises(InputError, match=message):
            images.decode(data, name="wet.tif")


def test_animations_are_rejected(photo):
    frames = [Image.fromarray(photo), Image.fromarray(photo[::-1])]
    data = as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="2 frames"):
        images.decode(data)
