"""HTTP/1.1 for clients that close their half of the connection after the request."""

from __future__ import annotations

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds from the end of what a client sends to the first probe, from that to the second, and so on.
PROBE_SECONDS = (2.0, 1.0, 9.0, 18.0, 30.0)


class HalfCloseProtocol(H11Protocol):
    """uvicorn's protocol, except that the end of what a client sends is not yet the end of the connection.

    A client that has sent all of its request may close its sending side and wait (``nc -N``, ``shutdown``). From here
    that looks like a client that has gone. What tells them apart is the reply to further bytes: who has gone sends a
    reset. So while a request is processed, interim responses are sent (``100 Continue``, which every client of
    HTTP/1.1 skips; RFC 9110, section 15.2), at most five. The second one fails if the client has gone.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._half_closed = False

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection for the response if the request is complete; asyncio closes it otherwise."""
        if self.cycle is None or self.cycle.more_body or self.cycle.response_complete:
            return False
        if not self._half_closed:
            self._half_closed = True
            self.loop.call_later(PROBE_SECONDS[0], self._probe, 1)
        return True

    def on_response_complete(self) -> None:
        """Close the connection after the last response."""
        super().on_response_complete()  # begins the next request, if it was sent together with this one
        if self._half_closed and self.cycle.response_complete:
            self.transport.close()

    def _probe(self, number: int) -> None:
        """Send bytes that only a client that has gone replies to; a write that fails ends the connection."""
        waiting = self.conn.our_state is h11.SEND_RESPONSE and not self.cycle.response_started
        if self.transport.is_closing() or not waiting or self.cycle.scope["http_version"] == "1.0":
            return  # a response that has begun is probe enough, and HTTP/1.0 has no interim responses
        interim = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
        self.transport.write(self.conn.send(interim) or b"")
        if number < len(PROBE_SECONDS):
            self.loop.call_later(PROBE_SECONDS[number], self._probe, number + 1)
