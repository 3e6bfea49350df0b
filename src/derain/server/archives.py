"""ZIP in, ZIP out. The archive is checked before it is opened; entries come and go one at a time."""

from __future__ import annotations

import asyncio
import json
import struct
import time
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import IO, Any

from .engine import Engine
from .errors import RequestRejected
from .pictures import RequestOptions, look
from .settings import Settings

_END = b"PK\x05\x06"
_END_LENGTH = 22
_LOCATOR_64 = b"PK\x06\x07"
_ENTRY_BYTES = 1024  # generous for one entry of the directory: 46 bytes, its name, its extra fields
_UNPACKS_TO = 8  # times the most that the ZIP itself may have
_REPORT = "report.json"


def open_archive(file: IO[bytes], settings: Settings) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    """Open an uploaded ZIP and list the files in it.

    Args:
        file: at any place, seekable.
        settings: the limits.

    Raises:
        Refusal: 415 no ZIP, 413 too many files or too much in them, 422 damaged, or nothing in it.
    """
    _check_directory(file, settings.max_entries)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OSError) as error:
        raise RequestRejected(422, f"the ZIP is damaged ({error}); pack it again") from None
    entries = [entry for entry in archive.infolist() if _is_wanted(entry)]
    if not entries:
        raise RequestRejected(422, "the ZIP holds no files; pack some pictures into it")
    if len(entries) > settings.max_entries:
        raise _too_many(settings.max_entries)
    limit = _UNPACKS_TO * settings.max_batch_bytes
    if sum(entry.file_size for entry in entries) > limit:
        raise RequestRejected(413, f"the ZIP unpacks to more than {limit / 2**20:.4g} MiB; split it")
    return archive, entries


def _check_directory(file: IO[bytes], max_entries: int) -> None:
    """Refuse a directory that would fill the memory when it is read."""
    length = file.seek(0, 2)
    start = max(0, length - _END_LENGTH - 65_535)
    file.seek(start)
    tail = file.read()
    place = len(tail) - _END_LENGTH
    if place < 0 or tail[place : place + 4] != _END or tail[-2:] != b"\0\0":
        place = tail.rfind(_END)
    if place < 0 or place + _END_LENGTH > len(tail):
        raise RequestRejected(415, "not a ZIP; send the bytes of a ZIP file")
    if tail[max(0, place - 20) : place].startswith(_LOCATOR_64):
        raise RequestRejected(422, "a ZIP64 archive; pack fewer pictures, without ZIP64")
    count, size = struct.unpack_from("<HI", tail, place + 10)
    if count > 2 * max_entries or size > 2 * max_entries * _ENTRY_BYTES:  # twice: folders and macOS's companions
        raise _too_many(max_entries)


def _too_many(limit: int) -> RequestRejected:
    return RequestRejected(413, f"the ZIP holds more than {limit} files; split it")


def _is_wanted(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename).parts
    return not entry.is_dir() and bool(parts) and parts[0] != "__MACOSX" and not parts[-1].startswith(".")


def safe_name(name: str) -> str:
    """A name for an answer's entry that stays inside any folder it is unpacked to."""
    cleaned = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in name.replace("\\", "/"))
    parts = [part.strip(" ") for part in cleaned.split("/")]
    kept = [part[:100] for part in parts if part.strip(".")]
    return "/".join(kept[-8:]) or "picture"


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int, name: str) -> bytes:
    """One entry's bytes.

    Raises:
        Refusal: too large, encrypted, packed in a rare way, or damaged.
    """
    if entry.flag_bits & 1:
        raise RequestRejected(422, f"{name} is encrypted; pack it without a password")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RequestRejected(422, f"{name} is packed in a rare way; pack it with plain ZIP compression")
    if entry.file_size > limit:
        raise RequestRejected(413, f"{name} is larger than {limit / 2**20:.4g} MiB; reduce it first")
    try:
        with archive.open(entry) as file:
            return file.read(limit)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, struct.error) as error:
        raise RequestRejected(422, f"{name} is damaged in the ZIP ({error}); pack it again") from None
    except (RuntimeError, NotImplementedError) as error:
        raise RequestRejected(422, f"{name} cannot be unpacked ({error}); pack it again") from None


class _Outbox:
    """What ``zipfile`` writes to; the bytes are taken out as they come."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


async def derain_archive(
    archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], engine: Engine, wish: RequestOptions
) -> AsyncIterator[bytes]:
    """The bytes of a ZIP with the derained pictures and ``report.json``, as they get done.

    An entry that fails is told in the report, and the rest goes on.
    """
    outbox = _Outbox()
    report: list[dict[str, Any]] = []
    taken: set[str] = set()
    with zipfile.ZipFile(outbox, "w") as answer:  # type: ignore[call-overload]
        for entry in entries:
            name = safe_name(entry.filename)
            start = time.perf_counter()
            line: dict[str, Any] = {"input": name}
            try:
                settings = engine.settings
                data = await asyncio.to_thread(_read, archive, entry, settings.max_bytes, name)
                await asyncio.to_thread(look, data, max_pixels=settings.max_pixels, name=name)
                result = await engine.run(data, wish, name=name, patient=True)
            except RequestRejected as refusal:
                line.update(status=refusal.status, error=refusal.message)
            else:
                goal = _free_name(name, result.suffix, wish.format, taken)
                answer.writestr(zipfile.ZipInfo(goal), result.data)
                line.update(status=200, output=goal, size=list(result.size))
                yield outbox.take()
            line["seconds"] = round(time.perf_counter() - start, 3)
            report.append(line)
        answer.writestr(zipfile.ZipInfo(_REPORT), json.dumps(report, indent=2, ensure_ascii=False))
    yield outbox.take()


def _free_name(name: str, suffix: str, wished: str, taken: set[str]) -> str:
    """The entry's name with the suffix of what is in it; numbered if an earlier result has it."""
    path = PurePosixPath(name)
    same = wished == "same" and path.suffix.lower().lstrip(".") in _SUFFIXES_OF.get(suffix, (suffix,))
    ending = path.suffix if same else f".{suffix}"
    goal = str(path.with_suffix(ending)) if path.suffix else f"{name}{ending}"
    number = 1
    while goal.lower() in taken:
        number += 1
        goal = str(path.with_name(f"{path.stem}-{number}{ending}"))
    taken.add(goal.lower())
    return goal


_SUFFIXES_OF = {"jpg": ("jpg", "jpeg"), "tif": ("tif", "tiff")}
