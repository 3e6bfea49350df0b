"""Console output of a command: a line per file, progress, a summary, JSON on request, and interrupts."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from derain.errors import DerainError
from derain.streams import to_json

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

#: Seconds between progress lines where stderr is no terminal.
LOG_INTERVAL = 30.0


class Report:
    """Counts outcomes and prints them; safe to call from several threads.

    Args:
        quiet: print errors only.
        as_json: print one JSON object per file on stdout instead of text.
        debug: print tracebacks of errors.
        to_stderr: stdout carries image bytes, so everything goes to stderr.
    """

    def __init__(self, quiet: bool = False, debug: bool = False, *, as_json: bool = False, to_stderr: bool = False):
        self.quiet = quiet
        self.as_json = as_json
        self.debug = debug
        self.stream = sys.stderr if to_stderr else sys.stdout
        self.done = self.skipped = self.failed = 0
        self._lock = threading.Lock()
        self._display: Progress | None = None

    @contextmanager
    def progress(self, total: float | None, what: str, unit: str = "", *, keep: bool = False) -> Iterator[ProgressBar]:
        """A bar on stderr with rate and remaining time, or without a terminal a log line every 30 seconds.

        Args:
            total: number of items; ``None`` if it stays unknown, 0 if it is set with the first update.
            what: description, such as ``deraining``.
            unit: of the rate, such as ``fps``.
            keep: leave the bar on the terminal when it ends.
        """
        bar = ProgressBar(what, total, unit)
        if self.quiet:
            yield bar
        elif sys.stderr.isatty():
            with _display(bar, keep) as display:
                self._display = display
                try:
                    yield bar
                finally:
                    self._display = None
        else:
            with _log_regularly(bar.line):
                yield bar

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """For work without countable steps: a spinner, or without a terminal a log line every 30 seconds."""
        if self.quiet or not sys.stderr.isatty():
            with self.progress(None, what):
                yield
        else:
            from rich.console import Console

            with Console(stderr=True).status(what):
                yield

    @contextmanager
    def catch(self, **record: Any) -> Iterator[dict[str, Any]]:
        """Report an error of the block as the failure of a file; yields the file's record."""
        try:
            yield record
        except typer.Exit:
            raise
        except Exception as error:
            self.fail(error, **record)

    def succeed(self, line: str, **record: Any) -> None:
        """Count and print a finished file."""
        with self._lock:
            self.done += 1
            self._print_record(line, record)

    def skip(self, line: str, **record: Any) -> None:
        """Count and print a file that was skipped on purpose."""
        with self._lock:
            self.skipped += 1
            self._print_record(line, {**record, "skipped": True})

    def fail(self, error: BaseException, **record: Any) -> None:
        """Count a failed file; its reason goes to stderr, even when quiet."""
        with self._lock:
            self.failed += 1
            text = describe(error)
            if self.debug:
                traceback.print_exception(error, file=sys.stderr)
            self._print(f"error: {text}", sys.stderr)
            if self.as_json:
                self._print(to_json({**record, "error": text}, sys.stdout), sys.stdout)

    def note(self, line: str) -> None:
        """Print a remark that belongs to no file."""
        if not (self.quiet or self.as_json):
            with self._lock:
                self._print(line, self.stream)

    def close(self, verb: str) -> int:
        """Print the summary of several files; returns the exit code: 1 if a file failed."""
        if self.done + self.skipped + self.failed > 1:
            counts = (self.done, verb), (self.skipped, "skipped"), (self.failed, "failed")
            self.note(", ".join(f"{count} {what}" for count, what in counts if count or what == verb))
        return 1 if self.failed else 0

    def _print_record(self, line: str, record: dict[str, Any]) -> None:
        if self.as_json:
            self._print(to_json(record, self.stream), self.stream)
        elif not self.quiet:
            self._print(line, self.stream)

    def _print(self, line: str, stream: Any) -> None:
        if self._display is not None and stream.isatty():
            # Through the bar's console, so that the bar stays below the lines.
            self._display.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=stream, flush=True)


class ProgressBar:
    """How much of a task is done, with its rate; shown by :meth:`Report.progress`."""

    def __init__(self, what: str, total: float | None, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0.0
        self.detail = ""
        self.on_change: Callable[[], None] = lambda: None
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, amount: float = 1) -> None:
        """Move on by an item or a part of one."""
        with self._lock:
            self.done += amount
        self.on_change()

    def update(self, done: float, total: float, detail: str) -> None:
        """Set everything; a detail such as a loss is shown in place of the rate."""
        self.done, self.total, self.detail = done, total, detail
        self.on_change()

    @contextmanager
    def item(self) -> Iterator[Callable[[int, int], None]]:
        """One item; yields a callback for (steps done, steps in total). In the end the item counts as done."""
        shown = 0.0

        def on_step(done: int, total: int) -> None:
            nonlocal shown
            self.advance(done / total - shown)
            shown = done / total

        try:
            yield on_step
        finally:
            on_step(1, 1)

    def rate(self, speed: float | None) -> str:
        """Items per second as text."""
        if not speed:
            return ""
        if self.unit:
            return f"{speed:.2g} {self.unit}"
        return f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"

    def line(self) -> str:
        """The state as a line of a log; empty if there is nothing to do yet."""
        seconds = time.monotonic() - self._start
        if self.total == 0:
            return ""
        if self.total is None:
            return f"{self.what}: {seconds:.0f} s"
        parts = (f"{self.what}: {int(self.done + 1e-6)}/{self.total:g}", self.detail, self.rate(self.done / seconds))
        return ", ".join(filter(None, parts))


@contextmanager
def _display(bar: ProgressBar, keep: bool) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    texts = TextColumn("{task.description}"), TextColumn("{task.fields[rate]}")
    columns = (texts[0], BarColumn(), MofNCompleteColumn(), texts[1], TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=not keep) as display:
        task = display.add_task(bar.what, total=bar.total, rate="")

        def show() -> None:
            display.update(task, completed=bar.done, total=bar.total)
            display.update(task, rate=bar.detail or bar.rate(display.tasks[0].speed))

        bar.on_change = show
        yield display


@contextmanager
def _log_regularly(line: Callable[[], str]) -> Iterator[None]:
    stop = threading.Event()

    def log() -> None:
        while not stop.wait(LOG_INTERVAL):
            if text := line():
                print(text, file=sys.stderr, flush=True)

    thread = threading.Thread(target=log, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl-C does; both end the command with exit code 130."""

    def interrupt(_signum: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, interrupt) if in_main else None
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; finished files are kept, nothing is half-written", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, previous)


def wrong_usage(message: str) -> typer.Exit:
    """Print what is wrong with the arguments; returns the exit to raise."""
    print(f"error: {message}", file=sys.stderr)
    return typer.Exit(2)


def new_table(title: str, headings: Sequence[str], left: Collection[str]) -> Table:
    """An empty table of right-aligned columns, except those named in ``left``."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
    return table


def describe(error: BaseException) -> str:
    """An error as one line for a user."""
    if isinstance(error, DerainError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "not enough memory" in text or "out of memory" in text:
        return "not enough memory for this image; add --tile 512 or reduce the image"
    return f"unexpected {type(error).__name__}: {text or 'no further text'}; run again with --debug and report it"
