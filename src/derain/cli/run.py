"""``derain run``: files in, derained files out."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from derain import images
from derain.errors import DerainError, InputError, OutputError
from derain.files import write_bytes
from derain.images import Picture

from .console import ProgressBar, Report, follow
from .inputs import Source, find_sources, is_clip, is_file_target, refuse_dangerous, targets, tile_option
from .video import run_clips, run_frames

if TYPE_CHECKING:
    from derain.derainer import Derainer

_SHEET_SIDE = 1600  # longest side of one half of a before | after sheet, pixels


class FileOptions(Protocol):
    """What commands on picture files share of their options."""

    @property
    def inputs(self) -> list[str]:
        """Files, folders, globs."""

    @property
    def output(self) -> Path | None:
        """A file, a folder, or beside the input."""

    @property
    def recursive(self) -> bool:
        """Look into subfolders."""

    @property
    def overwrite(self) -> bool:
        """Replace existing outputs."""

    @property
    def skip_existing(self) -> bool:
        """Leave out inputs whose output exists."""


@dataclass(frozen=True)
class Options:
    """The command's options, as typed."""

    inputs: list[str]
    output: Path | None = None
    recursive: bool = False
    model: str = "default"
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    tile: str = "auto"
    ensemble: int = 1
    strength: float = 1.0
    adapt: bool = False
    quality: int = 95
    compare: bool = False
    frames: bool = False
    frame_by_frame: bool = False
    start: float | None = None
    end: float | None = None
    codec: str | None = None
    crf: int | None = None
    overwrite: bool = False
    skip_existing: bool = False
    jobs: int = 1
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False


def run_command(options: Options) -> int:
    """Run the command; returns the exit code."""
    piped = "-" in options.inputs
    to_stdout = (piped and options.output is None) or str(options.output) == "-"
    report = Report(quiet=options.quiet, as_json=options.as_json, debug=options.debug, to_stderr=to_stdout)
    try:
        with terminate_like_interrupt():
            if options.frames:
                return _run_folders(options, report)
            if to_stdout or piped:
                return _run_pipe(options, report)
            return _run_files(options, report)
    except KeyboardInterrupt:
        print("interrupted; finished files are kept, nothing is half-written", file=sys.stderr)
        return 130


@contextlib.contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signum: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _derainer(options: Options, report: Report) -> Derainer:
    from derain.derainer import Derainer

    tile = tile_option(options.tile)
    derainer = Derainer(
        options.model,
        device=options.device,
        precision=options.precision,
        tile=tile,
        runtime=options.runtime,
        ensemble=options.ensemble,
    )
    if options.adapt:
        derainer.learning_runtime()  # one that cannot learn is told once, not for each file
    if options.verbose:
        runtime = derainer.runtime
        report.note(f"model {options.model} on {runtime.device}, {runtime.precision}")
    return derainer


def _run_files(options: Options, report: Report) -> int:
    work = plan(options, report)
    if work is None:
        return 2
    if work:
        _check_model_name(options.model)
        derainer = _derainer(options, report)
        pictures = [item for item in work if not is_clip(item[0].path)]
        if pictures:
            with report.progress(len(pictures), "deraining") as bar:
                _Batch(derainer, options, report, bar).process(pictures)
        run_clips([item for item in work if is_clip(item[0].path)], derainer, options, report)
    return report.close("derained")


def _run_folders(options: Options, report: Report) -> int:
    """Folders of frames."""
    _check_model_name(options.model)
    run_frames(options, report, _derainer(options, report))
    return report.close("derained")


def plan(options: FileOptions, report: Report) -> list[tuple[Source, Path]] | None:
    """What to read and where each result goes; what cannot be done is reported. ``None``: wrong usage."""
    sources, errors = find_sources(options.inputs, recursive=options.recursive, exclude=options.output)
    for error in errors:
        report.fail(error)
    output = options.output
    if output is not None and len(sources) > 1 and (output.is_file() or is_file_target(output)):
        report.fail(OutputError(f"{output}: names one file, but there are {len(sources)} inputs; give a folder"))
        return None
    goals = targets(sources, output)
    work = []
    for source, goal, danger in zip(sources, goals, refuse_dangerous(sources, goals), strict=True):
        reason: DerainError | None = danger
        if not source.path.exists():
            reason = InputError(f"{source.path}: no such file; check the name")
        elif danger is None and goal.exists():
            if options.skip_existing:
                report.skip(f"{source.path} skipped: {goal} exists", input=str(source.path), output=str(goal))
                continue
            if not options.overwrite:
                reason = OutputError(f"{goal}: exists already; add --overwrite or --skip-existing")
        if reason is not None:
            report.fail(reason, input=str(source.path))
        else:
            work.append((source, goal))
    return work


def _check_model_name(model: str) -> None:
    """Tell an unknown name before torch is imported."""
    from derain.weights.store import imported_files, is_file_name, manifest

    if not is_file_name(model) and model not in imported_files():
        manifest().find(model)


