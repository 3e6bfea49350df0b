"""Standard output and standard error that never stop a command: any characters, a full disk, a closed pipe."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

#: What stands for characters of our own lines where the encoding has none for them.
_PLAIN = {"→": "->", "×": "x", "…": "...", "–": "-", "−": "-", "≥": ">=", "≤": "<="}
_ERRORS = "derain"  # the name under which codecs know _replace


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: plain substitutes, ``\\xff`` for bytes of file names that are not UTF-8, else escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_escape, text)), error.end


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode()


codecs.register_error(_ERRORS, _replace)


class _Output(io.RawIOBase):
    """A raw stream that after an error drops what is written, and keeps the error.

    Args:
        raw: what to write to; ``None`` if the process was started without it.

    Attributes:
        error: the first error, or ``None``.
        is_reported: whether somebody else reports the error.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.error = OSError(errno.EBADF, os.strerror(errno.EBADF)) if raw is None else None
        self.is_reported = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno()) if self._raw is not None else super().fileno()

    def isatty(self) -> bool:
        return self._raw is not None and bool(self._raw.isatty())

    def write(self, data: Any) -> int:
        while self.error is None:
            try:
                written = self._raw.write(data)
                if written is not None:
                    return int(written)
                select.select([], [self._raw], [])  # a pipe that does not block, and is full
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


@contextmanager
def safe_streams() -> Iterator[Callable[[int], int]]:
    """Replace stdout and stderr by streams to which printing never raises.

    Yields:
        A function from the command's exit code to that of the process: 1 if results on stdout were lost, except
        where their reader left or there is no stdout. Loss is reported on stderr.
    """
    for number in range(3):  # a file opened under one of these numbers would receive what libraries print
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with ExitStack() as stack:
        if sys.stdin is None:
            sys.stdin = stack.enter_context(open(os.devnull))
        stdout = stack.enter_context(_safe("stdout"))
        stack.enter_context(_safe("stderr"))

        def exit_code(code: int) -> int:
            sys.stdout.flush()
            error = stdout.error if stdout is not None and not stdout.is_reported else None
            if error is None or error.errno in (errno.EPIPE, errno.EBADF):
                return code
            print(f"error: stdout: cannot be written ({error.strerror}); send it to another place", file=sys.stderr)
            return code or 1

        yield exit_code


@contextmanager
def _safe(name: str) -> Iterator[_Output | None]:
    """Replace a stream of ``sys`` until the block ends; not one in memory."""
    before = getattr(sys, name)
    if before is not None and not hasattr(before, "buffer"):
        yield None
        return
    options: dict[str, Any] = {"encoding": "utf-8"}
    raw = None
    if before is not None:
        before.flush()
        raw = getattr(before.buffer, "raw", before.buffer)
        options = {key: getattr(before, key) for key in ("encoding", "line_buffering", "write_through")}
    output = _Output(raw)
    stream = io.TextIOWrapper(io.BufferedWriter(output), errors=_ERRORS, **options)
    setattr(sys, name, stream)
    try:
        yield output
    finally:
        stream.flush()
        setattr(sys, name, before)


def write_binary(data: bytes) -> None:
    """Write bytes to stdout.

    Raises:
        OSError: they cannot be written.
    """
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    output = getattr(sys.stdout.buffer, "raw", None)
    if isinstance(output, _Output) and output.error is not None:
        output.is_reported = True
        raise output.error


def to_json(record: dict[str, Any], stream: Any) -> str:
    """A JSON line that a stream can encode: characters that it cannot are escaped as JSON does."""
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(record)
    return text
