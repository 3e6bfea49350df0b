"""A server with low limits, and image files to send."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from derain import images

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

if importlib.util.find_spec("fastapi") is None:
    collect_ignore_glob = ["test_*.py"]  # the extra derain[server] is not installed


@pytest.fixture(scope="module")
def client(small_weight: Path) -> Iterator[TestClient]:
    from fastapi.testclient import TestClient

    from derain.server.app import create_app
    from support.server import small_settings

    with TestClient(create_app(small_settings(small_weight))) as client:
        yield client


@pytest.fixture(scope="session")
def image_files(photo: np.ndarray) -> dict[str, bytes]:
    """A small image in each format; also with alpha, with 16 bits, with an orientation."""
    small = Image.fromarray(photo[:64, :80])
    files = {}
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        small.save(buffer, kind, **({"exif": exif.tobytes()} if kind == "JPEG" else {}))
        files[kind.lower()] = buffer.getvalue()
    sixteen_bit = images.Picture(photo[:40, :50].astype(np.float32) / 255, depth=16, format="PNG")
    files["16-bit-png"] = images.encode(sixteen_bit, "PNG")
    files["16-bit-tiff"] = images.encode(dataclasses.replace(sixteen_bit, format="TIFF"), "TIFF")
    transparent = small.convert("RGBA")
    transparent.putalpha(99)
    buffer = io.BytesIO()
    transparent.save(buffer, "PNG")
    files["alpha"] = buffer.getvalue()
    return files
