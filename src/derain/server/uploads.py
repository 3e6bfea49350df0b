"""How a client's bytes come in: counted while they arrive, never under a name that the client chose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from .errors import ClientDisconnected, RequestRejected

_MAX_PARTS = 16
_ENVELOPE = 64 * 1024  # of multipart: boundaries, headers, small fields

Sink = Callable[[bytes], object]


class Memory:
    """How many bytes of pictures may be held at one time, by all clients together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes bytes of memory for one request; given back at the end.

        Raises (the function):
            Refusal: 429, there is no memory left.
        """
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            if self.held + count > self.limit:
                raise RequestRejected(429, "the server is busy; try again in 5 s", {"Retry-After": "5"})
            self.held += count
            mine += count

        try:
            yield take
        finally:
            self.held -= mine


async def read_upload(request: Request, sink: Sink, *, limit: int, seconds: float) -> None:
    """Give the bytes of the uploaded file to ``sink``: the raw body, or the multipart field ``file``.

    Args:
        request: not read yet.
        sink: takes the bytes as they come.
        limit: most bytes of the file.
        seconds: most time for all of it.

    Raises:
        Refusal: 400 broken multipart, 408 too slow, 413 too large, 422 no file in it.
        ClientDisconnected: the connection was closed.
    """
    declared = request.headers.get("content-length", "")
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    multipart = kind == b"multipart/form-data"
    ceiling = limit + (_ENVELOPE if multipart else 0)
    too_large = RequestRejected(413, f"the upload is larger than {limit / 2**20:.4g} MiB; reduce it first")
    # isdecimal alone would let through digits of other scripts and numbers too long for int().
    if declared.isascii() and declared.isdecimal() and (len(declared) > 18 or int(declared) > ceiling):
        raise too_large
    counted = 0

    def limited(data: bytes) -> None:
        nonlocal counted
        counted += len(data)
        if counted > limit:
            raise too_large
        sink(data)

    form = _Form(options.get(b"boundary", b""), limited) if multipart else None

    async def read() -> None:
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > ceiling:
                raise too_large
            if form is None:
                limited(chunk)
            else:
                form.write(chunk)

    try:
        await asyncio.wait_for(read(), seconds)
    except asyncio.TimeoutError:
        raise RequestRejected(408, f"the upload took longer than {seconds:g} s; try a faster connection") from None
    except ClientDisconnect:
        raise ClientDisconnected from None
    if form is not None:
        form.close()


class _Form:
    """Reads a multipart body and hands on the part named ``file``."""

    def __init__(self, boundary: bytes, sink: Sink) -> None:
        if not 0 < len(boundary) <= 70:  # as RFC 2046 wants it
            raise RequestRejected(
                400, "multipart without a proper boundary; let your HTTP library write the Content-Type"
            )
        self.sink = sink
        self.parts = 0
        self.found = False
        self.wanted = False
        self.ended = False
        self._name = b""
        self._value = b""
        self._disposition = b""
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_begin": self._header_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }
        try:
            self.parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise RequestRejected(400, f"broken multipart ({error}); let your HTTP library write the body") from None

    def write(self, data: bytes) -> None:
        try:
            self.parser.write(data)
        except FormParserError as error:
            raise RequestRejected(400, f"broken multipart ({error}); let your HTTP library write the body") from None

    def close(self) -> None:
        if not self.ended:
            raise RequestRejected(400, "the multipart body is cut off; send it again")
        if not self.found:
            raise RequestRejected(422, "no file in the form; send the picture as the field `file`")

    def _begin(self) -> None:
        self.parts += 1
        if self.parts > _MAX_PARTS:
            raise RequestRejected(
                400, f"more than {_MAX_PARTS} parts in the form; send one picture as the field `file`"
            )
        self._disposition = b""

    def _header_begin(self) -> None:
        self._name = self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self.wanted = options.get(b"name") == b"file"
        if self.wanted and self.found:
            raise RequestRejected(422, "several files in the form; send one, or a ZIP to /v1/derain/batch")
        self.found = self.found or self.wanted

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self.wanted:
            self.sink(data[start:end])

    def _end(self) -> None:
        self.ended = True
