"""Helpers for tests of the HTTP server."""

from __future__ import annotations

import io
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx

from derain.server.settings import Settings

UPLOAD = "/v1/derain"
BATCH = "/v1/derain/batch"
MAX_PIXELS = 200_000
MAX_BYTES = 600_000
MAX_ENTRIES = 12


def small_settings(model: Path, **changes: object) -> Settings:
    """Settings with low limits."""
    limits = {"max_pixels": MAX_PIXELS, "max_bytes": MAX_BYTES, "max_entries": MAX_ENTRIES, "timeout": 30}
    return Settings.model_validate({"model": str(model), **limits, **changes})


def is_client_error(response: httpx.Response) -> bool:
    """4xx with one readable line."""
    message = response.json()["error"]
    return (
        400 <= response.status_code < 500 and len(message) > 10 and "\n" not in message and "Traceback" not in message
    )


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.01)


def zipped(files: dict[str, bytes], **options: object) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def png_declaring(width: int, height: int) -> bytes:
    """A PNG whose header declares a size that its data do not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
