"""What several routes need: parameters of a request, and texts of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query

from derain.server.errors import RequestRejected
from derain.server.pictures import RequestOptions
from derain.server.state import Server

#: Request body of routes that accept a file.
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
#: Error responses of routes that accept a file.
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"example": {"error": "one line"}}}}
    for status, text in {
        400: "broken multipart",
        401: "no token, or a wrong one",
        403: "sent by a page of another origin",
        408: "the upload took too long",
        413: "too many bytes or pixels",
        415: "not a file that derain can read",
        422: "damaged, several pages, or wrong parameters",
        429: "busy; try again after Retry-After seconds",
        503: "waited too long, or the server is stopping",
        504: "took longer than the time limit",
    }.items()
}
#: Of these, those of every route that may require a token.
ACCESS_RESPONSES: dict[int | str, dict[str, Any]] = {status: ERROR_RESPONSES[status] for status in (401, 403)}

ModelName = Annotated[str | None, Query(max_length=100, description="A name from /v1/models.")]
_Format = Literal["same", "jpeg", "png", "webp", "tiff", "bmp", "avif"]


def served_model(server: Server, model: str | None) -> str:
    """The name of a served model, by default that of the server's default.

    Raises:
        RequestRejected: 422, no such model.
    """
    name = server.engine.default if model is None else model
    if name not in server.engine.models:
        raise RequestRejected(
            422, f"this server has no model of that name; choose one of {', '.join(server.engine.models)}"
        )
    return name


async def request_options(
    server: Server,
    model: ModelName = None,
    strength: Annotated[
        float,
        Query(ge=0, le=1, allow_inf_nan=False, description="0 gives the input, 1 the network's full effect."),
    ] = 1.0,
    format: Annotated[_Format, Query(description="Format of the result; `same` as the input.")] = "same",
    quality: Annotated[int, Query(ge=1, le=100, description="Of JPEG, WebP and AVIF.")] = 95,
) -> RequestOptions:
    """The options that the query gives."""
    return RequestOptions(served_model(server, model), strength, format, quality)


Options = Annotated[RequestOptions, Depends(request_options)]
