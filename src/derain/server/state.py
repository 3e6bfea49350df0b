"""What the routes share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from .engine import Engine
from .jobs import VideoJobs
from .metrics import Metrics
from .settings import Settings
from .uploads import UploadMemory

_MAX_ARCHIVES = 2


@dataclass(frozen=True)
class ServerState:
    """The parts of one server process; ``app.state.server``.

    Attributes:
        settings: limits and choices.
        metrics: counters and timings.
        engine: the networks and their queue.
        jobs: of clips.
        upload_memory: limit on the bytes of images in memory.
        archive_slots: limits how many ZIPs are processed at one time.
    """

    settings: Settings
    metrics: Metrics
    engine: Engine
    jobs: VideoJobs
    upload_memory: UploadMemory
    archive_slots: asyncio.Semaphore

    @classmethod
    def create(cls, settings: Settings) -> ServerState:
        """Build all parts.

        Raises:
            ModelError: the default model is unknown or its file is missing.
            DeviceError: the device is unknown or not available.
        """
        metrics = Metrics()
        engine = Engine(settings, metrics)
        return cls(
            settings,
            metrics,
            engine,
            VideoJobs(settings, engine),
            UploadMemory(settings.upload_memory),
            asyncio.Semaphore(_MAX_ARCHIVES),
        )


async def get_server(request: Request) -> ServerState:
    """The state of the application that received a request."""
    server: ServerState = request.app.state.server
    return server


Server = Annotated[ServerState, Depends(get_server)]
