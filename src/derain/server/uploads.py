"""Reading uploads: counted while they arrive, and never stored under a name that the client chose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from .errors import ClientDisconnected, RequestRejected

_MAX_PARTS = 16
_MULTIPART_OVERHEAD = 64 * 1024  # boundaries, headers, small fields
_MAX_FIELD = 1000  # bytes of a field's value

Sink = Callable[[bytes], object]


class UploadMemory:
    """A limit on the bytes of images that all clients together may occupy.

    Args:
        limit: in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @contextmanager
    def reservation(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that reserves a number of bytes for one request; all are released at the end.

        The function raises :class:`RequestRejected` with 429 if the limit would be exceeded.
        """
        reserved = 0

        def reserve(count: int) -> None:
            nonlocal reserved
            if self.used + count > self.limit:
                raise RequestRejected(429, "the server is busy; try again in 5 s", {"Retry-After": "5"})
            self.used += count
            reserved += count

        try:
            yield reserve
        finally:
            self.used -= reserved


async def read_upload(
    request: Request, sink: Sink, *, limit: int, seconds: float, fields: Collection[str] = ()
) -> dict[str, str]:
    """Pass the uploaded file to ``sink``: the raw body, or the multipart field ``file``.

    Args:
        request: whose body has not been read.
        sink: receives the bytes as they arrive.
        limit: maximum number of bytes of the file.
        seconds: time limit for the whole upload.
        fields: names that other fields of a form may have.

    Returns:
        The values of these other fields.

    Raises:
        RequestRejected: 400 broken multipart, 408 too slow, 413 too large, 422 no file, or other fields.
        ClientDisconnected: the connection was closed.
    """
    declared = request.headers.get("content-length", "")
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    multipart = content_type == b"multipart/form-data"
    max_body = limit + (_MULTIPART_OVERHEAD if multipart else 0)
    too_large = RequestRejected(413, f"the upload is larger than {limit / 2**20:.4g} MiB; reduce it first")
    # isdecimal alone would accept digits of other scripts, and numbers too long for int().
    if declared.isascii() and declared.isdecimal() and (len(declared) > 18 or int(declared) > max_body):
        raise too_large
    file_bytes = 0

    def limited_sink(data: bytes) -> None:
        nonlocal file_bytes
        file_bytes += len(data)
        if file_bytes > limit:
            raise too_large
        sink(data)

    reader = _MultipartReader(options.get(b"boundary", b""), limited_sink, fields) if multipart else None

    async def read_body() -> None:
        body_bytes = 0
        async for chunk in request.stream():
            body_bytes += len(chunk)
            if body_bytes > max_body:
                raise too_large
            if reader is None:
                limited_sink(chunk)
            else:
                reader.write(chunk)

    try:
        await asyncio.wait_for(read_body(), seconds)
    except asyncio.TimeoutError:
        raise RequestRejected(408, f"the upload took longer than {seconds:g} s; use a faster connection") from None
    except ClientDisconnect:
        raise ClientDisconnected from None
    return {} if reader is None else reader.close()


class _MultipartReader:
    """Parses a multipart body, passes on the part named ``file`` and collects the small fields beside it.

    Starlette's form parser has no size limit for files: it spools them to disk before the route sees them.
    """

    def __init__(self, boundary: bytes, sink: Sink, fields: Collection[str]) -> None:
        if not 0 < len(boundary) <= 70:  # RFC 2046
            raise RequestRejected(
                400, "multipart without a proper boundary; let your HTTP library write the Content-Type"
            )
        self.sink = sink
        self.parts = 0
        self.has_file = False
        self.known_fields = fields
        self.values: dict[str, bytearray] = {}
        self.field: str | None = None  # of the current part; ``file`` for the file
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
            raise _broken_multipart(error) from None

    def write(self, data: bytes) -> None:
        try:
            self.parser.write(data)
        except FormParserError as error:
            raise _broken_multipart(error) from None

    def close(self) -> dict[str, str]:
        if not self.ended:
            raise RequestRejected(400, "the multipart body is truncated; send it again")
        if not self.has_file:
            raise RequestRejected(422, "no file in the form; send the image as the field `file`")
        return {name: value.decode("utf-8", "replace") for name, value in self.values.items()}

    def _begin(self) -> None:
        self.parts += 1
        if self.parts > _MAX_PARTS:
            raise RequestRejected(400, f"more than {_MAX_PARTS} parts in the form; send one image as the field `file`")
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
        self.field = options.get(b"name", b"").decode("utf-8", "replace")
        if self.field == "file":
            if self.has_file:
                raise RequestRejected(422, "several files in the form; send one, or a ZIP to /v1/derain/batch")
            self.has_file = True
        elif self.field not in self.known_fields:
            known = ", ".join(self.known_fields)
            raise RequestRejected(
                422, f"{self.field[:40]!r} is not a field of this form; it takes `file`, and beside it {known}"
            )
        elif self.field in self.values:
            raise RequestRejected(422, f"{self.field} is given twice; give it once")
        else:
            self.values[self.field] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self.field == "file":
            self.sink(data[start:end])
        elif self.field is not None:
            self.values[self.field] += data[start:end]
            if len(self.values[self.field]) > _MAX_FIELD:
                raise RequestRejected(422, f"{self.field} is too long; see /openapi.json")

    def _end(self) -> None:
        self.ended = True


def _broken_multipart(error: FormParserError) -> RequestRejected:
    return RequestRejected(400, f"broken multipart ({error}); let your HTTP library write the body")
