"""The page for people: ``GET /`` and its files under ``/static``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

_STATIC = Path(__file__).parent.parent / "static"
_REVALIDATE = {"Cache-Control": "no-cache"}  # 304 unless a file has changed, so that an update shows at once


def add_page(app: FastAPI) -> None:
    """Add the page to an application. Not a router: FastAPI does not include the mounts of routers."""

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(_STATIC / "index.html", headers=_REVALIDATE)

    app.mount("/static", _RevalidatedFiles(directory=_STATIC), name="static")


class _RevalidatedFiles(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(_REVALIDATE)
        return response
