"""``derain serve``: the HTTP server and its page."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import Annotated

import typer
from typer import Option

from derain.errors import DerainError

from . import options as opt
from .inputs import tile_size

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, Option(min=1, help="Processes, each with its own model.")] = 1,
    max_pixels: Annotated[int, Option(min=1, help="Reject larger images.")] = 25_000_000,
    max_bytes: Annotated[int, Option(min=1, help="Reject larger files.")] = 32 * 2**20,
    token: Annotated[str | None, Option(envvar="DERAIN_TOKEN", help="Required as Authorization: Bearer.")] = None,
    model: Annotated[str, Option(help="For requests that name none: a name, or a file.")] = "default",
    batch: Annotated[int, Option(min=0, help="Images processed at once; 0: 1 on a CPU, 8 on a GPU.")] = 0,
    queue: Annotated[int, Option(min=1, help="Images that may wait; further ones get 429.")] = 16,
    timeout: Annotated[float, Option(min=1, help="Seconds per image, waiting included.")] = 120,
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    tile: opt.TILE = "auto",
    open_page: Annotated[bool, Option("--open", help="Open the page in a browser.")] = False,
    debug: opt.DEBUG = False,
) -> None:
    """Serve a web page and an HTTP API, by default to this computer only.

    POST an image to /v1/derain, a ZIP to /v1/derain/batch; /openapi.json describes everything.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import pydantic_settings  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise DerainError(f"{error.name} is not installed; get the server with: pip install 'derain[server]'") from None
    from derain.server import run
    from derain.server.engine import served_models
    from derain.server.settings import Settings

    served_models(model)  # an unknown name is reported before workers start
    token = os.environ.get("DERAIN_TOKEN") if token is None else token  # typer takes an empty variable for none
    if token is not None and not (token.isascii() and token.strip()):
        raise DerainError(
            "the token (--token or DERAIN_TOKEN) must be plain ASCII and not empty; set one, or unset the variable"
        )
    Settings(
        model=model,
        device=device,
        precision=precision,
        tile=tile_size(tile),
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        batch=batch,
        queue=queue,
        timeout=timeout,
        token=token,
        video=workers == 1,
        threads=max(1, (os.cpu_count() or 1) // workers) if workers > 1 else 0,
    ).to_environment()
    if host not in ("127.0.0.1", "localhost", "::1") and token is None:
        print(f"note: {host} is open to the network, and no --token is set", file=sys.stderr)

    def on_ready() -> None:
        print(f"derain serves at {run.url(host, port)}  (Ctrl-C stops)", file=sys.stderr, flush=True)
        if open_page and not webbrowser.open(run.local_url(host, port)):
            print(f"note: no browser was found; open {run.local_url(host, port)} yourself", file=sys.stderr)

    run.run(host, port, workers=workers, timeout=timeout, on_ready=on_ready)
