"""What a batch command says: one line a file, a progress bar, a closing line, JSON where asked."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from derain.errors import DerainError

if TYPE_CHECKING:
    from rich.progress import Progress


class Report:
    """Counts outcomes and prints them; safe to call from several threads.

    Args:
        quiet: print errors only.
        as_json: print one JSON object a file on stdout instead of text.
        debug: print tracebacks of errors.
        to_stderr: stdout carries picture bytes, so everything goes to stderr.
    """

    def __init__(self, *, quiet: bool, as_json: bool = False, debug: bool = False, to_stderr: bool = False) -> None:
        self.quiet = quiet
        self.as_json = as_json
        self.debug = debug
        self.to_stderr = to_stderr
        self.done = self.skipped = self.failed = 0
        self._lock = threading.Lock()
        self._progress: Progress | None = None

    @contextmanager
    def progress(self, total: int, what: str, unit: str = "") -> Iterator[ProgressBar]:
        """A bar with rate and remaining time on stderr, if that is a terminal; ``unit`` such as ``fps``."""
        if self.quiet or not sys.stderr.isatty():
            yield ProgressBar(None, 0, unit)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as progress:
            self._progress = progress
            try:
                yield ProgressBar(progress, progress.add_task(what, total=total, rate=""), unit)
            finally:
                self._progress = None

    def succeed(self, line: str, **record: Any) -> None:
        """A file is done."""
        with self._lock:
            self.done += 1
            self._say(line, record)

    def skip(self, line: str, **record: Any) -> None:
        """A file was left out on purpose."""
        with self._lock:
            self.skipped += 1
            self._say(line, {**record, "skipped": True})

    def fail(self, error: BaseException, **record: Any) -> None:
        """A file failed; its reason goes to stderr whatever was asked."""
        with self._lock:
            self.failed += 1
            text = describe(error)
            if self.debug:
                traceback.print_exception(error, file=sys.stderr)
            self._print(f"error: {text}", sys.stderr)
            if self.as_json:
                self._print(json.dumps({**record, "error": text}, ensure_ascii=False), sys.stdout)

    def note(self, line: str) -> None:
        """Something worth knowing that belongs to no file."""
        if not (self.quiet or self.as_json):
            with self._lock:
                self._print(line, sys.stderr if self.to_stderr else sys.stdout)

    def close(self, verb: str) -> int:
        """Print the closing line of several files; returns the exit code."""
        if self.done + self.skipped + self.failed > 1:
            parts = [f"{self.done} {verb}"]
            parts += [f"{self.skipped} skipped"] if self.skipped else []
            parts += [f"{self.failed} failed"] if self.failed else []
            self.note(", ".join(parts))
        return 1 if self.failed else 0

    def _say(self, line: str, record: dict[str, Any]) -> None:
        if self.as_json:
            self._print(json.dumps(record, ensure_ascii=False), sys.stderr if self.to_stderr else sys.stdout)
        elif not self.quiet:
            self._print(line, sys.stderr if self.to_stderr else sys.stdout)

    def _print(self, line: str, stream: Any) -> None:
        if self._progress is not None and stream.isatty():
            # Through the bar's console, so that the bar stays below the lines.
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=stream, flush=True)


class ProgressBar:
    """One task of a rich progress display, or nothing at all."""

    def __init__(self, progress: Progress | None, task: Any, unit: str) -> None:
        self._progress = progress
        self._task = task
        self._unit = unit

    def advance(self, amount: float = 1) -> None:
        """Move on by a part of a file."""
        if self._progress is None:
            return
        self._progress.advance(self._task, amount)
        speed = self._progress.tasks[0].speed
        if speed:
            rate = f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
            rate = f"{speed:.2g} {self._unit}" if self._unit else rate
            self._progress.update(self._task, rate=rate)


def follow(bar: ProgressBar) -> Callable[[int, int], None]:
    """A callback that moves a bar by one over all the steps."""
    shown = 0.0

    def on_step(done: int, total: int) -> None:
        nonlocal shown
        bar.advance(done / total - shown)
        shown = done / total

    return on_step


def describe(error: BaseException) -> str:
    """An error as one line for a user."""
    if isinstance(error, DerainError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "not enough memory" in text or "out of memory" in text:
        return "not enough memory for this picture; add --tile 512 or reduce the picture"
    return f"unexpected {type(error).__name__}: {text or 'no further text'}; run again with --debug and report it"
