"""A ZIP of images in, a ZIP out: ``POST /v1/derain/batch``."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import IO, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from derain.server.archives import derain_archive, open_archive
from derain.server.errors import RequestRejected
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
    "/v1/derain/batch",
    openapi_extra=upload_body(ImageParameters),
    responses={**ERROR_RESPONSES, 200: {"content": {"application/zip": {}}}},
    response_class=Response,
)
async def derain_batch(request: Request, server: Server, query: ImageQuery) -> Response:
    """Derain a ZIP of images. The response is a ZIP, streamed, whose report.json lists the result of each file."""
    if server.archive_slots.locked():
        raise RequestRejected(429, "the server is busy with other archives; try again in 30 s", {"Retry-After": "30"})
    await server.archive_slots.acquire()
    file: IO[bytes] = tempfile.TemporaryFile(prefix="derain-")  # noqa: SIM115  (closed by `release` below)

    def release() -> None:
        file.close()
        server.archive_slots.release()

    settings = server.settings
    try:
        fields = await read_upload(
            request,
            file.write,
            limit=settings.max_batch_bytes,
            seconds=settings.batch_upload_seconds,
            fields=ImageParameters.model_fields,
        )
        options = request_options(server, add_fields(query, fields))
        archive, entries = await asyncio.to_thread(open_archive, file, settings)
    except BaseException:
        release()
        raise
    chunks = derain_archive(archive, entries, server.engine, options)
    headers = {"Content-Disposition": 'attachment; filename="derained.zip"', "Cache-Control": "no-store"}
    return _CleanupResponse(chunks, release, media_type="application/zip", headers=headers)


class _CleanupResponse(StreamingResponse):
    """A streamed response that cleans up however it ends, even if it never starts."""

    def __init__(self, chunks: AsyncIterator[bytes], cleanup: Callable[[], None], **options: Any) -> None:
        super().__init__(chunks, **options)
        self.cleanup = cleanup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            close = getattr(self.body_iterator, "aclose", None)
            if close is not None:
                await close()
            self.cleanup()
