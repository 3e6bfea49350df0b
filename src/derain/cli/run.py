"""``derain run``: files in, derained files out; also one image through a pipe."""

from __future__ import annotations

import glob
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from derain import images
from derain.errors import OutputError
from derain.files import check_output
from derain.sources import is_clip, is_file_path
from derain.streams import write_binary
from derain.video.clip import Settings

from . import options as opt
from .console import Report, interruptible, wrong_usage
from .inputs import plan, tile_size
from .run_clips import run_clips, run_frames
from .run_images import derain_image, report_image, run_images
from .run_options import RunOptions, load_derainer

if TYPE_CHECKING:
    from derain.derainer import Derainer

app = typer.Typer(add_completion=False)


@app.command()
def run(
    inputs: Annotated[
        list[str],
        Argument(metavar="INPUT...", help="Images, clips, folders of images, globs, or - for stdin to stdout."),
    ],
    output: opt.OUTPUT = None,
    recursive: opt.RECURSIVE = False,
    model: opt.MODEL = "default",
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    runtime: opt.RUNTIME = "auto",
    tile: opt.TILE = "auto",
    ensemble: opt.ENSEMBLE = 1,
    quantizer: opt.QUANTIZER = "round",
    strength: Annotated[float, Option(min=0, max=1, help="1 removes all rain found, 0 none.")] = 1.0,
    adapt: Annotated[
        bool, Option("--adapt", help="First train on the image's own rain: for unusual rain; slow.")
    ] = False,
    quality: opt.QUALITY = 95,
    compare: Annotated[bool, Option("--compare", help="Also write a before | after sheet or clip.")] = False,
    frames: Annotated[bool, Option("--frames", help="Treat a folder's images as the frames of a clip.")] = False,
    frame_by_frame: Annotated[bool, Option("--frame-by-frame", help="Clips: no temporal fusion.")] = False,
    start: Annotated[float | None, Option(min=0, help="Clips: first second.")] = None,
    end: Annotated[float | None, Option(min=0, help="Clips: second to stop at (exclusive).")] = None,
    codec: Annotated[str | None, Option(help="Clips: h264, hevc, vp9, av1, ffv1; default: the source's.")] = None,
    crf: Annotated[int | None, Option(min=0, help="Clips: rate factor, as 18 for h264; lower: larger files.")] = None,
    overwrite: opt.OVERWRITE = False,
    skip_existing: opt.SKIP_EXISTING = False,
    jobs: Annotated[int, Option(min=1, help="Images processed at the same time.")] = 1,
    as_json: opt.JSON_LINES = False,
    quiet: opt.QUIET = False,
    verbose: Annotated[bool, Option("-v", "--verbose", help="Also print model, license, device.")] = False,
    debug: opt.DEBUG = False,
) -> None:
    """Remove rain from images and clips.

    A single image becomes photo_derained.jpg next to it; -o chooses another place. Originals are never
    changed. Of clips, sound and all else is kept; an interrupted one continues with the same command.
    """
    clip = Settings(
        codec=codec, crf=crf, start=start, end=end, temporal_fuse=not frame_by_frame, compare=compare, strength=strength
    )
    options = RunOptions(model, clip, adapt, quality, overwrite, skip_existing, jobs, verbose)
    piped = "-" in inputs
    to_stdout = (piped and output is None) or str(output) == "-"
    report = Report(quiet, debug, as_json=as_json, to_stderr=to_stdout)

    def load() -> Derainer:
        size = tile_size(tile)
        return load_derainer(
            options,
            report,
            device=device,
            precision=precision,
            runtime=runtime,
            tile=size,
            ensemble=ensemble,
            quantizer=quantizer,
        )

    with interruptible():
        if frames:
            run_frames(inputs, output, load(), options, report)
        elif piped or to_stdout:
            _run_pipe(inputs, None if to_stdout else output, load, options, report)
        else:
            work = plan(inputs, output, report, recursive=recursive, overwrite=overwrite, skip_existing=skip_existing)
            if work:
                derainer = load()
                run_images([item for item in work if not is_clip(item[0].path)], derainer, options, report)
                run_clips([item for item in work if is_clip(item[0].path)], derainer, options, report)
        raise typer.Exit(report.close("derained"))


def _run_pipe(
    inputs: list[str], output: Path | None, load: Callable[[], Derainer], options: RunOptions, report: Report
) -> None:
    """One image from stdin or a file to stdout or a file."""
    name = inputs[0]
    if len(inputs) != 1 or os.path.isdir(name) or (glob.has_magic(name) and not os.path.exists(name)):
        raise wrong_usage("a pipe takes one image: give - or one file alone")
    if name == "-" and sys.stdin.isatty():
        raise wrong_usage("nothing is piped in; try: cat photo.jpg | derain run - > derained.jpg")
    with report.catch(input=name) as record:
        if output is not None:
            images.format_for(output)
            if not is_file_path(output):
                raise OutputError(f"{output}: is a folder; give the name of an image file")
            check_output(output, options.overwrite)
        start = time.perf_counter()
        before = images.decode(sys.stdin.buffer.read(), name="stdin") if name == "-" else images.read(name)
        derainer = load()
        with report.progress(1, "adapting" if options.adapt else "deraining") as bar, bar.item() as on_step:
            after = derain_image(derainer, before, options, record, on_step)
        kind = images.result_format(before) if output is None else images.format_for(output)
        after = images.fit(after, kind)
        if output is not None:
            after.save(output, quality=options.quality, overwrite=options.overwrite)
        else:
            data = images.encode(after, kind, quality=options.quality)
            try:
                write_binary(data)
            except BrokenPipeError:
                raise typer.Exit(1) from None
            except OSError as error:
                raise OutputError(f"stdout: cannot be written ({error.strerror}); send it to another place") from None
        where = str(output) if output is not None else "stdout"
        report_image(report, options, after, time.perf_counter() - start, where, record)
