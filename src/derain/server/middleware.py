"""What happens around every request and response."""

from __future__ import annotations

import logging

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .security import SECURITY_HEADERS


class ResponseMiddleware:
    """Adds security headers, counts responses, answers HEAD, and hides tracebacks from clients.

    Args:
        app: the application inside.
        metrics: where responses are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; see the ASGI specification."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False
        head = scope["method"] == "HEAD"
        if head:  # as GET without the body (RFC 9110, section 9.3.2); FastAPI's routes know GET only
            scope = {**scope, "method": "GET"}

        async def send_and_count(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [
                    *message.get("headers", []),
                    *((key.lower().encode(), value.encode()) for key, value in SECURITY_HEADERS.items()),
                ]
                route = getattr(scope.get("route"), "path", "other")
                self.metrics.requests.labels(route, message["status"]).inc()
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.app(scope, receive, send_and_count)
        except Exception:
            logging.getLogger("uvicorn.error").exception("internal error")
            if not started:
                response = JSONResponse({"error": "internal error, see the server's log; try again"}, 500)
                await response(scope, receive, send_and_count)
