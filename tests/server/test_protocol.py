"""Clients that close their half of the connection, and clients that are gone."""

from __future__ import annotations

import io
import socket
import threading
import time

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra derain[server] is not installed")
import uvicorn

from derain.server import protocol
from derain.server.app import create_app
from support.server import small_settings, wait_until


@pytest.fixture(scope="module")
def served(small_weight):
    """The port and the engine of a server in a thread of this process."""
    app = create_app(small_settings(small_weight))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=protocol.HalfCloseProtocol, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    yield listener.getsockname()[1], app.state.server.engine
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def busy(served):
    """The engine's only thread waits until the event is set."""
    gate = threading.Event()
    served[1]._pool.submit(gate.wait)
    yield gate
    gate.set()
    wait_until(lambda: served[1].waiting == served[1].working == 0)


def upload(data: bytes, version: str = "1.1") -> bytes:
    return f"POST /v1/derain HTTP/{version}\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


def body_of(response: bytes) -> Image.Image:
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK"), response[:200]
    return Image.open(io.BytesIO(body))


def half_closed(port: int, request: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(request)
    connection.shutdown(socket.SHUT_WR)
    return connection


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_half_closed_request_is_answered(served, method):
    with half_closed(served[0], f"{method} /healthz HTTP/1.1\r\nHost: x\r\n\r\n".encode()) as connection:
        start = time.monotonic()
        response = read_all(connection)
    assert response.startswith(b"HTTP/1.1 200 OK")
    assert response.endswith(b"}") == (method == "GET")
    assert time.monotonic() - start < 3, "the connection must end with the response, not with the keep-alive time"


def test_a_half_closed_upload_is_answered(served, image_files):
    with half_closed(served[0], upload(image_files["png"])) as connection:
        assert body_of(read_all(connection)).size == (80, 64)


def test_requests_sent_together_are_all_answered(served):
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with half_closed(served[0], 3 * request) as connection:
        assert read_all(connection).count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_half_closed_upload_that_waits_long_is_answered(served, busy, image_files, monkeypatch, version):
    """HTTP/1.1 clients get interim responses meanwhile; HTTP/1.0 has none."""
    monkeypatch.setattr(protocol, "PROBE_SECONDS", (0.05, 0.05, 0.05))
    with half_closed(served[0], upload(image_files["png"], version)) as connection:
        wait_until(lambda: served[1].waiting == 1)
        time.sleep(0.4)
        busy.set()
        response = read_all(connection)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert response.count(interim) == (3 if version == "1.1" else 0)
    assert body_of(response.removeprefix(3 * interim if version == "1.1" else b"")).size == (80, 64)


def test_a_client_that_is_gone_loses_its_place(served, busy, image_files, monkeypatch):
    """Its end looks the same at first."""
    monkeypatch.setattr(protocol, "PROBE_SECONDS", (0.1, 0.1, 0.1))
    before = served[1].metrics.cancelled._value.get()
    with socket.create_connection(("127.0.0.1", served[0]), timeout=20) as connection:
        connection.sendall(upload(image_files["png"]))
        wait_until(lambda: served[1].waiting == 1)
    wait_until(lambda: served[1].waiting == 0, 5)
    assert served[1].metrics.cancelled._value.get() == before + 1


def test_a_truncated_request_is_dropped(served, image_files):
    with half_closed(served[0], upload(image_files["png"])[:-10]) as connection:
        assert read_all(connection) == b""
    with half_closed(served[0], b"GET /healthz HT") as connection:
        assert read_all(connection) == b""
