"""``POST /v1/derain``: the bytes that ``derain run`` writes, and files that must be rejected."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import zipfile
import zlib

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from derain.runtime.torch import TorchRuntime
from derain.server.app import create_app
from support.server import BATCH, UPLOAD, is_client_error, png_declaring, small_settings, zipped


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


@pytest.mark.parametrize("name", ["strenght", "Strength", "file", "model ", "x" * 3000, "%00", "quality[]"])
@pytest.mark.parametrize("where", ["query", "form"])
def test_unknown_parameters_are_rejected(client, image_files, name, where):
    """A misspelled parameter must not be ignored."""
    png = image_files["png"]
    for path in (UPLOAD, BATCH):
        if where == "query":
            response = client.post(path, params={name: "0.5"}, content=png)
        elif name == "file":
            continue  # several files; test_uploads.py
        else:
            response = client.post(path, data={name: "0.5"}, files={"file": ("a.png", png)})
        assert response.status_code == 422
        assert is_client_error(response)
        assert len(response.content) < 300


def test_other_addresses_take_no_parameters(client):
    for path in ("/v1/models", "/v1/jobs/x", "/v1/jobs/x/result"):
        response = client.get(path, params={"verbose": "1"})
        assert (response.status_code, "'verbose'" in response.json()["error"]) == (422, True)
    assert client.delete("/v1/jobs/x", params={"force": "1"}).status_code == 422
    assert client.get("/healthz", params={"t": "1"}).status_code == 200  # monitors add such


@pytest.mark.parametrize(
    "parameters",
    [{"strength": "0.5"}, {"format": "jpeg", "quality": "60"}, {"model": "fast", "format": "webp", "strength": "0.25"}],
)
@pytest.mark.parametrize("first", ["fields", "file"])
def test_parameters_may_be_fields_of_the_form(client, image_files, parameters, first):
    expected = client.post(UPLOAD, params=parameters, content=image_files["png"])
    assert expected.status_code == 200
    fields = [(name, (None, value)) for name, value in parameters.items()]
    file = [("file", ("a.png", image_files["png"]))]
    form = fields + file if first == "fields" else file + fields
    for response in (
        client.post(UPLOAD, files=form),
        client.post(UPLOAD, params=dict([*parameters.items()][:1]), files=[x for x in form if x != fields[0]]),
    ):
        assert response.status_code == 200, response.text
        assert response.content == expected.content
        assert response.headers["content-type"] == expected.headers["content-type"]
    if first == "file" and "model" not in parameters:
        form = [*fields, ("file", ("a.zip", zipped({"a.png": image_files["png"]})))]
        archive = zipfile.ZipFile(io.BytesIO(client.post(BATCH, files=form).content))
        assert archive.read(archive.namelist()[0]) == expected.content


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strength", "2"),
        ("strength", "nan"),
        ("strength", ""),
        ("strength", "é"),
        ("quality", "x"),
        ("quality", "\0"),
        ("format", "exe"),
        ("model", "../x"),
        ("model", "x" * 101),
        ("model", "x" * 5000),
    ],
)
def test_wrong_values_of_fields_are_rejected(client, image_files, name, value):
    for path in (UPLOAD, BATCH):
        form = {name: (None, value), "file": ("a.zip", zipped({"a.png": image_files["png"]}))}
        response = client.post(path, files=form)
        assert response.status_code == 422
        assert is_client_error(response)
        assert len(response.content) < 500


def test_a_parameter_has_one_value(client, image_files):
    png = image_files["png"]
    form = [("strength", (None, "0.5")), ("file", ("a.png", png))]
    for response in (
        client.post(f"{UPLOAD}?strength=0.5&strength=0.6", content=png),
        client.post(f"{BATCH}?strength=0.5&strength=0.5", content=zipped({"a.png": png})),
        client.post(f"{UPLOAD}?strength=0.5", files=form),
        client.post(UPLOAD, files=form[:1] + form),
    ):
        assert (response.status_code, "once" in response.json()["error"]) == (422, True)


def test_a_network_that_fails_is_a_fault_of_the_server(small_weight, image_files, monkeypatch):
    """Values that are not finite are no black image, and no path of this machine is in the message."""
    run = TorchRuntime.__call__
    monkeypatch.setattr(TorchRuntime, "__call__", lambda self, batch: run(self, batch) * np.float32("nan"))
    with TestClient(create_app(small_settings(small_weight))) as client:
        single = client.post(UPLOAD, content=image_files["png"])
        assert (single.status_code, "\n" in single.json()["error"]) == (500, False)
        assert single.json()["error"].startswith(f"{small_weight.stem}: the network computed NaN")
        response = client.post(BATCH, content=zipped({"a.png": image_files["png"], "b.txt": b"x"}))
        report = json.loads(zipfile.ZipFile(io.BytesIO(response.content)).read("report.json"))
        assert [line["status"] for line in report] == [500, 415]
        assert client.post(UPLOAD, params={"strength": 0}, content=image_files["png"]).status_code == 200


# --- hostile files --------------------------------------------------------------------------------


def hostile_bodies() -> list[bytes]:
    """60 bodies that are not valid images."""
    rng = random.Random(0)
    tiff = b"II*\0" + struct.pack("<I", 8)
    many_pages = tiff + b"".join(struct.pack("<HI", 0, 8 + 6 * (i + 1)) for i in range(5000))
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
    return bodies + [rng.randbytes(rng.randrange(1, 3000)) for _ in range(37)]


def test_hostile_bodies_are_rejected(client):
    bodies = hostile_bodies()
    assert len(bodies) == 60
    for body in bodies:
        response = client.post(UPLOAD, content=body)
        assert is_client_error(response), (body[:60], response.status_code, response.text)


def test_a_text_bomb_does_not_cost_the_image(client):
    data = bytearray(png_declaring(8, 8))
    compressed = b"k\0\0" + zlib.compress(bytes(30_000_000))
    ztxt = struct.pack(">I", len(compressed)) + b"zTXt" + compressed
    data[33:33] = ztxt + struct.pack(">I", zlib.crc32(b"zTXt" + compressed))
    response = client.post(UPLOAD, content=bytes(data))
    assert response.status_code == 200
    assert Image.open(io.BytesIO(response.content)).size == (8, 8)
    assert b"zTXt" not in response.content


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
