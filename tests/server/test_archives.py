"""``POST /v1/derain/batch``: a ZIP in, a ZIP with a report out."""

from __future__ import annotations

import io
import json
import stat
import struct
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derain.server import archives
from derain.server.archives import safe_name
from support.server import BATCH, MAX_BYTES, UPLOAD, is_client_error, zipped


def test_response_has_the_images_and_a_report(client, image_files):
    files = {
        "trip/a.jpg": image_files["jpeg"],
        "b.png": image_files["png"],
        "../../evil/b.png": image_files["alpha"],
        "notes.txt": b"not an image",
        "half.png": image_files["png"][:400],
        "__MACOSX/._a.jpg": b"x",
    }
    response = client.post(BATCH, files={"file": ("x.zip", zipped(files))})
    assert response.status_code == 200
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    assert archive.namelist() == ["trip/a.jpg", "b.png", "evil/b.png", "report.json"]
    assert archive.read("trip/a.jpg") == client.post(UPLOAD, content=image_files["jpeg"]).content
    report = {line["input"]: line for line in json.loads(archive.read("report.json"))}
    assert report["notes.txt"]["status"] == 415
    assert report["half.png"]["status"] == 422
    assert report["b.png"]["output"] == "b.png"
    assert all(len(report[bad]["error"]) > 10 for bad in ("notes.txt", "half.png"))


def test_entries_have_the_present_time_and_are_readable_by_all(client, image_files):
    before = time.localtime(time.time() - 2)[:6]  # ZIP counts in steps of two seconds
    response = client.post(BATCH, content=zipped({"a.png": image_files["png"]}))
    entries = zipfile.ZipFile(io.BytesIO(response.content)).infolist()
    assert [entry.filename for entry in entries] == ["a.png", "report.json"]
    for entry in entries:
        assert before <= entry.date_time <= time.localtime()[:6]
        assert stat.filemode(entry.external_attr >> 16) == "-rw-r--r--"
        assert entry.create_system == 3  # Unix, or the mode would not count


def test_a_clock_before_zip_is_no_error(client, image_files, monkeypatch):
    """Small computers without a clock of their own begin in 1970."""
    body = zipped({"a.png": image_files["png"]})
    monkeypatch.setattr(archives.time, "localtime", lambda *_: time.gmtime(0))
    response = client.post(BATCH, content=body)
    entries = zipfile.ZipFile(io.BytesIO(response.content)).infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_equal_names_after_a_format_change_are_numbered(client, image_files):
    body = zipped({"a.png": image_files["png"], "a.jpg": image_files["jpeg"]})
    response = client.post(BATCH, params={"format": "webp"}, content=body)
    assert zipfile.ZipFile(io.BytesIO(response.content)).namelist() == ["a.webp", "a-2.webp", "report.json"]


def bomb_of_zeros() -> bytes:
    return zipped({f"{i}.bmp": bytes(4 * MAX_BYTES * 8) for i in range(4)}, compression=zipfile.ZIP_DEFLATED)


def zip_with(position: int, value: bytes) -> bytes:
    """A ZIP with a changed end record."""
    data = bytearray(zipped({"a.png": b"x"}))
    end = data.rfind(b"PK\5\6")
    data[end + position : end + position + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 415),
        (b"not an archive", 415),
        (b"PK\5\6" + bytes(18), 422),
        (bomb_of_zeros(), 413),
        (zipped({f"{i}.png": b"x" for i in range(13)}), 413),
        (zipped({f"{i}.png": b"" for i in range(2000)}), 413),
        (zip_with(12, struct.pack("<I", 2**31)), 413),
        (zipped({"folder/": b""}), 422),
        (b"PK\6\7" + bytes(16) + zipped({})[-22:], 422),
    ],
)
def test_archives_that_are_rejected(client, body, status):
    response = client.post(BATCH, content=body)
    assert response.status_code == status, response.text
    assert is_client_error(response)


def test_bad_entries_do_not_stop_the_others(client, image_files):
    png = image_files["png"]
    body = bytearray(zipped({"encrypted.png": png, "rare.png": png, "c.png": png}))
    with zipfile.ZipFile(io.BytesIO(bytes(body))) as archive:
        directory = archive.start_dir
    first = directory + 8
    body[first] |= 1  # the first entry is marked as encrypted
    second = body.index(b"PK\1\2", directory + 4)
    body[second + 10 : second + 12] = struct.pack("<H", zipfile.ZIP_LZMA)
    response = client.post(BATCH, content=bytes(body))
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.namelist() == ["c.png", "report.json"]
    assert [line["status"] for line in json.loads(archive.read("report.json"))] == [422, 422, 200]


@given(st.text(max_size=80))
def test_safe_names_stay_inside_the_folder(name):
    path = Path(safe_name(name))
    assert not path.is_absolute()
    assert path.parts
    assert ".." not in path.parts
    assert str(path).isprintable()


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_archives_never_cause_a_server_error(client, image_files, data):
    body = bytearray(zipped({"a.png": image_files["16-bit-png"], "b.txt": b"x" * 50}))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, 320), st.integers(0, 255)), min_size=1, max_size=6)
    ):
        body[-1 - position % len(body)] = value
    response = client.post(BATCH, content=bytes(body))
    assert response.status_code == 200 or is_client_error(response), response.text
    if response.status_code == 200:
        assert zipfile.ZipFile(io.BytesIO(response.content)).namelist()[-1] == "report.json"
