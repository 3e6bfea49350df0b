"""``derain run`` on clips, and on folders of frames."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from derain.errors import DerainError, InputError, OutputError
from derain.files import output_exists, remove_stale
from derain.sources import check_input, find_conflicts, find_sources, is_file_path, output_paths

from .console import ProgressBar, Report
from .inputs import Work
from .run_options import RunOptions

if TYPE_CHECKING:
    from derain.derainer import Derainer
    from derain.video.clip import Result


def run_clips(work: Work, derainer: Derainer, options: RunOptions, report: Report) -> None:
    """Derain clips one after the other; a failure is reported and does not stop the others."""
    for source, path in work:
        start = time.perf_counter()
        with report.catch(input=str(source.path)) as record:
            result, frame_seconds = _derain_clip(source.path, path, derainer, options, report)
            seconds = time.perf_counter() - start
            record.update(output=str(path), seconds=round(seconds, 3), size=list(result.size), model=options.model)
            record.update(frames=result.frames, resumed=result.resumed, notes=result.notes)
            if result.compare is not None:
                record["compare"] = str(result.compare)
            resumed = f", {result.resumed} of them from an interrupted run" if result.resumed else ""
            rate = (result.frames - result.resumed) / frame_seconds
            details = f"{result.frames} frames{resumed}, {seconds:.1f} s, {rate:.2g} fps"
            report.succeed(f"{source.path} → {path} ({details})", **record)
            for note in result.notes:
                report.note(f"  {note}")


def _derain_clip(
    source: Path, path: Path, derainer: Derainer, options: RunOptions, report: Report
) -> tuple[Result, float]:
    """The result of one clip, and the seconds that its frames took."""
    from derain.video.clip import derain_clip, parts_folder
    from derain.video.containers import require_av

    require_av()
    bar: ProgressBar | None = None
    display = contextlib.ExitStack()
    began = time.perf_counter()
    position = (0, 0)

    def on_frame(done: int, total: int) -> None:
        nonlocal bar, began, position
        if bar is None:  # how many frames are left is known only now
            began = time.perf_counter()
            bar = display.enter_context(report.progress(total - done, source.name, "fps"))
        else:
            bar.advance(done - position[0])
        position = (done, total)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with display:
            result = derain_clip(
                source,
                path,
                derainer,
                options.clip,
                identity=derainer.fingerprint,
                overwrite=options.overwrite,
                on_frame=on_frame,
            )
    except KeyboardInterrupt:
        if os.path.exists(parts_folder(path)):
            print(
                f"{source}: stopped at frame {position[0]} of {position[1]}; finished segments are in "
                f"{parts_folder(path)}, and the same command continues from there",
                file=sys.stderr,
            )
        raise
    return result, max(time.perf_counter() - began, 1e-6)


def run_frames(inputs: list[str], output: Path | None, derainer: Derainer, options: RunOptions, report: Report) -> None:
    """Derain folders whose images, by name and number, are the frames of a clip each."""
    for text in inputs:
        folder = Path(text)
        start, failed = time.perf_counter(), report.failed
        with report.catch(input=text) as record:
            out = _frames_output(folder, output, several=len(inputs) > 1)
            count = _derain_folder(folder, out, derainer, options, report)
            seconds = time.perf_counter() - start
            record.update(output=str(out), seconds=round(seconds, 3), frames=count, model=options.model)
            if count:
                report.succeed(f"{folder} → {out} ({count} frames, {seconds:.1f} s)", **record)
            elif report.failed == failed:
                report.skip(f"{folder} skipped: all its frames exist in {out}", **record)


def _frames_output(folder: Path, output: Path | None, *, several: bool) -> Path:
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: is not a folder; --frames takes folders of images")
    real = Path(os.path.realpath(folder))
    if output is None:
        out = (real if folder.name in ("", "..") else folder).with_name(f"{real.name}_derained")
    else:
        out = output / real.name if several else output
    if os.path.isfile(out) or (output is not None and is_file_path(output)):
        raise OutputError(f"{out}: names a file; give a folder for the frames")
    return out


def _derain_folder(folder: Path, out: Path, derainer: Derainer, options: RunOptions, report: Report) -> int:
    """Write the missing or all frames of a folder; returns their number."""
    from derain.data.matching import natural_key
    from derain.video.frames import derain_frames

    sources, errors = find_sources([str(folder)], recursive=False, exclude=out)
    if errors:
        raise errors[0]
    sources.sort(key=lambda source: natural_key(source.path.name))
    remove_stale(out)
    paths = output_paths(sources, out / "")
    for conflict in find_conflicts(sources, paths):
        if conflict is not None:
            raise conflict
    exists = [output_exists(path) for path in paths]
    if any(exists) and not (options.overwrite or options.skip_existing):
        first = paths[exists.index(True)]
        raise OutputError(f"{first}: exists already; add --overwrite, or --skip-existing to continue after a stop")
    selected = [not (present and options.skip_existing) for present in exists]

    def on_error(number: int, error: DerainError) -> None:
        with report.catch(input=str(sources[number].path)):
            check_input(sources[number].path)  # explains links to nothing
            raise error

    with report.progress(sum(selected), folder.name, "fps") as bar:
        return derain_frames(
            [s.path for s in sources],
            paths,
            derainer,
            temporal_fuse=options.clip.temporal_fuse,
            strength=options.clip.strength,
            quality=options.quality,
            selected=selected,
            on_frame=lambda _done, _total: bar.advance(),
            on_error=on_error,
        )
