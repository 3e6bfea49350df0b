"""Rejected requests, and how errors become responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException


class RequestRejected(Exception):  # noqa: N818  (not always an error: busy, too large)
    """A request that is not served. It becomes a response with ``{"error": "one line"}``.

    Args:
        status: HTTP status.
        message: what is wrong and how to fix it, one line.
        headers: further headers of the response, such as ``Retry-After``.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = " ".join(message.split())
        self.headers = headers or {}


class ClientDisconnected(Exception):  # noqa: N818
    """The client closed its connection, so no response is needed."""


def explain(problems: Sequence[Any]) -> str:
    """The first of the problems that pydantic found in parameters, in one line."""
    first = problems[0]
    name = str(first["loc"][-1])[:40]
    if first["type"] == "extra_forbidden":
        return f"{name!r} is not a parameter of this address; see /openapi.json"
    return f"{name}: {first['msg']}"


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error with one line of JSON."""

    async def rejected(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestRejected)
        return JSONResponse({"error": error.message}, error.status, error.headers)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return JSONResponse({"error": explain(error.errors())}, 422)

    async def http_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": f"{error.detail}; see /openapi.json"}, error.status_code, error.headers)

    async def disconnected(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # never read; it is for the log and the metrics

    app.add_exception_handler(RequestRejected, rejected)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientDisconnected, disconnected)
