"""The server process: its port, the line that says where it serves, and the workers."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from derain.errors import DerainError

from .protocol import HalfCloseProtocol

_APP = "derain.server.app:create_app"
#: ``localhost`` has two addresses also where IPv6 is switched off.
_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # all interfaces, and how to reach them from here


def run(host: str, port: int, *, workers: int, timeout: float, on_ready: Callable[[], object]) -> None:
    """Serve until a signal arrives, with the settings of the environment.

    Args:
        host: name or address to listen on.
        port: number of the port.
        workers: number of processes.
        timeout: seconds that accepted requests get to finish when the server stops.
        on_ready: called in a thread as soon as requests are answered.

    Raises:
        DerainError: the address cannot be used.
        SystemExit: the server did not start.
    """
    sockets = bind(host, port)
    options: dict[str, Any] = {
        "factory": True,
        "host": host,
        "port": port,
        "workers": workers,
        "http": HalfCloseProtocol,  # on h11, which limits the size of a request's headers
        "ws": "none",
        "server_header": False,
        "timeout_graceful_shutdown": int(timeout) + 1,
    }
    if workers > 1:
        for bound in sockets:
            bound.close()
        threading.Thread(target=_wait_until_ready, args=(host, port, on_ready), daemon=True).start()
        uvicorn.run(_APP, **options)  # the supervisor of the workers binds the port again
        return
    server = _Server(uvicorn.Config(_APP, **options), on_ready)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets)
    if not server.started:
        sys.exit(3)  # as uvicorn.run


class _Server(uvicorn.Server):
    """The server of one process."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            threading.Thread(target=self._on_ready, daemon=True).start()


def url(host: str, port: int) -> str:
    """The address of the page; IPv6 addresses are in brackets (RFC 3986, section 3.2.2)."""
    name = f"[{host.replace('%', '%25')}]" if ":" in host else host
    return f"http://{name}:{port}/"


def local_url(host: str, port: int) -> str:
    """The address of the page for a browser on this computer."""
    return url(_ANY.get(host, host), port)


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on all addresses of a host.

    At once, not when the models are loaded: two sockets that do not listen yet may have the same port on Linux, and the
    second server would fail after its start. Clients that are early wait.

    Raises:
        DerainError: the host is unknown, or the port is taken.
    """
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a name of a host"
        raise DerainError(f"--host {host!r} is not an address of this computer ({reason}); use 127.0.0.1") from None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        bound: socket.socket | None = None
        try:
            bound = socket.socket(family, kind, protocol)
            if os.name == "posix":  # a port whose last connections are still closing; on Windows it would be shared
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind(address)
            bound.listen()
        except OSError as error:
            if bound is not None:
                bound.close()
            failure = error
            if error.errno not in _NO_SUCH_FAMILY:
                break
        else:
            sockets.append(bound)
    if failure is not None and not (sockets and failure.errno in _NO_SUCH_FAMILY):
        for one in sockets:
            one.close()
        raise DerainError(f"cannot listen on {url(host, port)} ({failure.strerror}); choose another --port or --host")
    return sockets


def _wait_until_ready(host: str, port: int, on_ready: Callable[[], object]) -> None:
    """Call a function once a worker accepts connections, which is when its model is loaded."""
    while True:
        try:
            socket.create_connection((_ANY.get(host, host), port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            on_ready()
            return
