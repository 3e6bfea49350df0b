"""``derain run`` and ``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from derain.cli.options import DEBUG, DEVICE, ENSEMBLE, PRECISION, QUIET, RUNTIME, TILE

commands = typer.Typer()


@commands.command()
def run(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Pictures, clips, folders of pictures, globs, or - for stdin to stdout."
        ),
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045  (typer on Python 3.10)
        typer.Option("-o", "--output", metavar="OUT", help="Output file, or folder for several inputs."),
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Look into subfolders.")] = False,
    model: Annotated[str, typer.Option("--model", help="A name from `derain models`, or a file.")] = "default",
    device: DEVICE = "auto",
    precision: PRECISION = "auto",
    runtime: RUNTIME = "auto",
    tile: TILE = "auto",
    ensemble: ENSEMBLE = 1,
    strength: Annotated[
        float, typer.Option("--strength", min=0, max=1, help="1 takes out all rain that is found, 0 none; a blend.")
    ] = 1.0,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="First learn this picture's own rain: better on unusual rain, slow.")
    ] = False,
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="JPEG, WebP, AVIF quality.")] = 95,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write a before | after sheet, or a split-screen clip.")
    ] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="The pictures of a folder are the frames of a clip.")
    ] = False,
    frame_by_frame: Annotated[
        bool, typer.Option("--frame-by-frame", help="Of clips: do not steady frames by their neighbors.")
    ] = False,
    start: Annotated[Optional[float], typer.Option("--start", min=0, help="Of clips: first second.")] = None,  # noqa: UP045
    end: Annotated[Optional[float], typer.Option("--end", min=0, help="Of clips: second to stop before.")] = None,  # noqa: UP045
    codec: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--codec", help="Of clips: h264, hevc, vp9, av1, ffv1; else the source's."),
    ] = None,
    crf: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--crf", min=0, help="Of clips: rate factor; 18 for h264 unless told, lower is larger."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Pictures in work at the same time.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a file on stdout.")] = False,
    quiet: QUIET = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also tell model, device and precision.")] = False,
    debug: DEBUG = False,
) -> None:
    """Take the rain out of pictures and clips.

    A single picture becomes photo_derained.jpg beside it; with -o it goes where you say. Originals are
    never changed. Of clips, sound and all else is kept; a stopped one goes on by the same command.
    """
    from derain.cli.run import Options, run_command

    options = Options(
        inputs=inputs,
        output=output,
        recursive=recursive,
        model=model,
        device=device,
        precision=precision,
        runtime=runtime,
        tile=tile,
        ensemble=ensemble,
        strength=strength,
        adapt=adapt,
        quality=quality,
        compare=compare,
        frames=frames,
        frame_by_frame=frame_by_frame,
        start=start,
        end=end,
        codec=codec,
        crf=crf,
        overwrite=overwrite,
        skip_existing=skip_existing,
        jobs=jobs,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        debug=debug,
    )
    raise typer.Exit(run_command(options))


@commands.command()
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen at; 0.0.0.0 opens it to the network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen at.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes, each with its own model.")] = 1,
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Larger pictures are refused.")] = 25_000_000,
    max_bytes: Annotated[int, typer.Option("--max-bytes", min=1, help="Larger files are refused.")] = 32 * 2**20,
    token: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--token", envvar="DERAIN_TOKEN", help="Clients must send it as Authorization: Bearer."),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="For requests that name none: a name, or a file.")] = "default",
    batch: Annotated[
        int, typer.Option("--batch", min=0, help="Pictures in work at once; 0: 1 on a CPU, 8 on a GPU.")
    ] = 0,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Pictures that may wait; then 429.")] = 16,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds a picture may wait and work.")] = 120,
    device: DEVICE = "auto",
    precision: PRECISION = "auto",
    tile: TILE = "auto",
    debug: DEBUG = False,
) -> None:
    """Serve a page for photographs and an HTTP interface, by default for this computer alone.

    POST a picture to /v1/derain, a ZIP to /v1/derain/batch; /openapi.json describes it all.
    """
    from derain.cli.serve import ServeOptions, serve_command

    options = ServeOptions(
        host=host,
        port=port,
        workers=workers,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        token=token,
        model=model,
        batch=batch,
        queue=queue,
        timeout=timeout,
        device=device,
        precision=precision,
        tile=tile,
    )
    raise typer.Exit(serve_command(options))
