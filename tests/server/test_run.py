"""``derain serve``: the port, the line that says where it serves, the browser, the token."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import webbrowser

import pytest

pytest.importorskip("fastapi", reason="the extra derain[server] is not installed")
from derain.errors import DerainError
from derain.server import run


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    with socket.socket(family) as probe:
        probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return int(probe.getsockname()[1])


def has_ipv6() -> bool:
    try:
        free_port(socket.AF_INET6)
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "page"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("::1", "http://[::1]:80/"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:80/"),
        ("localhost", "http://localhost:80/"),
    ],
)
def test_addresses_of_the_page(host, page):
    """RFC 3986, section 3.2.2, and RFC 6874 for zones."""
    assert run.url(host, 80) == run.local_url(host, 80) == page


def test_a_browser_here_cannot_open_all_interfaces():
    assert (run.url("0.0.0.0", 80), run.local_url("0.0.0.0", 80)) == ("http://0.0.0.0:80/", "http://127.0.0.1:80/")
    assert (run.url("::", 80), run.local_url("::", 80)) == ("http://[::]:80/", "http://[::1]:80/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1"])
def test_a_taken_port_is_one_line(host):
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6 here")
    port = free_port()
    listening = run.bind(host, port)
    with pytest.raises(DerainError, match=rf"cannot listen on .*:{port}/ .*choose another") as caught:
        run.bind(host, port)
    assert "\n" not in str(caught.value)
    for bound in listening:
        bound.close()
    for again in run.bind(host, port):
        again.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70, "192.0.2.1", "a..b"])
def test_a_host_that_is_not_here_is_one_line(host):
    with pytest.raises(DerainError, match=r"is not an address of this computer|cannot listen on"):
        run.bind(host, free_port())


def test_a_missing_address_family_is_left_out(monkeypatch):
    """``localhost`` is ::1 too where IPv6 is switched off."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]

    class NoIPv6(socket.socket):
        def bind(self, address):
            if self.family == socket.AF_INET6:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            super().bind(address)

    monkeypatch.setattr(run.socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(run.socket, "socket", NoIPv6)
    (bound,) = run.bind("localhost", 0)
    assert bound.family == socket.AF_INET
    bound.close()


@pytest.fixture
def ready(monkeypatch):
    """Commands that would serve forever are ready at once; the pages that were opened."""
    opened: list[str] = []
    monkeypatch.delenv("DERAIN_TOKEN", raising=False)
    monkeypatch.setattr(run, "run", lambda *_, on_ready, **__: on_ready())
    monkeypatch.setattr(webbrowser, "open", lambda page: opened.append(page) or "none" not in page)
    monkeypatch.setenv("DERAIN_SERVE_SETTINGS", "{}")
    return opened


def test_the_browser_is_opened_when_asked(command, small_weight, ready):
    words = ("serve", "--model", small_weight, "--port", 8123)
    assert command(*words)[0] == 0
    assert ready == []
    code, _, err = command(*words, "--open", "--host", "::")
    assert (code, ready) == (0, ["http://[::1]:8123/"])
    assert "derain serves at http://[::]:8123/  (Ctrl-C stops)\n" in err
    code, _, err = command(*words, "--open", "--host", "none")
    assert (code, "no browser was found; open http://none:8123/" in err) == (0, True)


@pytest.mark.parametrize("token", ["", "  ", "sécret"])
def test_a_token_that_protects_nothing_is_refused(command, small_weight, ready, monkeypatch, token):
    """An empty variable, as of a secret that is missing, must not open the server to all."""
    monkeypatch.setenv("DERAIN_TOKEN", token)
    code, _, err = command("serve", "--model", small_weight)
    assert (code, "DERAIN_TOKEN" in err, "serves at" in err) == (1, True, False)
    assert len(err.strip().splitlines()) == 1
    assert command("serve", "--model", small_weight, "--token", "")[0] == 1
    assert command("serve", "--model", small_weight, "--token", "good")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_line_appears_when_the_port_is_open(small_weight, workers):
    port = free_port()
    words = [sys.executable, "-m", "derain", "serve", "--model", small_weight, "--port", port, "--workers", workers]
    environment = {name: value for name, value in os.environ.items() if name != "DERAIN_TOKEN"}
    with subprocess.Popen([*map(str, words)], stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "serves at" in line)
            assert line == f"derain serves at http://127.0.0.1:{port}/  (Ctrl-C stops)\n"
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
        finally:
            process.terminate()
            process.wait(60)
