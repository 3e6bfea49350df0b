"""``derain serve``: the HTTP server and its page."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from derain.errors import DerainError

from .inputs import tile_option


@dataclass(frozen=True)
class ServeOptions:
    """The command's options, as typed."""

    host: str
    port: int
    workers: int
    max_pixels: int
    max_bytes: int
    token: str | None
    model: str
    batch: int
    queue: int
    timeout: float
    device: str
    precision: str
    tile: str


def serve_command(options: ServeOptions) -> int:
    """Serve until a signal; returns the exit code."""
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise DerainError(f"{error.name} is not installed; get the server with: pip install 'derain[server]'") from None
    from derain.server.engine import served_models
    from derain.server.settings import Settings

    served_models(options.model)  # an unknown name is told before workers start
    if options.token is not None and not (options.token.isascii() and options.token.strip()):
        raise DerainError("--token must be plain ASCII and not empty; choose another")
    Settings(
        model=options.model,
        device=options.device,
        precision=options.precision,
        tile=tile_option(options.tile),
        max_pixels=options.max_pixels,
        max_bytes=options.max_bytes,
        batch=options.batch,
        queue=options.queue,
        timeout=options.timeout,
        token=options.token,
        video=options.workers == 1,
        threads=max(1, (os.cpu_count() or 1) // options.workers) if options.workers > 1 else 0,
    ).to_environment()
    if options.host not in ("127.0.0.1", "localhost", "::1") and options.token is None:
        print(f"note: {options.host} is open to the network, and no --token is set", file=sys.stderr)
    print(f"derain serves http://{options.host}:{options.port}/  (Ctrl-C stops)", file=sys.stderr)
    uvicorn.run(
        "derain.server.app:create_app",
        factory=True,
        host=options.host,
        port=options.port,
        workers=options.workers,
        http="h11",  # bounds the headers of a request
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=int(options.timeout) + 1,
    )
    return 0
