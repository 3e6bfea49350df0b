"""``POST /v1/derain``: the bytes that ``derain run`` writes, and files that must be rejected."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from support.server import BATCH, UPLOAD, is_client_error, png_declaring, zipped


def test_bytes_equal_those_of_the_command(client, command, image_files, tmp_path):
    for name, data in image_files.items():
        suffix = {"jpeg": "jpg", "16-bit-tiff": "tif", "16-bit-png": "png", "alpha": "png"}.get(name, name)
        (tmp_path / f"{name}.{suffix}").write_bytes(data)
    assert command("run", tmp_path, "-o", tmp_path / "out")[0] == 0
    results = {p.stem: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert results.keys() == image_files.keys()
    for name, data in image_files.items():
        response = client.post(UPLOAD, content=data)
        assert response.status_code == 200, response.text
        assert hashlib.sha256(response.content).digest() == hashlib.sha256(results[name]).digest(), name
        assert client.post(UPLOAD, files={"file": ("../../etc/passwd", data)}).content == results[name]


def test_format_and_quality_as_the_command(client, command, image_files, tmp_path):
    (tmp_path / "a.png").write_bytes(image_files["png"])
    command("run", tmp_path / "a.png", "-o", tmp_path / "b.jpg", "--quality", 60)
    response = client.post(UPLOAD, params={"format": "jpeg", "quality": 60}, content=image_files["png"])
    assert response.content == (tmp_path / "b.jpg").read_bytes()
    assert response.headers["content-type"] == "image/jpeg"
    assert "derained.jpg" in response.headers["content-disposition"]
    assert response.headers["cache-control"] == "no-store"


def test_strength_blends_pixels(client, image_files):
    def output(strength: float) -> np.ndarray:
        response = client.post(UPLOAD, params={"strength": strength}, content=image_files["png"])
        return np.asarray(Image.open(io.BytesIO(response.content))).astype(int)

    none, half, full = output(0), output(0.5), output(1)
    assert np.array_equal(none, np.asarray(Image.open(io.BytesIO(image_files["png"]))))
    assert np.abs(full - none).max() > 8
    assert np.abs(half - (none + full) / 2).max() <= 1


def test_another_model_by_name_and_back(client, small_weight, image_files):
    default = client.post(UPLOAD, content=image_files["png"])
    assert default.headers["x-derain-model"] == small_weight.stem
    other = client.post(UPLOAD, params={"model": "default"}, content=image_files["png"])
    assert other.status_code == 200
    assert other.headers["x-derain-model"] == "default"
    assert other.content != default.content
    assert client.post(UPLOAD, content=image_files["png"]).content == default.content


@pytest.mark.parametrize("size", [(500, 500), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (100_000, 1), (1, 100_000)])
def test_pixels_are_limited_by_the_header(client, size):
    response = client.post(UPLOAD, content=png_declaring(*size))
    assert response.status_code == 413
    assert is_client_error(response)


def test_results_that_a_format_cannot_hold_are_rejected(client):
    buffer = io.BytesIO()
    Image.new("RGB", (17_000, 2)).save(buffer, "PNG")  # the limit of WebP is 16383
    response = client.post(UPLOAD, params={"format": "webp", "strength": 0}, content=buffer.getvalue())
    assert response.status_code == 422
    assert is_client_error(response)


@pytest.mark.parametrize(
    "query",
    [
        "model=../../etc/passwd",
        "model=/etc/passwd",
        "model=x.safetensors",
        "model=" + 5000 * "a",
        "model=%00",
        "strength=2",
        "strength=-1",
        "strength=nan",
        "strength=inf",
        "strength=",
        "quality=0",
        "quality=1e9",
        "quality=x",
        "format=exe",
        "format=../x",
        "format=EPS",
    ],
)
def test_wrong_parameters_are_rejected(client, image_files, query):
    for path in (UPLOAD, BATCH):
        response = client.post(f"{path}?{query}", content=image_files["png"])
        assert response.status_code == 422
        assert is_client_error(response)


# --- hostile files --------------------------------------------------------------------------------


def hostile_bodies() -> list[bytes]:
    """60 bodies that are not valid images."""
    rng = random.Random(0)
    tiff = b"II*\0" + struct.pack("<I", 8)
    many_pages = tiff + b"".join(struct.pack("<HI", 0, 8 + 6 * (i + 1)) for i in range(5000))
    text_bomb = bytearray(png_declaring(8, 8))
    compressed = b"k\0\0" + zlib.compress(bytes(30_000_000))
    ztxt = struct.pack(">I", len(compressed)) + b"zTXt" + compressed
    text_bomb[33:33] = ztxt + struct.pack(">I", zlib.crc32(b"zTXt" + compressed))
    bodies = [
        b"",
        b"\0",
        b"GIF89a",
        b"BM",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        tiff,
        b"MM\0*" + bytes(100),
        tiff + b"\xff\xff" * 500,
        many_pages,
        bytes(text_bomb),
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(rm) run",
        b"%PDF-1.7",
        b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>",
        b"#!/bin/sh\nrm -rf /",
        b"../../../../etc/passwd",
        "日本語".encode(),
        zipped({"a.png": b"x"}),
        b"P6 99999 99999 255\n" + bytes(50),
        b"\x00\x00\x00\x20ftypavif" + bytes(200),
        b"\x00\x00\x00\x20ftypheic" + bytes(200),
        struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65535, 65535, 24, 0) + bytes(50),
    ]
    return bodies + [rng.randbytes(rng.randrange(1, 3000)) for _ in range(36)]


def test_hostile_bodies_are_rejected(client):
    bodies = hostile_bodies()
    assert len(bodies) == 60
    for body in bodies:
        response = client.post(UPLOAD, content=body)
        assert is_client_error(response), (body[:60], response.status_code, response.text)


def test_truncated_images_are_rejected(client, image_files):
    for name, data in image_files.items():
        for share in (0.05, 0.3, 0.6):
            response = client.post(UPLOAD, content=data[: int(len(data) * share)])
            assert is_client_error(response), (name, share, response.status_code, response.text[:100])


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_images_never_cause_a_server_error(client, image_files, data):
    body = bytearray(data.draw(st.sampled_from(list(image_files.values()))))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8)
    ):
        body[position % len(body)] = value
    response = client.post(UPLOAD, content=bytes(body))
    assert response.status_code == 200 or is_client_error(response), response.text
