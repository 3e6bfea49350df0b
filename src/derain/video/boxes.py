"""Descriptions that FFmpeg reads but PyAV cannot write, copied between MP4 or MOV files as they are.

These are boxes of the video track: Google's spherical video (version 1: a ``uuid`` box in the track, version 2:
``st3d`` and ``sv3d`` in the sample description), and HDR's static metadata (``mdcv``, ``clli``). Box layout:
ISO/IEC 14496-12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SPHERICAL = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
_IN_SAMPLE = frozenset({b"st3d", b"sv3d", b"mdcv", b"clli"})
_SAMPLE_FIELDS = 78  # bytes of a video sample description before its boxes
_MAX_MOOV = 2**28  # bytes of an index that is read into memory


@dataclass(frozen=True)
class _Box:
    """A box in a file or in bytes: its kind, and where it, its content and what follows begin."""

    kind: bytes
    start: int
    content: int
    end: int


@dataclass(frozen=True)
class _Track:
    """The boxes from ``moov`` down to the sample description of the video track."""

    track: _Box
    sample: _Box
    parents: tuple[_Box, ...]  # of the sample description, the outermost first, with the track


def copy_descriptions(source: Path, target: Path) -> bool:
    """Copy what the source's video track has and the target's lacks; other files than MP4 and MOV have nothing.

    Args:
        source: the clip that was read.
        target: the MP4 or MOV file to change, whose index is at its end.

    Returns:
        Whether something was added.
    """
    found = _read_index(source)
    own = _read_index(target)
    if found is None or own is None or own[2].end != target.stat().st_size:
        return False
    (data, old, _), (index, new, place) = found, own
    in_track = b""
    if not any(True for _ in _of_track(index, new.track)):
        in_track = b"".join(data[b.start : b.end] for b in _of_track(data, old.track))
    present = {b.kind for b in _of_sample(index, new.sample)}
    in_sample = b"".join(data[b.start : b.end] for b in _of_sample(data, old.sample) if b.kind not in present)
    if not in_track and not in_sample:
        return False
    changed = bytearray(index)
    changed[new.track.end : new.track.end] = in_track
    changed[new.sample.end : new.sample.end] = in_sample
    for box in new.parents:
        size = box.end - box.start + len(in_sample) + (len(in_track) if box.start <= new.track.start else 0)
        changed[box.start : box.start + 4] = size.to_bytes(4, "big")
    with target.open("r+b") as file:
        file.seek(place.start)
        file.write(changed)
    return True


def has_projection(path: Path) -> bool:
    """Whether an MP4 or MOV file describes a spherical projection."""
    found = _read_index(path)
    if found is None:
        return False
    data, track, _ = found
    return any(True for _ in _of_track(data, track.track)) or any(
        b.kind == b"sv3d" for b in _of_sample(data, track.sample)
    )


def _read_index(path: Path) -> tuple[bytes, _Track, _Box] | None:
    """The bytes of ``moov``, the video track in them, and where the box lies in the file; ``None`` if there is none."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        position = 0
        while position + 8 <= size:
            file.seek(position)
            box = _parse(file.read(16), 0, position, size)
            if box is None:
                return None
            if box.kind == b"moov" and box.end - box.start <= _MAX_MOOV:
                file.seek(box.start)
                data = file.read(box.end - box.start)
                track = _video_track(data)
                return (data, track, box) if track is not None else None
            position = box.end
    return None


def _parse(data: bytes, at: int, offset: int, limit: int) -> _Box | None:
    """The box whose header is at ``at``, which is ``offset`` in the file; ``None`` if damaged."""
    size, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
    if size == 1:
        size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
    elif size == 0:
        size = limit - offset
    if size < header or offset + size > limit or len(kind) < 4:
        return None
    return _Box(kind, offset, offset + header, offset + size)


def _children(data: bytes, parent: _Box, skip: int = 0) -> Iterator[_Box]:
    position = parent.content + skip
    while position + 8 <= parent.end:
        box = _parse(data, position, position, parent.end)
        if box is None:
            return
        yield box
        position = box.end


def _child(data: bytes, parent: _Box, kind: bytes) -> _Box | None:
    return next((b for b in _children(data, parent) if b.kind == kind), None)


def _video_track(data: bytes) -> _Track | None:
    """The first video track with a sample description."""
    moov = _parse(data, 0, 0, len(data))
    for track in _children(data, moov) if moov is not None else ():
        if track.kind != b"trak":
            continue
        path = [track]
        for kind in (b"mdia", b"minf", b"stbl", b"stsd"):
            box = _child(data, path[-1], kind)
            if box is None:
                break
            path.append(box)
        handler = _child(data, path[1], b"hdlr") if len(path) == 5 else None
        if handler is None or data[handler.content + 8 : handler.content + 12] != b"vide":
            continue
        sample = next(_children(data, path[-1], 8), None)
        if sample is not None and moov is not None:
            return _Track(track, sample, (moov, *path, sample))
    return None


def _of_track(data: bytes, track: _Box) -> Iterator[_Box]:
    for box in _children(data, track):
        if box.kind == b"uuid" and data[box.content : box.content + 16] == _SPHERICAL:
            yield box


def _of_sample(data: bytes, sample: _Box) -> Iterator[_Box]:
    return (b for b in _children(data, sample, _SAMPLE_FIELDS) if b.kind in _IN_SAMPLE)
