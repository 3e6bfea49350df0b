"""Files written whole or not at all, and their checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from derain.errors import OutputError

#: How temporary files and folders begin; they lie beside what they become, so that a rename is atomic.
TEMPORARY_PREFIX = ".derain-"


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output path that exists.

    Raises:
        OutputError: it does, and ``overwrite`` is off.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; add --overwrite or choose another output")


@contextlib.contextmanager
def atomic_path(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends without an error.

    Args:
        path: the file to be written; its folder is made.
        overwrite: replace an existing file.

    Yields:
        An empty file with the same suffix.

    Raises:
        OutputError: the file exists and ``overwrite`` is off, or it cannot be written.
    """
    check_output(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another output folder") from None
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:  # Pillow's encoders give no strerror
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another folder"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """An open binary file that becomes ``path`` when the block ends without an error; see :func:`atomic_path`."""
    # Opened by its name, not by descriptor: tifffile wants a file that knows its name.
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("w+b") as file:
        yield file


def write_bytes(data: bytes, path: Path, *, overwrite: bool = True) -> None:
    """Write bytes atomically; see :func:`atomic_path`."""
    with atomic_write(path, overwrite=overwrite) as file:
        file.write(data)


def write_text(text: str, path: Path, *, overwrite: bool = True) -> None:
    """Write UTF-8 text atomically; see :func:`atomic_path`."""
    write_bytes(text.encode(), path, overwrite=overwrite)


def write_json(content: Any, path: Path, *, overwrite: bool = True) -> None:
    """Write plain data as JSON atomically; see :func:`atomic_path`."""
    write_text(json.dumps(content, indent=1, ensure_ascii=False), path, overwrite=overwrite)


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
