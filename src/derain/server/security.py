"""Who may use the server: the bearer token, pages of other origins, and headers for browsers."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .errors import RequestRejected

#: Headers of every response.
SECURITY_HEADERS = {
    # The page loads nothing from other origins; the browser enforces it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_bearer = HTTPBearer(auto_error=False, description="Required if the server was started with a token.")


async def authorize(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> None:
    """A dependency that lets a request pass, or rejects it.

    Raises:
        RequestRejected: 403 sent by a page of another origin; 401 no token, or a wrong one.
    """
    # A page of another origin cannot read the responses, but it could keep the server busy.
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise RequestRejected(403, "pages of other origins may not use this server; call it from a program")
    token: str | None = request.app.state.server.settings.token
    if token is None:
        return
    # HTTPBearer gives no credentials for other schemes. The comparison takes the same time for every token.
    given = "" if credentials is None else credentials.credentials.strip()
    if not hmac.compare_digest(given.encode("latin-1", "replace"), token.encode()) or credentials is None:
        raise RequestRejected(
            401, "this server requires its token; send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
        )
