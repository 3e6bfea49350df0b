"""EXIF orientation: undone on reading, kept in the file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from derain import images
from derain.images.orientation import to_stored, to_upright
from support.images import as_bytes, exif_block


@pytest.mark.parametrize("orientation", range(1, 9))
def test_arrays_are_rotated_as_by_pillow(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(io.BytesIO(as_bytes(Image.fromarray(photo), "PNG", exif=exif)))
    upright = to_upright(photo, orientation)
    np.testing.assert_array_equal(upright, np.asarray(ImageOps.exif_transpose(image)))
    np.testing.assert_array_equal(to_stored(upright, orientation), photo)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone_on_reading_and_kept_in_the_file(photo, kind, orientation):
    stored = Image.fromarray(photo)
    data = as_bytes(stored, kind, exif=exif_block(orientation), **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    image = images.decode(data)
    np.testing.assert_array_equal(image.array(), expected)
    again = Image.open(io.BytesIO(images.encode(image, kind)))
    if kind != "TIFF":  # Pillow rotates a TIFF upright while it loads it, and drops the tag
        assert again.size == stored.size
        assert again.getexif()[0x0112] == orientation
    assert again.getexif()[0x010F] == "Maker"
    seen = np.asarray(ImageOps.exif_transpose(again).convert("RGB")).astype(int)
    assert np.abs(seen - expected).mean() < 3


def test_formats_without_exif_are_written_upright(photo):
    data = as_bytes(Image.fromarray(photo), "JPEG", exif=exif_block(6), quality=95)
    again = Image.open(io.BytesIO(images.encode(images.decode(data), "BMP")))
    assert again.size == (photo.shape[0], photo.shape[1])
