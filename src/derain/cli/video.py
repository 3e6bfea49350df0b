"""``derain run`` on clips, and on folders of frames."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain.errors import InputError, OutputError
from derain.images import FORMATS

from .console import ProgressBar, Report
from .inputs import Source, find_sources, refuse_dangerous, targets

if TYPE_CHECKING:
    from derain.derainer import Derainer

    from .run import Options


def run_clips(work: list[tuple[Source, Path]], derainer: Derainer, options: Options, report: Report) -> None:
    """Derain clips one after the other; a failure is reported and does not stop the others."""
    for source, goal in work:
        record: dict[str, Any] = {"input": str(source.path)}
        start = time.perf_counter()
        try:
            result, took = _one(source.path, goal, derainer, options, report)
        except Exception as error:
            report.fail(error, **record)
            continue
        seconds = time.perf_counter() - start
        record.update(output=str(goal), seconds=round(seconds, 3), size=list(result.size), model=options.model)
        record.update(frames=result.frames, resumed=result.resumed, notes=result.notes)
        if result.compare is not None:
            record["compare"] = str(result.compare)
        before = f", {result.resumed} of them from a stopped run" if result.resumed else ""
        rate = (result.frames - result.resumed) / took
        report.succeed(
            f"{source.path} → {goal} ({result.frames} frames{before}, {seconds:.1f} s, {rate:.2g} fps)", **record
        )
        for note in result.notes:
            report.note(f"  {note}")


def _one(source: Path, goal: Path, derainer: Derainer, options: Options, report: Report) -> tuple[Any, float]:
    """One clip; also the seconds that its frames took."""
    from derain.video.clip import Settings, derain_clip, parts_folder
    from derain.video.reader import require_av

    require_av()
    settings = Settings(
        options.codec,
        options.crf,
        options.start,
        options.end,
        steady=not options.frame_by_frame,
        compare=options.compare,
        strength=options.strength,
    )
    bar: ProgressBar | None = None
    display = contextlib.ExitStack()
    began = time.perf_counter()
    at = (0, 0)

    def on_frame(done: int, total: int) -> None:
        nonlocal bar, began, at
        if bar is None:  # how many frames are left is known only now
            began = time.perf_counter()
            bar = display.enter_context(report.progress(total - done, source.name, "fps"))
        else:
            bar.advance(done - at[0])
        at = (done, total)

    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        result = derain_clip(
            source,
            goal,
            derainer,
            settings,
            identity=_identity(derainer),
            overwrite=options.overwrite,
            on_frame=on_frame,
        )
    except KeyboardInterrupt:
        if parts_folder(goal).exists():
            print(
                f"{source}: stopped at frame {at[0]} of {at[1]}; what is finished lies in {parts_folder(goal)}, "
                "and the same command goes on from there",
                file=sys.stderr,
            )
        raise
    finally:
        display.close()
    return result, max(time.perf_counter() - began, 1e-6)


def _identity(derainer: Derainer) -> str:
    """What of a network and its settings changes its results."""
    digest = hashlib.sha256(derainer.file.read_bytes()).hexdigest()
    runtime = derainer.runtime
    how = f"{runtime.device} {runtime.precision} {derainer.tile} {derainer.ensemble}"
    return f"{digest} {type(runtime).__name__} {how}"


def run_frames(options: Options, report: Report, derainer: Derainer) -> None:
    """Derain folders of which the pictures, by name, are the frames of a clip each."""
    for text in options.inputs:
        folder = Path(text)
        record: dict[str, Any] = {"input": text}
        start = time.perf_counter()
        try:
            count, out = _one_folder(folder, options, report, derainer)
        except Exception as error:
            report.fail(error, **record)
            continue
        seconds = time.perf_counter() - start
        record.update(output=str(out), seconds=round(seconds, 3), frames=count, model=options.model)
        if count:
            report.succeed(f"{folder} → {out} ({count} frames, {seconds:.1f} s)", **record)
        else:
            report.skip(f"{folder} skipped: all its frames exist in {out}", **record)


def _one_folder(folder: Path, options: Options, report: Report, derainer: Derainer) -> tuple[int, Path]:
    from derain.video.clip import derain_frames

    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; --frames takes folders of pictures")
    out = options.output
    if out is None:
        out = folder.with_name(f"{folder.resolve().name}_derained")
    elif len(options.inputs) > 1:
        out = out / folder.resolve().name
    if out.suffix.lower() in FORMATS or out.is_file():
        raise OutputError(f"{out}: names a file; give a folder for the frames")
    sources, errors = find_sources([str(folder)], recursive=False, exclude=out)
    if errors:
        raise errors[0]
    goals = targets(sources, out / "")
    for danger in refuse_dangerous(sources, goals):
        if danger is not None:
            raise danger
    exists = [goal.exists() for goal in goals]
    if any(exists) and not (options.overwrite or options.skip_existing):
        raise OutputError(
            f"{goals[exists.index(True)]}: exists already; add --overwrite, or --skip-existing to go on after a stop"
        )
    wanted = [not (there and options.skip_existing) for there in exists]
    last = 0
    with report.progress(sum(wanted), folder.name, "fps") as bar:

        def on_frame(done: int, _total: int) -> None:
            nonlocal last
            bar.advance(done - last)
            last = done

        derain_frames(
            [s.path for s in sources],
            goals,
            derainer,
            with_neighbors=not options.frame_by_frame,
            strength=options.strength,
            quality=options.quality,
            wanted=wanted,
            on_frame=on_frame,
        )
    return sum(wanted), out
