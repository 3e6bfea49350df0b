"""CMYK files: to RGB and back."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

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
