"""The HTTP server: the command's bytes, limits, the queue, and clients that mean harm."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import hashlib
import io
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("fastapi", reason="the server's extra is not installed")
from fastapi.testclient import TestClient

from derain import images
from derain.server.app import create_app
from derain.server.archives import safe_name
from derain.server.settings import Settings
from derain.weights import manifest

SMALL = Settings(max_pixels=200_000, max_bytes=600_000, max_entries=12, timeout=30)
UPLOAD = "/v1/derain"
BATCH = "/v1/derain/batch"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def client(small_weight):
    with TestClient(create_app(dataclasses.replace(SMALL, model=str(small_weight)))) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(photo) -> dict[str, bytes]:
    """A small picture in each format, with alpha, 16 bits, an orientation."""
    small = Image.fromarray(photo[:64, :80])
    made = {}
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        small.save(buffer, kind, **({"exif": exif.tobytes()} if kind == "JPEG" else {}))
        made[kind.lower()] = buffer.getvalue()
    deep = images.Picture(photo[:40, :50].astype(np.float32) / 255, depth=16, format="PNG")
    made["deep"] = images.encode(deep, "PNG")
    made["deep-tiff"] = images.encode(dataclasses.replace(deep, format="TIFF"), "TIFF")
    clear = small.convert("RGBA")
    clear.putalpha(99)
    buffer = io.BytesIO()
    clear.save(buffer, "PNG")
    made["alpha"] = buffer.getvalue()
    return made


def zipped(files: dict[str, bytes], **options) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def is_kind_refusal(response) -> bool:
    """4xx with one line that a person can read."""
    message = response.json()["error"]
    return (
        400 <= response.status_code < 500 and len(message) > 10 and "\n" not in message and "Traceback" not in message
    )


# --- what it is for -------------------------------------------------------------------------------


def test_the_same_bytes_as_the_command(client, command, pictures, tmp_path):
    for name, data in pictures.items():
        suffix = {"jpeg": "jpg", "deep-tiff": "tif", "deep": "png", "alpha": "png"}.get(name, name)
        (tmp_path / f"{name}.{suffix}").write_bytes(data)
    assert command("run", tmp_path, "-o", tmp_path / "out")[0] == 0
    results = {p.stem: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert results.keys() == pictures.keys()
    for name, data in pictures.items():
        answer = client.post(UPLOAD, content=data)
        assert answer.status_code == 200, answer.text
        assert hashlib.sha256(answer.content).digest() == hashlib.sha256(results[name]).digest(), name
        assert client.post(UPLOAD, files={"file": ("../../etc/passwd", data)}).content == results[name]


def test_format_and_quality_as_the_command(client, command, pictures, tmp_path):
    (tmp_path / "a.png").write_bytes(pictures["png"])
    command("run", tmp_path / "a.png", "-o", tmp_path / "b.jpg", "--quality", 60)
    answer = client.post(UPLOAD, params={"format": "jpeg", "quality": 60}, content=pictures["png"])
    assert answer.content == (tmp_path / "b.jpg").read_bytes()
    assert answer.headers["content-type"] == "image/jpeg"
    assert "derained.jpg" in answer.headers["content-disposition"]


def test_strength_blends_pixels(client, pictures):
    def shown(strength: float) -> np.ndarray:
        answer = client.post(UPLOAD, params={"strength": strength}, content=pictures["png"])
        return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)

    none, half, full = shown(0), shown(0.5), shown(1)
    assert np.array_equal(none, np.asarray(Image.open(io.BytesIO(pictures["png"]))))
    assert np.abs(full - none).max() > 8
    assert np.abs(half - (none + full) / 2).max() <= 1


def test_models_and_limits(client, small_weight):
    told = client.get("/v1/models").json()
    names = [model["name"] for model in told["models"]]
    assert told["default"] == names[0] == small_weight.stem
    assert set(manifest().weights) <= set(names)
    assert told["limits"]["max_pixels"] == SMALL.max_pixels
    assert str(small_weight.parent) not in json.dumps(told)  # no paths of this machine


def test_another_model_by_name_and_back(client, pictures):
    mine = client.post(UPLOAD, content=pictures["png"]).content
    other = client.post(UPLOAD, params={"model": "default"}, content=pictures["png"])
    assert other.status_code == 200
    assert other.content != mine
    assert client.post(UPLOAD, content=pictures["png"]).content == mine


def test_health_metrics_and_description(client, pictures):
    assert client.get("/healthz").json()["status"] == "ok"
    client.post(UPLOAD, content=pictures["png"])
    lines = client.get("/metrics").text.splitlines()
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}
    assert values['derain_requests_total{route="/v1/derain",status="200"}'] >= 1
    assert values['derain_work_seconds_bucket{le="+Inf"}'] == values["derain_work_seconds_count"] >= 1
    assert values["derain_queue_length"] == 0
    describe_network = client.get("/openapi.json").json()
    body = describe_network["paths"]["/v1/derain"]["post"]["requestBody"]["content"]
    assert body.keys() == {"multipart/form-data", "application/octet-stream"}


def test_every_answer_forbids_other_origins(client):
    for path in ("/", "/healthz", "/nothing", "/static/page.js"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


# --- archives -------------------------------------------------------------------------------------


def test_an_archive_comes_back_with_a_report(client, pictures):
    files = {
        "trip/a.jpg": pictures["jpeg"],
        "b.png": pictures["png"],
        "../../evil/b.png": pictures["alpha"],
        "notes.txt": b"no picture",
        "half.png": pictures["png"][:400],
        "__MACOSX/._a.jpg": b"x",
    }
    answer = client.post(BATCH, files={"file": ("x.zip", zipped(files))})
    assert answer.status_code == 200
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert archive.namelist() == ["trip/a.jpg", "b.png", "evil/b.png", "report.json"]
    assert archive.read("trip/a.jpg") == client.post(UPLOAD, content=pictures["jpeg"]).content
    report = {line["input"]: line for line in json.loads(archive.read("report.json"))}
    assert report["notes.txt"]["status"] == 415
    assert report["half.png"]["status"] == 422
    assert report["b.png"]["output"] == "b.png"
    assert all(len(report[bad]["error"]) > 10 for bad in ("notes.txt", "half.png"))


def test_equal_names_after_a_format_change_stay_apart(client, pictures):
    body = zipped({"a.png": pictures["png"], "a.jpg": pictures["jpeg"]})
    answer = client.post(BATCH, params={"format": "webp"}, content=body)
    assert zipfile.ZipFile(io.BytesIO(answer.content)).namelist() == ["a.webp", "a-2.webp", "report.json"]


def bomb_of_zeros() -> bytes:
    return zipped({f"{i}.bmp": bytes(4 * SMALL.max_bytes * 8) for i in range(4)}, compression=zipfile.ZIP_DEFLATED)


def zip_with(place: int, value: bytes) -> bytes:
    """A ZIP whose end record is changed."""
    data = bytearray(zipped({"a.png": b"x"}))
    end = data.rfind(b"PK\5\6")
    data[end + place : end + place + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 415),
        (b"no archive at all", 415),
        (b"PK\5\6" + bytes(18), 422),
        (bomb_of_zeros(), 413),
        (zipped({f"{i}.png": b"x" for i in range(13)}), 413),
        (zipped({f"{i}.png": b"" for i in range(2000)}), 413),
        (zip_with(12, struct.pack("<I", 2**31)), 413),
        (zipped({"folder/": b""}), 422),
        (b"PK\6\7" + bytes(16) + zipped({})[-22:], 422),
    ],
)
def test_archives_that_are_refused_whole(client, body, status):
    answer = client.post(BATCH, content=body)
    assert answer.status_code == status, answer.text
    assert is_kind_refusal(answer)


def test_bad_entries_do_not_stop_the_archive(client, pictures):
    body = bytearray(zipped({"crypt.png": pictures["png"], "rare.png": pictures["png"], "c.png": pictures["png"]}))
    with zipfile.ZipFile(io.BytesIO(bytes(body))) as archive:
        directory = archive.start_dir
    first = directory + 8
    body[first] |= 1  # the first one says that it is encrypted
    second = body.index(b"PK\1\2", directory + 4)
    body[second + 10 : second + 12] = struct.pack("<H", zipfile.ZIP_LZMA)
    answer = client.post(BATCH, content=bytes(body))
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.namelist() == ["c.png", "report.json"]
    assert [line["status"] for line in json.loads(archive.read("report.json"))] == [422, 422, 200]


@given(st.text(max_size=80))
def test_names_stay_inside_the_folder(name):
    made = Path(safe_name(name))
    assert not made.is_absolute()
    assert made.parts
    assert ".." not in made.parts
    assert str(made).isprintable()


# --- limits ---------------------------------------------------------------------------------------


def test_declared_length_is_refused_before_the_body_comes(client):
    sent = 0

    def body():
        nonlocal sent
        for _ in range(50):
            sent += 1
            yield bytes(100_000)

    declared = client.post(UPLOAD, content=b"x", headers={"content-length": "9999999999"})
    assert declared.status_code == 413
    assert client.post(UPLOAD, content=body()).status_code == 413  # chunked: counted as it comes


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(500, 500), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (100_000, 1), (1, 100_000)])
def test_pixels_are_limited_by_the_header(client, size):
    answer = client.post(UPLOAD, content=png_that_claims(*size))
    assert answer.status_code == 413
    assert is_kind_refusal(answer)


def test_the_token_is_asked_for(small_weight, pictures):
    guarded = dataclasses.replace(SMALL, model=str(small_weight), token="secret")
    with TestClient(create_app(guarded)) as client:
        for wrong in (None, "secret", "Bearer", "Bearer wrong", "Basic secret", "Bearer sécret".encode("latin-1")):
            headers = {} if wrong is None else {"authorization": wrong}
            for answer in (
                client.post(UPLOAD, content=pictures["png"], headers=headers),
                client.get("/v1/models", headers=headers),
                client.get("/metrics", headers=headers),
            ):
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        right = {"authorization": "Bearer secret"}
        assert client.post(UPLOAD, content=pictures["png"], headers=right).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_pages_of_other_origins_are_refused(client, pictures):
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        answer = client.post(UPLOAD, content=pictures["png"], headers={"sec-fetch-site": site})
        assert answer.status_code == status


def test_a_full_queue_says_when_to_come_back(small_weight, pictures):
    app = create_app(dataclasses.replace(SMALL, model=str(small_weight), queue=2))
    gate = threading.Event()
    with TestClient(app) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        app.state.engine._pool.submit(gate.wait)  # the one worker is busy
        asked = [pool.submit(client.post, UPLOAD, content=pictures["png"]) for _ in range(2)]
        wait_until(lambda: app.state.engine.waiting == 2)
        refused = client.post(UPLOAD, content=pictures["png"])
        gate.set()
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert [request.result().status_code for request in asked] == [200, 200]
        assert app.state.engine.waiting == app.state.engine.working == 0
        assert app.state.memory.held == 0


def test_pictures_of_equal_size_go_through_the_network_together(client, small_weight, pictures):
    alone = client.post(UPLOAD, content=pictures["png"]).content
    app = create_app(dataclasses.replace(SMALL, model=str(small_weight), batch=4))
    gate, sizes = threading.Event(), []
    with TestClient(app) as other, concurrent.futures.ThreadPoolExecutor(4) as pool:
        gathering = app.state.engine._loaded[1].runtime
        inner = gathering.inner

        def slow(batch):
            sizes.append(len(batch))
            gate.wait(20)
            return inner(batch)

        gathering.inner = slow
        asked = [pool.submit(other.post, UPLOAD, content=pictures["png"]) for _ in range(4)]
        wait_until(lambda: sizes and sum(map(len, gathering._open.values())) == 3)
        gate.set()
        for request in asked:  # a batch may round otherwise than one picture
            answer = np.asarray(Image.open(io.BytesIO(request.result().content)), np.int16)
            assert np.abs(answer - np.asarray(Image.open(io.BytesIO(alone)))).max() <= 1
        assert sizes == [1, 3]
        assert app.state.engine.working == 0


def test_waiting_too_long_is_503_and_the_place_is_given_back(small_weight, pictures):
    app = create_app(dataclasses.replace(SMALL, model=str(small_weight), timeout=0.2))
    gate = threading.Event()
    with TestClient(app) as client:
        app.state.engine._pool.submit(gate.wait)
        answer = client.post(UPLOAD, content=pictures["png"])
        gate.set()
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        wait_until(lambda: app.state.engine.waiting == 0)
    assert app.state.memory.held == 0


def test_working_too_long_is_504_and_stops_at_the_next_tile(small_weight, photo, monkeypatch):
    app = create_app(dataclasses.replace(SMALL, model=str(small_weight), timeout=0.3, tile=192))
    body = io.BytesIO()
    Image.fromarray(photo).save(body, "PNG")
    with TestClient(app) as client:
        engine = app.state.engine
        runtime = engine._loaded[1].runtime
        tiles = []

        def slow(batch):
            tiles.append(1)
            time.sleep(0.2)
            return runtime(batch)

        slow.device = runtime.device
        engine._loaded[1].runtime = slow
        assert client.post(UPLOAD, content=body.getvalue()).status_code == 504
        wait_until(lambda: engine.working == 0)
        assert len(tiles) < 4  # of 2 × 4


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


# --- clients that mean harm -----------------------------------------------------------------------


def hostile_bodies() -> list[bytes]:
    """Made by hand: 60 bodies that are no good picture."""
    rng = random.Random(0)
    tiff = b"II*\0" + struct.pack("<I", 8)
    many_pages = tiff + b"".join(struct.pack("<HI", 0, 8 + 6 * (i + 1)) for i in range(5000))
    text_bomb = bytearray(png_that_claims(8, 8))
    squeezed = b"k\0\0" + zlib.compress(bytes(30_000_000))
    ztxt = struct.pack(">I", len(squeezed)) + b"zTXt" + squeezed + struct.pack(">I", zlib.crc32(b"zTXt" + squeezed))
    text_bomb[33:33] = ztxt
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


def test_bodies_made_by_hand_are_refused(client):
    bodies = hostile_bodies()
    assert len(bodies) == 60
    for body in bodies:
        answer = client.post(UPLOAD, content=body)
        assert is_kind_refusal(answer), (body[:60], answer.status_code, answer.text)


def test_cut_off_pictures_are_refused(client, pictures):
    for name, data in pictures.items():
        for share in (0.05, 0.3, 0.6):
            answer = client.post(UPLOAD, content=data[: int(len(data) * share)])
            assert is_kind_refusal(answer), (name, share, answer.status_code, answer.text[:100])


@pytest.fixture(scope="module")
def seeds(pictures) -> list[bytes]:
    return list(pictures.values())


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_pictures_never_hurt_the_server(client, seeds, data):
    body = bytearray(data.draw(st.sampled_from(seeds)))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8)
    ):
        body[place % len(body)] = value
    answer = client.post(UPLOAD, content=bytes(body))
    assert answer.status_code == 200 or is_kind_refusal(answer), answer.text


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from(
        [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=x",
            'multipart/form-data; boundary="x',
            "multipart/form-data; boundary=" + 300 * "y",
            "multipart/form-data; boundary=x; boundary=y",
            "image/png; charset=\x7f",
            ";;;=",
            "text/html",
        ]
    ),
    framed=st.booleans(),
)
def test_broken_forms_are_refused(client, body, kind, framed):
    if framed:
        body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + body
    answer = client.post(UPLOAD, content=body, headers={"content-type": kind})
    assert is_kind_refusal(answer), answer.text


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_archives_never_hurt_the_server(client, pictures, data):
    body = bytearray(zipped({"a.png": pictures["deep"], "b.txt": b"x" * 50}))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, 320), st.integers(0, 255)), min_size=1, max_size=6)
    ):
        body[-1 - place % len(body)] = value
    answer = client.post(BATCH, content=bytes(body))
    assert answer.status_code == 200 or is_kind_refusal(answer), answer.text
    if answer.status_code == 200:
        assert zipfile.ZipFile(io.BytesIO(answer.content)).namelist()[-1] == "report.json"


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
def test_wrong_parameters_are_refused(client, pictures, query):
    for path in (UPLOAD, BATCH):
        assert is_kind_refusal(client.post(f"{path}?{query}", content=pictures["png"]))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", UPLOAD),
        ("DELETE", UPLOAD),
        ("POST", "/"),
        ("GET", "/static/../app.py"),
        ("GET", "/static/%2e%2e/app.py"),
        ("GET", "/static/..%2f..%2f..%2fetc/passwd"),
        ("GET", "/static//etc/passwd"),
        ("GET", "/static/"),
        ("GET", "/docs"),
        ("GET", "/%00"),
    ],
)
def test_wrong_paths_and_methods_are_refused(client, method, path):
    assert is_kind_refusal(client.request(method, path))


def test_forms_without_one_file_are_refused(client, pictures):
    two = [("file", ("a.png", pictures["png"])), ("file", ("b.png", pictures["png"]))]
    many = [("x", (f"{i}", b"x")) for i in range(30)]
    for files in (two, many, [("other", ("a.png", pictures["png"]))]):
        assert is_kind_refusal(client.post(UPLOAD, files=files))


def test_results_that_a_format_cannot_hold_are_refused(client):
    buffer = io.BytesIO()
    Image.new("RGB", (17_000, 2)).save(buffer, "PNG")  # WebP ends at 16383
    answer = client.post(UPLOAD, params={"format": "webp", "strength": 0}, content=buffer.getvalue())
    assert answer.status_code == 422
    assert is_kind_refusal(answer)


# --- a real process -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served(small_weight):
    """The port of a real ``derain serve``, and its process."""
    port = free_port()
    words = [sys.executable, "-m", "derain", "serve", "--port", port, "--model", small_weight, "--max-bytes", 600_000]
    process = subprocess.Popen([str(w) for w in words], stderr=subprocess.PIPE, env={**os.environ, "DERAIN_TOKEN": ""})
    try:
        wait_until(lambda: process.poll() is not None or answers(port), 60)
        yield port, process
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        return b" 200 " in talk(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    except OSError:
        return False


def talk(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(request)
        heard = b""
        while piece := line.recv(65_536):
            heard += piece
            if b"\r\n\r\n" in heard and b"Connection: close" not in request:
                break
        return heard


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nX: " + 200_000 * b"a" + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n",
        b"POST /v1/derain HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/derain HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /v1/derain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/derain HTTP/1.1\r\nHost: x\r\nContent-Length: 700000\r\n\r\nstart",
        b"nonsense\r\n\r\n",
    ],
)
def test_broken_http_is_refused(served, request_bytes):
    head = talk(served[0], request_bytes).split(b"\r\n", 1)[0]
    assert head.split()[1][:1] == b"4", head
    assert answers(served[0])


def test_a_client_that_leaves_costs_nothing(served, photo):
    port, _ = served
    body = io.BytesIO()
    Image.fromarray(photo).save(body, "PNG")
    head = f"POST /v1/derain HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body.getvalue())}\r\n\r\n".encode()
    for share in (0.5, 1.0):
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(head + body.getvalue()[: int(len(body.getvalue()) * share)])
    wait_until(lambda: b"derain_queue_length 0\n" in (text := talk(port, METRICS)) and b"in_work 0\n" in text)
    assert b'status="499"' in talk(port, METRICS)


def test_an_archive_whose_client_leaves_gives_its_place_back(served, pictures):
    port, _ = served
    body = zipped({f"{i}.png": pictures["png"] for i in range(100)})
    head = f"POST /v1/derain/batch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(3):  # more than may run at a time
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.sendall(head + body)
            assert b" 200 OK" in line.recv(100)
        wait_until(lambda: b"in_work 0\n" in talk(port, METRICS))
        time.sleep(0.1)
        assert b"in_work 0\n" in talk(port, METRICS)


def test_a_signal_lets_the_picture_at_hand_finish(served, photo):
    port, process = served
    body = io.BytesIO()
    Image.fromarray(photo).save(body, "PNG")
    head = f"POST /v1/derain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body.getvalue())}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(head.encode() + body.getvalue())
        process.send_signal(signal.SIGTERM)
        heard = b""
        while piece := line.recv(65_536):
            heard += piece
    assert b" 200 OK" in heard[:20]
    assert Image.open(io.BytesIO(heard.split(b"\r\n\r\n", 1)[1])).size == (300, 200)
    assert process.wait(timeout=60) in (0, -signal.SIGTERM)  # uvicorn ends by the signal that it got


def test_a_slow_client_is_told_so(small_weight):
    app = create_app(dataclasses.replace(SMALL, model=str(small_weight), upload_seconds=0.1))
    sent: list[dict] = []

    async def scenario() -> None:
        async def receive() -> dict:
            if not sent:
                await asyncio.sleep(0.04)
                return {"type": "http.request", "body": b"x", "more_body": True}
            return {"type": "http.disconnect"}

        async def send(message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": UPLOAD,
            "raw_path": UPLOAD.encode(),
            "query_string": b"",
            "headers": [],
            "scheme": "http",
            "server": ("x", 80),
            "client": ("x", 1),
        }
        await app(scope, receive, send)

    asyncio.run(scenario())
    assert sent[0]["status"] == 408


def test_a_missing_extra_is_told_in_one_line(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = command("serve")
    assert code == 1
    assert err.strip().endswith("pip install 'derain[server]'")
    assert len(err.strip().splitlines()) == 1


def test_an_unknown_model_is_told_before_serving(command):
    code, _, err = command("serve", "--model", "nonsense")
    assert code == 1
    assert "unknown model" in err