class _Batch:
    """Derains files, several at a time if asked; a failure is reported and does not stop the others."""

    def __init__(self, derainer: Derainer, options: Options, report: Report, bar: ProgressBar) -> None:
        self.derainer = derainer
        self.options = options
        self.report = report
        self.bar = bar
        self.stopped = threading.Event()

    def process(self, work: list[tuple[Source, Path]]) -> None:
        """Derain everything; an interrupt ends after the tile at hand."""
        waiting = iter(work)
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self.options.jobs) as pool:
            try:
                while True:
                    # Few in flight, so that memory stays bounded.
                    while len(running) < self.options.jobs and (item := next(waiting, None)) is not None:
                        running.add(pool.submit(self._one, *item))
                    if not running:
                        return
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        future.result()
            except BaseException:
                self.stopped.set()
                raise

    def _one(self, source: Source, goal: Path) -> None:
        advance = follow(self.bar)

        def on_tile(done: int, total: int) -> None:
            if self.stopped.is_set():
                raise KeyboardInterrupt
            advance(done, total)

        options = self.options
        start = time.perf_counter()
        record: dict[str, Any] = {"input": str(source.path)}
        try:
            images.format_for(goal)  # an impossible suffix is told before the work is done
            before = images.read(source.path)
            after = _derained(self.derainer, before, options, record, on_tile)
            after.save(goal, quality=options.quality, overwrite=options.overwrite)
            if options.compare:
                sheet = goal.with_name(f"{goal.stem}_compare.jpg")
                write_bytes(_sheet(before, after), sheet, overwrite=options.overwrite)
                record["compare"] = str(sheet)
        except Exception as error:
            self.report.fail(error, **record)
        else:
            _tell(self.report, options, before, time.perf_counter() - start, str(goal), record)
        finally:
            advance(1, 1)


def _derained(
    derainer: Derainer, picture: Picture, options: Options, record: dict[str, Any], on_part: Callable[[int, int], None]
) -> Picture:
    """The picture without rain, by an adapted network if asked; what came of that goes into the record."""
    if not options.adapt:
        return derainer(picture, strength=options.strength, on_tile=on_part)
    after, tuned = derainer.adapt(picture, strength=options.strength, on_step=on_part)
    record.update(adapted=not tuned.refused, share=round(tuned.share, 2))
    if tuned.refused:
        record.update(refused=tuned.refused)
    return after


def _told(record: dict[str, Any]) -> str:
    """What the line of a file says of the adaptation."""
    if "refused" in record:
        return f": not adapted, {record['refused']}"
    if not record.get("adapted"):
        return ""
    return ": adapted" if record["share"] else ": mended in brightness alone, the rain is too dense to learn"


def _sheet(before: Picture, after: Picture) -> bytes:
    """A before | after sheet as JPEG bytes."""
    from PIL import Image, ImageOps

    def half(picture: Picture) -> Image.Image:
        whole = replace(picture, depth=8, alpha=None).to_pil()
        small = ImageOps.contain(whole, (_SHEET_SIDE, _SHEET_SIDE)) if max(whole.size) > _SHEET_SIDE else whole
        return small.convert("RGB")

    halves = [half(before), half(after)]
    width, height = halves[0].size
    gap = max(2, width // 200)
    sheet = Image.new("RGB", (2 * width + gap, height), "white")
    sheet.paste(halves[0], (0, 0))
    sheet.paste(halves[1], (width + gap, 0))
    return images.encode(images.from_pil(sheet), "JPEG", quality=90)


def _run_pipe(options: Options, report: Report) -> int:
    """One picture from stdin or a file to stdout or a file."""
    if len(options.inputs) != 1 or glob.has_magic(options.inputs[0]) or Path(options.inputs[0]).is_dir():
        print("error: a pipe takes one picture: give - or one file alone", file=sys.stderr)
        return 2
    if options.inputs[0] == "-" and sys.stdin.isatty():
        print("error: nothing is piped in; try: cat photo.jpg | derain run - > dry.jpg", file=sys.stderr)
        return 2
    name = options.inputs[0]
    output = options.output if options.output is not None and str(options.output) != "-" else None
    record: dict[str, Any] = {"input": name}
    try:
        if output is not None and not is_file_target(output):
            images.format_for(output)
            raise OutputError(f"{output}: is a folder; give the name of a picture file")
        if output is not None and output.exists() and not options.overwrite:
            raise OutputError(f"{output}: exists already; add --overwrite or choose another output")
        start = time.perf_counter()
        before = images.decode(sys.stdin.buffer.read(), name="stdin") if name == "-" else images.read(name)
        _check_model_name(options.model)
        with report.progress(1, "learning" if options.adapt else "deraining") as bar:
            after = _derained(_derainer(options, report), before, options, record, follow(bar))
        if output is not None:
            after.save(output, quality=options.quality, overwrite=options.overwrite)
        else:
            sys.stdout.buffer.write(images.encode(after, images.result_format(before), quality=options.quality))
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        report.fail(error, **record)
        return 1
    where = str(output) if output is not None else "stdout"
    _tell(report, options, before, time.perf_counter() - start, where, record)
    return 0


def _tell(
    report: Report, options: Options, picture: Picture, seconds: float, where: str, record: dict[str, Any]
) -> None:
    """A finished file, with the megapixels a second from file to file."""
    width, height = picture.size
    rate = width * height / seconds / 1e6
    spent = f"{seconds:.1f} s" + (f", {width}×{height}, {rate:.3g} megapixels/s" if options.verbose else "")
    record.update(output=where, seconds=round(seconds, 3), size=[width, height], model=options.model)
    record["megapixels_per_second"] = float(f"{rate:.3g}")
    report.succeed(f"{record['input']} → {where} ({spent})" + _told(record), **record)
