"""About the server: ``GET /v1/models``, ``/healthz`` and ``/metrics``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse, Response

from derain._version import __version__
from derain.server.metrics import MEDIA_TYPE
from derain.server.pictures import MAX_SIDE
from derain.server.security import authorize
from derain.server.state import Server
from derain.weights.manifest import manifest

from .common import ACCESS_RESPONSES, reject_parameters

router = APIRouter()


@router.get("/v1/models", dependencies=[Depends(authorize), Depends(reject_parameters)], responses=ACCESS_RESPONSES)
def models(server: Server) -> dict[str, Any]:
    """The models that requests may name, each with its license, and the limits of this server."""
    settings = server.settings
    return {
        "default": server.engine.default,
        "models": [_describe(name) for name in server.engine.models],
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


@router.get("/healthz")
def health() -> dict[str, str]:
    """Responds while the server is alive."""
    return {"status": "ok", "version": __version__}


@router.get("/metrics", dependencies=[Depends(authorize)], responses=ACCESS_RESPONSES, response_class=PlainTextResponse)
def metrics(server: Server) -> Response:
    """Counters and timings of this worker process, for Prometheus."""
    return PlainTextResponse(server.metrics.text(), media_type=MEDIA_TYPE)


def _describe(name: str) -> dict[str, Any]:
    known = manifest()
    entry = known.models.get(known.aliases.get(name, name))
    if entry is None:
        return {"name": name, "summary": "imported on this server"}
    description = {"name": name, "summary": entry.summary, "license": entry.license, "speed": entry.speed}
    return {**description, "alias_of": entry.name} if name in known.aliases else description
