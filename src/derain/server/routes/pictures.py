"""One image in, one image out: ``POST /v1/derain``."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from derain.server.pictures import OUTPUT_FORMATS, check_header
from derain.server.security import authorize
from derain.server.state import Server
from derain.server.uploads import read_upload

from .common import (
    ERROR_RESPONSES,
    ImageParameters,
    ImageQuery,
    add_fields,
    reject_repeated,
    request_options,
    upload_body,
)

router = APIRouter(dependencies=[Depends(authorize), Depends(reject_repeated)])


@router.post(
    "/v1/derain",
    openapi_extra=upload_body(ImageParameters),
    responses={
        **ERROR_RESPONSES,
        200: {"content": {media_type: {} for _, media_type, _ in OUTPUT_FORMATS.values()}},
    },
    response_class=Response,
)
async def derain(request: Request, server: Server, query: ImageQuery) -> Response:
    """Derain one image: the multipart field `file`, or the raw body. The response is the image file.

    In a form, the parameters may also be fields.
    """
    server.engine.reject_if_full()
    settings = server.settings
    upload = bytearray()
    with server.upload_memory.reservation() as reserve:

        def store(chunk: bytes) -> None:
            reserve(len(chunk))
            upload.extend(chunk)

        fields = await read_upload(
            request,
            store,
            limit=settings.max_bytes,
            seconds=settings.upload_seconds,
            fields=ImageParameters.model_fields,
        )
        options = request_options(server, add_fields(query, fields))
        data = bytes(upload)
        upload.clear()
        await asyncio.to_thread(check_header, data, max_pixels=settings.max_pixels)
        disconnected = asyncio.create_task(_wait_for_disconnect(request))
        try:
            result = await server.engine.run(data, options, disconnected=disconnected)
        finally:
            disconnected.cancel()
    headers = {
        "Content-Disposition": f'inline; filename="derained.{result.suffix}"',
        "Cache-Control": "no-store",
        "X-Derain-Model": options.model,
    }
    return Response(result.data, media_type=result.media_type, headers=headers)


async def _wait_for_disconnect(request: Request) -> None:
    """End when the client closes its connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
