"""The FastAPI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from derain._version import __version__

from .errors import add_error_handlers
from .jobs import VideoJobs
from .middleware import ResponseMiddleware
from .routes import archives, info, jobs, page, pictures
from .settings import Settings
from .state import ServerState


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application, ready for any ASGI server.

    Args:
        settings: by default those that ``derain serve`` stored in the environment.

    Raises:
        ModelError: the default model is unknown or its file is missing.
        DeviceError: the device is unknown or not available.
    """
    server = ServerState.create(settings or Settings.from_environment())
    app = FastAPI(
        title="derain",
        version=__version__,
        summary="Removes rain from photographs.",
        docs_url=None,  # Swagger's page loads scripts from another origin
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.server = server
    add_error_handlers(app)
    for routes in (pictures, archives, info, jobs):
        app.include_router(routes.router)
    page.add_page(app)
    app.add_middleware(ResponseMiddleware, metrics=server.metrics)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    server: ServerState = app.state.server
    await asyncio.to_thread(server.engine.warm_up)
    removal = asyncio.create_task(_remove_expired(server.jobs))
    yield
    removal.cancel()
    await asyncio.to_thread(server.jobs.close)
    await asyncio.to_thread(server.engine.close)


async def _remove_expired(jobs: VideoJobs) -> None:
    while True:
        await asyncio.sleep(min(60.0, jobs.settings.keep_seconds / 4))
        await asyncio.to_thread(jobs.remove_expired)
