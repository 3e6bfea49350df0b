"""The application as a whole: wrong requests, errors, and a real ``derain serve`` process."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from derain.server.app import create_app
from support.server import MAX_BYTES, UPLOAD, is_client_error, small_settings, wait_until, zipped

METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


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
def test_wrong_paths_and_methods_are_rejected(client, method, path):
    assert is_client_error(client.request(method, path))


def test_an_internal_error_is_logged_and_hidden(small_weight, image_files, monkeypatch, caplog):
    app = create_app(small_settings(small_weight))
    with TestClient(app) as client:
        monkeypatch.setattr(app.state.server.engine, "reject_if_full", lambda: 1 / 0)
        response = client.post(UPLOAD, content=image_files["png"])
        assert response.status_code == 500
        assert "ZeroDivisionError" not in response.text
        assert "\n" not in response.json()["error"]
        assert "ZeroDivisionError" in caplog.text
        assert 'derain_requests_total{route="/v1/derain",status="500"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    "path", ["/", "/static/page.js", "/healthz", "/metrics", "/v1/models", "/openapi.json", "/v1/jobs/x", UPLOAD, "/no"]
)
def test_head_is_answered_as_get_without_a_body(client, path):
    """RFC 9110, section 9.3.2."""
    get, head = client.get(path), client.head(path)
    assert get.content
    assert (head.status_code, head.content) == (get.status_code, b"")
    same = ("content-type", "content-length", "etag", "allow", "cache-control", "content-security-policy")
    if path == "/metrics":  # its numbers have changed
        same = ("content-type",)
    assert {name: head.headers.get(name) for name in same} == {name: get.headers.get(name) for name in same}


def test_head_is_counted_under_its_route(client):
    def count() -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(next(x for x in lines if 'route="/healthz",status="200"' in x).rpartition(" ")[2])

    client.head("/healthz")
    before = count()
    client.head("/healthz")
    assert count() == before + 1


def test_static_files_are_revalidated(client):
    for path in ("/", "/static/page.js"):
        response = client.get(path)
        assert response.headers["cache-control"] == "no-cache"
        assert client.get(path, headers={"if-none-match": response.headers["etag"]}).status_code in (200, 304)


# --- a real process -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served(small_weight):
    """The port of a real ``derain serve``, and its process."""
    port = free_port()
    words = [sys.executable, "-m", "derain", "serve", "--port", port, "--model", small_weight, "--max-bytes", MAX_BYTES]
    environment = {name: value for name, value in os.environ.items() if name != "DERAIN_TOKEN"}
    process = subprocess.Popen([str(w) for w in words], stderr=subprocess.PIPE, env=environment)
    try:
        assert process.stderr is not None
        assert any(b"derain serves at" in line for line in process.stderr)
        with socket.create_connection(("127.0.0.1", port), timeout=20):  # without waiting
            pass
        yield port, process
    finally:
        process.kill()
        process.wait()


def is_alive(port: int) -> bool:
    try:
        return b" 200 " in exchange(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    except OSError:
        return False


def is_idle(port: int) -> bool:
    text = exchange(port, METRICS)
    return b"derain_queue_length 0.0\n" in text and b"derain_pictures_in_work 0.0\n" in text


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
            if b"\r\n\r\n" in received and b"Connection: close" not in request:
                break
        return received


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
def test_broken_http_is_rejected(served, request_bytes):
    head = exchange(served[0], request_bytes).split(b"\r\n", 1)[0]
    assert head.split()[1][:1] == b"4", head
    assert is_alive(served[0])


def test_a_client_that_disconnects_costs_nothing(served, photo):
    port, _ = served
    body = io.BytesIO()
    Image.fromarray(photo).save(body, "PNG")
    head = f"POST /v1/derain HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body.getvalue())}\r\n\r\n".encode()
    for share in (0.5, 1.0):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head + body.getvalue()[: int(len(body.getvalue()) * share)])
    wait_until(lambda: is_idle(port))
    assert b'status="499"' in exchange(port, METRICS)


def test_an_archive_whose_client_disconnects_frees_its_slot(served, image_files):
    port, _ = served
    body = zipped({f"{i}.png": image_files["png"] for i in range(100)})
    head = f"POST /v1/derain/batch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(3):  # more than may run at a time
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(head + body)
            assert b" 200 OK" in connection.recv(100)
        wait_until(lambda: is_idle(port))
        time.sleep(0.1)
        assert is_idle(port)


def test_a_signal_lets_the_current_image_finish(served, photo):
    port, process = served
    body = io.BytesIO()
    Image.fromarray(photo).save(body, "PNG")
    head = f"POST /v1/derain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body.getvalue())}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode() + body.getvalue())
        process.send_signal(signal.SIGTERM)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    assert b" 200 OK" in received[:20]
    assert Image.open(io.BytesIO(received.split(b"\r\n\r\n", 1)[1])).size == (300, 200)
    assert process.wait(timeout=60) in (0, -signal.SIGTERM)  # uvicorn ends by the signal that it received


def test_a_missing_extra_is_reported_in_one_line(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = command("serve")
    assert code == 1
    assert err.strip().endswith("pip install 'derain[server]'")
    assert len(err.strip().splitlines()) == 1


def test_an_unknown_model_is_reported_before_serving(command):
    code, _, err = command("serve", "--model", "nonsense")
    assert code == 1
    assert "unknown model" in err
