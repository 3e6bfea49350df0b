"""Video jobs: ``POST /v1/video`` and ``/v1/jobs/...``."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import Field

from derain.server.errors import RequestRejected
from derain.server.security import authorize
from derain.server.state import Server
from derain.server.uploads import read_upload
from derain.video.clip import Settings as ClipSettings

from .common import (
    ACCESS_RESPONSES,
    ERROR_RESPONSES,
    Parameters,
    add_fields,
    reject_parameters,
    reject_repeated,
    served_model,
    upload_body,
)

router = APIRouter(dependencies=[Depends(authorize)])
_JOB_RESPONSES: dict[int | str, dict[str, Any]] = {
    **ACCESS_RESPONSES,
    404: {"description": "no such job, or its time has expired"},
}


class ClipParameters(Parameters):
    """Parameters of clips."""

    format: Annotated[Literal["mp4", "mov", "mkv", "webm"], Field(description="Format of the result.")] = "mp4"
    crf: Annotated[int | None, Field(ge=0, le=63, description="Rate factor; lower is better and larger.")] = None
    frame_by_frame: Annotated[bool, Field(description="Do not fuse frames with their neighbors.")] = False

    @property
    def options(self) -> ClipSettings:
        """How the clip is derained."""
        return ClipSettings(crf=self.crf, temporal_fuse=not self.frame_by_frame)


@router.post(
    "/v1/video",
    openapi_extra=upload_body(ClipParameters),
    responses=ERROR_RESPONSES,
    status_code=202,
    dependencies=[Depends(reject_repeated)],
)
async def video(
    request: Request, response: Response, server: Server, query: Annotated[ClipParameters, Query()]
) -> dict[str, Any]:
    """Upload a clip: the multipart field `file`, or the raw body. The response describes the new job.

    In a form, the parameters may also be fields.
    """
    job = server.jobs.create(served_model(server, query.model), query.format, query.options)
    settings = server.settings
    try:
        with open(job.source, "wb") as file:
            fields = await read_upload(
                request,
                file.write,
                limit=settings.max_batch_bytes,
                seconds=settings.batch_upload_seconds,
                fields=ClipParameters.model_fields,
            )
        parameters = add_fields(query, fields)
        job.model, job.suffix = served_model(server, parameters.model), parameters.format
        job.options = parameters.options
        await asyncio.to_thread(server.jobs.check, job)
    except BaseException:
        server.jobs.delete(job)
        raise
    server.jobs.start(job)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return server.jobs.describe(job)


@router.get("/v1/jobs/{name}", responses=_JOB_RESPONSES, dependencies=[Depends(reject_parameters)])
def job_state(name: str, server: Server) -> dict[str, Any]:
    """The state of a job: `waiting`, `working`, `done` or `failed`, and its frames."""
    return server.jobs.describe(server.jobs.find(name))


@router.get(
    "/v1/jobs/{name}/result",
    responses=_JOB_RESPONSES,
    response_class=FileResponse,
    dependencies=[Depends(reject_parameters)],
)
def job_result(name: str, server: Server) -> Response:
    """The derained clip of a job that is done."""
    job = server.jobs.find(name)
    if job.state != "done":
        raise RequestRejected(409, job.error or f"the job is {job.state}, not done; see /v1/jobs/{job.id}")
    headers = {"Cache-Control": "no-store"}
    return FileResponse(job.result, media_type=job.media_type, filename=job.result.name, headers=headers)


@router.delete("/v1/jobs/{name}", responses=_JOB_RESPONSES, status_code=204, dependencies=[Depends(reject_parameters)])
def job_delete(name: str, server: Server) -> None:
    """Stop a job and remove its files."""
    server.jobs.delete(server.jobs.find(name))
