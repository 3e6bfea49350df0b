"""Files written whole or not at all, and their checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from derain.errors import OutputError

#: How temporary files and folders begin; they lie beside what they become, so that a rename is atomic.
TEMPORARY_PREFIX = ".derain-"
# What follows: the machine, the process, when it was started (empty where that is unknown), random characters.
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"([0-9a-f]{8})-(\d+)-(\d*)-.")
_ABANDONED = 86_400  # seconds after which a temporary file of another machine is nobody's

_umask_lock = threading.Lock()


def output_exists(path: Path) -> bool:
    """Whether an output path is taken.

    Raises:
        OutputError: no file can be there: its name is too long, or its folder may not be searched.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another name or folder") from None
    return True


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output path that exists.

    Raises:
        OutputError: it does, and ``overwrite`` is off; or no file can be there.
    """
    if output_exists(path) and not overwrite:
        raise OutputError(f"{path}: exists already; add --overwrite or choose another output")


def temporary_prefix() -> str:
    """How the names of this process's temporary files and folders begin; :func:`remove_stale` recognizes them."""
    pid = os.getpid()
    return f"{TEMPORARY_PREFIX}{_machine()}-{pid}-{_start_of(pid) or ''}-"


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is a temporary one of any derain process."""
    return _TEMPORARY.match(path.name) is not None


def remove_stale(folder: Path) -> None:
    """Delete the temporary files and folders in a folder whose process is gone, such as a killed one.

    Those of running processes stay; those of other machines too, until they have not changed for a day.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.match(entry.name)
            if match is None or not _is_stale(entry, *match.groups()):
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)


def _is_stale(entry: os.DirEntry[str], machine: str, pid: str, start: str) -> bool:
    if machine != _machine():
        with contextlib.suppress(OSError):
            return time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED
        return False
    now = _start_of(int(pid))
    return now is None or (bool(now and start) and now != start)  # the number may belong to a new process


@lru_cache(maxsize=1)
def _machine() -> str:
    """Eight digits for the host and the space of its process numbers (a container has its own)."""
    name = platform.node()
    with contextlib.suppress(OSError):
        name += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]


def _start_of(pid: int) -> str | None:
    """When a process of this machine was started, in the kernel's ticks; empty if unknown, ``None`` if it is gone."""
    if not _is_running(pid):
        return None
    try:
        # The name of the program, in parentheses, may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()
    except (OSError, IndexError):
        return ""


if sys.platform == "win32":

    def _is_running(pid: int) -> bool:
        import ctypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = kernel.OpenProcess(0x00100000, False, pid)  # SYNCHRONIZE
        if not handle:
            return ctypes.get_last_error() == 5  # access denied: a process of another user
        is_running: bool = kernel.WaitForSingleObject(handle, 0) != 0
        kernel.CloseHandle(handle)
        return is_running

else:

    def _is_running(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # of another user
            return True
        return True


@lru_cache(maxsize=256)
def _remove_stale_once(folder: Path) -> None:
    remove_stale(folder)


@contextlib.contextmanager
def atomic_path(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends without an error.

    What killed processes left in the folder is removed, once per process.

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
        _remove_stale_once(path.parent)
        handle, name = tempfile.mkstemp(prefix=temporary_prefix(), suffix=path.suffix, dir=path.parent)
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
    # File names that are not UTF-8 appear as \udcff, which is also how JSON writes them.
    write_bytes(text.encode(errors="backslashreplace"), path, overwrite=overwrite)


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


def what_instead(path: Path) -> str | None:
    """What a file holds that only stands for another file, and how to get that one; ``None`` for everything else.

    Pointers of Git LFS and git-annex, and pages that a web site sends in place of a download, are saved under the
    name of the file that was wanted.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    except OSError:
        return None
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file itself; run `git lfs pull` in its repository, or download the file"
    if b"annex/objects/" in head.split(b"\n", 1)[0]:
        return "a git-annex pointer, not the file itself; run `git annex get` in its repository"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page (for signing in, or an error), not the file itself; download it again in a browser"
    return None


def _umask() -> int:
    with _umask_lock:  # two threads at once would leave it at 0
        current = os.umask(0)
        os.umask(current)
    return current
