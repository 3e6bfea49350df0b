"""How the server says no."""

from __future__ import annotations


class RequestRejected(Exception):  # noqa: N818  (not always an error: busy, too large)
    """A request that is not served; becomes a response with one line of JSON.

    Args:
        status: HTTP status.
        message: what is wrong and how to mend it, one line.
        headers: further headers of the response, such as ``Retry-After``.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = " ".join(message.split())
        self.headers = headers or {}


class ClientDisconnected(Exception):  # noqa: N818
    """The client closed its connection; nobody waits for an answer."""
