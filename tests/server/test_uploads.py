"""Reading uploads: size and time limits, raw bodies and forms."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derain.server.app import create_app
from derain.server.errors import RequestRejected
from derain.server.uploads import UploadMemory
from support.server import UPLOAD, is_client_error, small_settings


def test_a_large_body_is_rejected_by_its_declared_length_and_by_counting(client):
    def body():
        for _ in range(50):
            yield bytes(100_000)

    declared = client.post(UPLOAD, content=b"x", headers={"content-length": "9999999999"})
    assert declared.status_code == 413
    assert client.post(UPLOAD, content=body()).status_code == 413  # chunked, without a declared length


def test_forms_without_exactly_one_file_are_rejected(client, image_files):
    two = [("file", ("a.png", image_files["png"])), ("file", ("b.png", image_files["png"]))]
    many = [("x", (f"{i}", b"x")) for i in range(30)]
    for files in (two, many, [("other", ("a.png", image_files["png"]))]):
        assert is_client_error(client.post(UPLOAD, files=files))


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(
    body=st.binary(max_size=300),
    content_type=st.sampled_from(
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
def test_broken_forms_are_rejected(client, body, content_type, framed):
    if framed:
        body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + body
    response = client.post(UPLOAD, content=body, headers={"content-type": content_type})
    assert is_client_error(response), response.text


def test_upload_memory_is_limited_and_released():
    memory = UploadMemory(10)
    with memory.reservation() as reserve:
        reserve(6)
        with memory.reservation() as other, pytest.raises(RequestRejected) as rejection:
            other(5)
        assert rejection.value.status == 429
        assert rejection.value.headers["Retry-After"]
        assert memory.used == 6
        reserve(4)
    assert memory.used == 0


def test_a_slow_upload_gets_408(small_weight):
    app = create_app(small_settings(small_weight, upload_seconds=0.1))
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
