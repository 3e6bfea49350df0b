"""What several routes need: parameters of a request, and texts of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from derain.server.errors import RequestRejected, explain
from derain.server.pictures import RequestOptions
from derain.server.state import Server

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


class Parameters(BaseModel):
    """Parameters of a request, in the query or as fields of the form; others are rejected."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str | None, Field(max_length=100, description="A name from /v1/models.")] = None


class ImageParameters(Parameters):
    """Parameters of routes that derain images."""

    strength: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="0 gives the input, 1 the network's full effect.")
    ] = 1.0
    format: Annotated[
        Literal["same", "jpeg", "png", "webp", "tiff", "bmp", "avif"],
        Field(description="Format of the result; `same` as the input."),
    ] = "same"
    quality: Annotated[int, Field(ge=1, le=100, description="Of JPEG, WebP and AVIF.")] = 95


_P = TypeVar("_P", bound=Parameters)


def upload_body(parameters: type[Parameters]) -> dict[str, Any]:
    """The OpenAPI description of a request body with a file; in a form the parameters may be beside it."""
    file = {"type": "string", "format": "binary"}
    properties = {**parameters.model_json_schema()["properties"], "file": file}
    form = {"type": "object", "properties": properties, "required": ["file"], "additionalProperties": False}
    content = {"multipart/form-data": {"schema": form}, "application/octet-stream": {"schema": file}}
    return {"requestBody": {"required": True, "content": content}}


def add_fields(parameters: _P, fields: dict[str, str]) -> _P:
    """Parameters of the query, completed by fields of the form.

    Raises:
        RequestRejected: 422, a wrong value, or a parameter that is given in both.
    """
    if twice := sorted(parameters.model_fields_set & fields.keys()):
        raise RequestRejected(422, f"{twice[0]} is given in the query and in the form; give it once")
    try:
        return type(parameters).model_validate({**parameters.model_dump(exclude_unset=True), **fields})
    except ValidationError as error:
        raise RequestRejected(422, explain(error.errors())) from None


async def reject_repeated(request: Request) -> None:
    """A dependency that rejects a query in which a parameter has two values."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(names) > len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestRejected(422, f"{twice[:40]} is given twice; give it once")


async def reject_parameters(request: Request) -> None:
    """A dependency of routes without parameters."""
    for name in request.query_params:
        raise RequestRejected(422, f"{name[:40]!r} is not a parameter of this address; see /openapi.json")


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


def request_options(server: Server, parameters: ImageParameters) -> RequestOptions:
    """The options that the parameters give.

    Raises:
        RequestRejected: 422, no such model.
    """
    model = served_model(server, parameters.model)
    return RequestOptions(model, parameters.strength, parameters.format, parameters.quality)


async def _image_query(server: Server, query: Annotated[ImageParameters, Query()]) -> ImageParameters:
    served_model(server, query.model)  # rejected before the upload
    return query


ImageQuery = Annotated[ImageParameters, Depends(_image_query)]
