"""The FastAPI application: routes, and what goes around them."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derain._version import __version__
from derain.video.clip import Settings as ClipSettings
from derain.weights import store

from .archives import derain_archive, open_archive
from .engine import Engine
from .errors import ClientDisconnected, RequestRejected
from .jobs import Videos
from .metrics import Metrics
from .pictures import MAX_SIDE, WRITES, RequestOptions, look
from .settings import Settings
from .uploads import Memory, read_upload

_STATIC = Path(__file__).parent / "static"
_BATCHES = 2  # at a time
_HEADERS = {
    # The page takes nothing from other places; the browser holds it to that.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PICTURE_BODY: dict[str, Any] = {
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
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"example": {"error": "one line"}}}}
    for status, text in {
        400: "broken multipart",
        401: "no token, or a wrong one",
        403: "asked for by a page of another origin",
        408: "the upload took too long",
        413: "too many bytes or pixels",
        415: "not a picture (or ZIP) that derain can read",
        422: "damaged, several pages, or wrong parameters",
        429: "busy; try again after Retry-After seconds",
        503: "waited too long for its turn, or the server stops",
        504: "took longer than the time limit",
    }.items()
}

_Format = Literal["same", "jpeg", "png", "webp", "tiff", "bmp", "avif"]


async def _wish(
    request: Request,
    model: Annotated[str | None, Query(max_length=100, description="A name of /v1/models.")] = None,
    strength: Annotated[
        float, Query(ge=0, le=1, allow_inf_nan=False, description="0 gives the input, 1 all that the network does.")
    ] = 1.0,
    format: Annotated[_Format, Query(description="Of the answer; `same` as the input.")] = "same",
    quality: Annotated[int, Query(ge=1, le=100, description="Of JPEG, WebP and AVIF.")] = 95,
) -> RequestOptions:
    return RequestOptions(_served(request, model), strength, format, quality)


def _served(request: Request, model: str | None) -> str:
    """The name of a model that this server has."""
    engine: Engine = request.app.state.engine
    name = engine.default if model is None else model
    if name not in engine.models:
        raise RequestRejected(422, f"no model of that name here; choose one of {', '.join(engine.models)}")
    return name


async def _authorise(request: Request) -> None:
    # A foreign page could not read the answers, but it could make its visitors' servers work.
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise RequestRejected(403, "this server does not work for pages of other origins; call it from a program")
    token: str | None = request.app.state.settings.token
    if token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    if scheme.lower() != "bearer" or not right:
        raise RequestRejected(
            401, "this server wants its token; send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
        )


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application, ready for any ASGI server.

    Args:
        settings: unless given, those that ``derain serve`` left in the environment, or the defaults.

    Raises:
        ModelError: the default model is not known.
    """
    settings = settings or Settings.from_environment()
    monitor = Metrics()
    engine = Engine(settings, monitor)
    videos = Videos(settings, engine)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(engine.warm_up)
        removing = asyncio.create_task(_remove_old(videos))
        yield
        removing.cancel()
        await asyncio.to_thread(videos.close)
        await asyncio.to_thread(engine.close)

    app = FastAPI(
        title="derain",
        version=__version__,
        summary="Takes the rain out of photographs.",
        docs_url=None,  # Swagger's page takes its scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.engine = engine
    app.state.monitor = monitor
    app.state.memory = Memory(settings.memory)
    app.state.videos = videos
    app.state.batches = 0
    _add_errors(app)
    _add_api(app)
    _add_video(app, videos)
    _add_pages(app)
    app.add_middleware(_Around, monitor=monitor)
    return app


def _add_api(app: FastAPI) -> None:
    settings: Settings = app.state.settings
    engine: Engine = app.state.engine
    guarded = [Depends(_authorise)]

    @app.post(
        "/v1/derain",
        dependencies=guarded,
        openapi_extra=_PICTURE_BODY,
        responses={**_REFUSALS, 200: {"content": {m: {} for _, m, _ in WRITES.values()}}},
        response_class=Response,
    )
    async def derain(request: Request, wish: Annotated[RequestOptions, Depends(_wish)]) -> Response:
        """Derain one picture: the multipart field `file`, or the raw body. The answer is the picture file."""
        engine.refuse_if_full()
        upload = bytearray()
        with app.state.memory.share() as take:

            def keep(chunk: bytes) -> None:
                take(len(chunk))
                upload.extend(chunk)

            await read_upload(request, keep, limit=settings.max_bytes, seconds=settings.upload_seconds)
            data = bytes(upload)
            upload.clear()
            await asyncio.to_thread(look, data, max_pixels=settings.max_pixels)
            left = asyncio.create_task(_until_left(request))
            try:
                result = await engine.run(data, wish, left=left)
            finally:
                left.cancel()
        headers = {
            "Content-Disposition": f'inline; filename="derained.{result.suffix}"',
            "Cache-Control": "no-store",
            "X-Derain-Model": wish.model,
        }
        return Response(result.data, media_type=result.media_type, headers=headers)

    @app.post(
        "/v1/derain/batch",
        dependencies=guarded,
        openapi_extra=_PICTURE_BODY,
        responses={**_REFUSALS, 200: {"content": {"application/zip": {}}}},
        response_class=Response,
    )
    async def derain_batch(request: Request, wish: Annotated[RequestOptions, Depends(_wish)]) -> Response:
        """Derain a ZIP of pictures. The answer is a ZIP, streamed, whose report.json tells of each file."""
        if app.state.batches >= _BATCHES:
            raise RequestRejected(
                429, "the server is busy with other archives; try again in 30 s", {"Retry-After": "30"}
            )
        app.state.batches += 1
        file: IO[bytes] = tempfile.TemporaryFile(prefix="derain-")  # noqa: SIM115  (closed by `parts` below)

        def done() -> None:
            file.close()
            app.state.batches -= 1

        try:
            await read_upload(request, file.write, limit=settings.max_batch_bytes, seconds=4 * settings.upload_seconds)
            archive, entries = await asyncio.to_thread(open_archive, file, settings)
        except BaseException:
            done()
            raise
        headers = {"Content-Disposition": 'attachment; filename="derained.zip"', "Cache-Control": "no-store"}
        pieces = derain_archive(archive, entries, engine, wish)
        return _Closing(pieces, done, media_type="application/zip", headers=headers)

    @app.get("/v1/models", dependencies=guarded, responses={401: _REFUSALS[401]})
    def models() -> dict[str, Any]:
        """The models that requests may name, and this server's limits."""
        return {
            "default": engine.default,
            "models": [_about(name) for name in engine.models],
            "limits": {
                "max_bytes": settings.max_bytes,
                "max_batch_bytes": settings.max_batch_bytes,
                "max_entries": settings.max_entries,
                "max_pixels": settings.max_pixels,
                "max_side": MAX_SIDE,
                "timeout": settings.timeout,
                "max_frames": settings.max_frames,
                "max_jobs": settings.max_jobs,
                "keep_seconds": settings.keep_seconds,
            },
        }

    @app.get("/healthz")
    def health() -> dict[str, str]:
        """Answers while the server lives."""
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", dependencies=guarded, response_class=PlainTextResponse)
    def metrics() -> Response:
        """Counts and times of this worker process, as Prometheus reads them."""
        text = app.state.monitor.text(waiting=engine.waiting, working=engine.working)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def _add_video(app: FastAPI, videos: Videos) -> None:
    settings: Settings = app.state.settings
    guarded = [Depends(_authorise)]
    told: dict[int | str, dict[str, Any]] = {
        401: _REFUSALS[401],
        404: {"description": "no such job, or removed after its time"},
    }

    @app.post("/v1/video", dependencies=guarded, openapi_extra=_PICTURE_BODY, responses=_REFUSALS, status_code=202)
    async def video(
        request: Request,
        response: Response,
        model: Annotated[str | None, Query(max_length=100, description="A name of /v1/models.")] = None,
        format: Annotated[Literal["mp4", "mov", "mkv", "webm"], Query(description="Of the result.")] = "mp4",
        crf: Annotated[int | None, Query(ge=0, le=63, description="Rate factor; lower is better and larger.")] = None,
        frame_by_frame: Annotated[bool, Query(description="Do not steady frames by their neighbors.")] = False,
    ) -> dict[str, Any]:
        """Hand in a clip: the multipart field `file`, or the raw body. The answer tells the job to ask for."""
        name = _served(request, model)
        job = videos.open(name, format, ClipSettings(crf=crf, steady=not frame_by_frame))
        try:
            with open(job.source, "wb") as file:
                await read_upload(
                    request, file.write, limit=settings.max_batch_bytes, seconds=4 * settings.upload_seconds
                )
            await asyncio.to_thread(videos.check, job)
        except BaseException:
            videos.delete(job)
            raise
        videos.start(job)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return videos.about(job)

    @app.get("/v1/jobs/{name}", dependencies=guarded, responses=told)
    def job_state(name: str) -> dict[str, Any]:
        """How far a job is: `waiting`, `working`, `done` or `failed`, and its frames."""
        return videos.about(videos.find(name))

    @app.get("/v1/jobs/{name}/result", dependencies=guarded, responses=told, response_class=FileResponse)
    def job_result(name: str) -> Response:
        """The derained clip of a job that is done."""
        job = videos.find(name)
        if job.state != "done":
            raise RequestRejected(409, job.error or f"the job is not done but {job.state}; ask /v1/jobs/{job.id} first")
        headers = {"Cache-Control": "no-store"}
        return FileResponse(job.result, media_type=job.media_type, filename=job.result.name, headers=headers)

    @app.delete("/v1/jobs/{name}", dependencies=guarded, responses=told, status_code=204)
    def job_delete(name: str) -> None:
        """Stop a job and remove what there is of it."""
        videos.delete(videos.find(name))


async def _remove_old(videos: Videos) -> None:
    while True:
        await asyncio.sleep(min(60.0, videos.settings.keep_seconds / 4))
        await asyncio.to_thread(videos.remove_old)


def _about(name: str) -> dict[str, Any]:
    known = store.manifest()
    weight = known.weights.get(known.aliases.get(name, name))
    if weight is None:
        return {"name": name, "summary": "imported on this server"}
    about = {"name": name, "summary": weight.summary, "license": weight.license, "speed": weight.speed}
    return {**about, "alias_of": weight.name} if name in known.aliases else about


async def _until_left(request: Request) -> None:
    """Ends when the client closes its connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Closing(StreamingResponse):
    """A streamed answer that cleans up however it ends, also if it never begins."""

    def __init__(self, pieces: AsyncIterator[bytes], done: Any, **options: Any) -> None:
        super().__init__(pieces, **options)
        self.done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            close = getattr(self.body_iterator, "aclose", None)
            if close is not None:
                await close()
            self.done()


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", _Static(directory=_STATIC), name="static")


class _Static(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"  # asked for anew after an update, 304 otherwise
        return response


def _add_errors(app: FastAPI) -> None:
    def refused(_request: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, RequestRejected)
        return JSONResponse({"error": refusal.message}, refusal.status, refusal.headers)

    def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    def plain(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": f"{error.detail}; see /openapi.json"}, error.status_code, error.headers)

    def left(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it; for the log and the counters

    app.add_exception_handler(RequestRejected, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(ClientDisconnected, left)


class _Around:
    """Security headers on every answer, a count of each, and one line instead of a traceback for the client."""

    def __init__(self, app: ASGIApp, monitor: Metrics) -> None:
        self.app = app
        self.monitor = monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [
                    *message.get("headers", []),
                    *((k.lower().encode(), v.encode()) for k, v in _HEADERS.items()),
                ]
                route = getattr(scope.get("route"), "path", "other")
                self.monitor.requests[route, message["status"]] += 1
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception:
            logging.getLogger("uvicorn.error").exception("a fault of the server")
            if not begun:
                fault = JSONResponse({"error": "a fault of the server, which its log tells; try again"}, 500)
                await fault(scope, receive, sending)
