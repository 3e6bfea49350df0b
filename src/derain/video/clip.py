"""Deraining a clip: frames through the network and temporal fusion, in segments that survive an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from derain._version import __version__
from derain.arrays import FloatArray
from derain.errors import InputError
from derain.files import check_output

from .containers import ReadOptions
from .encoding import Encoding, choose_encoding
from .formats import has_alpha, planar_format
from .fusion import RADIUS
from .muxer import write_clip
from .reader import Clip, Span, announces_alpha
from .segments import SegmentStore, SegmentWriter
from .sequence import FrameNetwork, OnFrame, blend, consecutive_runs, restore_sequence
from .target import Target, choose_target
from .yuv import SourceFrame

#: Frames of a segment: the most that an interruption may lose, and the largest distance of key frames.
SEGMENT_FRAMES = 100


@dataclass(frozen=True)
class Settings:
    """How a clip is derained.

    Attributes:
        codec, crf: see :func:`~derain.video.encoding.choose_encoding`.
        start, end: seconds from the first frame, or ``None``.
        temporal_fuse: fuse each frame with its neighbors; else frame by frame.
        compare: also write a split-screen clip of which the left half shows the source.
        strength: 0 gives the source frames, 1 the derained ones, values between a blend.
    """

    codec: str | None = None
    crf: int | None = None
    start: float | None = None
    end: float | None = None
    temporal_fuse: bool = True
    compare: bool = False
    strength: float = 1.0


@dataclass(frozen=True)
class Result:
    """What was written.

    Attributes:
        frames: of the new clip.
        resumed: of these, frames that an interrupted run had finished.
        size: width and height of the new clip as stored, pixels.
        compare: the split-screen clip, or ``None``.
        notes: what differs from the source besides the pixels, a sentence each.
    """

    frames: int
    resumed: int
    size: tuple[int, int]
    compare: Path | None
    notes: list[str]


def parts_folder(output: Path) -> Path:
    """Where the finished segments of an unfinished clip are kept."""
    return output.with_name(f"{output.name}.parts")


def comparison_path(output: Path) -> Path:
    """The path of the split-screen clip."""
    return output.with_name(f"{output.stem}_compare{output.suffix}")


def derain_clip(
    source: Path,
    output: Path,
    network: FrameNetwork,
    settings: Settings = Settings(),
    *,
    identity: str = "",
    overwrite: bool = False,
    on_frame: OnFrame | None = None,
    reading: ReadOptions | None = None,
) -> Result:
    """Derain a clip; sound, subtitles, times, rotation and color description stay as they were.

    Frames are processed one by one, so memory does not grow with the clip. Finished segments are kept in
    :func:`parts_folder` and reused by the same call after an interruption; the result equals that of an
    uninterrupted run. The output is written atomically.

    Args:
        source: any clip that FFmpeg reads.
        output: the file to write; its suffix determines the container.
        network: maps ``(H, W, 3)`` RGB in [0, 1], upright, to the same.
        settings: how to derain.
        identity: distinguishes networks and their settings, so that their segments are not mixed.
        overwrite: replace existing files.
        on_frame: called with (frames done, frames in total) at the start and after each frame.
        reading: how the source is opened and decoded.

    Raises:
        InputError: not a clip, without frames, or no frame in the range.
        OutputError: the output exists, cannot be written or cannot hold the clip.
    """
    clip = Clip(source, reading)
    span, first, stop = _select_frames(clip, settings)
    encoding = choose_encoding(clip, output, settings.codec, settings.crf)
    target = choose_target(clip, encoding, output, span)
    comparison = comparison_path(output) if settings.compare else None
    for path in (output, comparison):
        if path is not None:
            check_output(path, overwrite)
    starts = range(first, stop, SEGMENT_FRAMES)
    store = SegmentStore(parts_folder(output), _plan(clip, encoding, settings, identity, first, stop))
    missing = [i for i in range(len(starts)) if not store.has(i)]
    total = stop - first
    resumed = done = total - sum(min(starts[i] + SEGMENT_FRAMES, stop) - starts[i] for i in missing)
    if on_frame is not None:
        on_frame(done, total)
    for run in consecutive_runs(missing):
        begin, end = starts[run[0]], min(starts[run[-1]] + SEGMENT_FRAMES, stop)
        limits = [(i, _time(clip, min(starts[i] + SEGMENT_FRAMES, end))) for i in run]
        writer = SegmentWriter(store, encoding, limits, compare=settings.compare)
        for frame, result in _restored(clip, encoding, network, settings, begin, end):
            writer.add(frame, result)
            done += 1
            if on_frame is not None:
                on_frame(min(done, total), total)
        writer.close()
    write_clip(clip, encoding, target, store.segments(len(starts), "frames"), output, span)
    if comparison is not None:
        write_clip(clip, encoding, target, store.segments(len(starts), "sheet"), comparison, span)
    store.remove()
    size = (encoding.width, encoding.height)
    return Result(done, resumed, size, comparison, _notes(clip, encoding, target, output))


def _time(clip: Clip, index: int) -> int | None:
    """The time of a frame, ticks; ``None`` after the last one."""
    return int(clip.times[index]) if index < len(clip.times) else None


def _restored(
    clip: Clip, encoding: Encoding, network: FrameNetwork, settings: Settings, begin: int, end: int
) -> Iterator[tuple[SourceFrame, FloatArray]]:
    """Frames ``begin`` to before ``end`` with their results; neighbors outside are read for the fusion only."""
    margin = RADIUS if settings.temporal_fuse else 0
    decoded = clip.frames(int(clip.times[max(0, begin - margin)]), _time(clip, end + margin))
    frames = (encoding.source_frame(time, frame) for time, frame in decoded)
    stop = _time(clip, end)
    for frame, result in restore_sequence(frames, lambda item: network(item.rgb), fuse=settings.temporal_fuse):
        if frame.time >= clip.times[begin] and (stop is None or frame.time < stop):
            yield frame, blend(frame.rgb, result, settings.strength)


def _select_frames(clip: Clip, settings: Settings) -> tuple[Span, int, int]:
    """The span in seconds, and its frames: the first, and the one after the last."""
    if settings.start is None and settings.end is None:
        return Span(), 0, len(clip.times)
    time_base = clip.properties.time_base
    zero = int(clip.times[0]) * time_base
    ticks = int(clip.times[-1]) - int(clip.times[0]) + clip.duration(int(clip.times[-1]))
    length = float(ticks * time_base)

    def index(seconds: float) -> int:
        return int(np.searchsorted(clip.times, float((zero + Fraction(seconds)) / time_base) - 1e-6))

    first = index(settings.start) if settings.start is not None else 0
    stop = index(settings.end) if settings.end is not None else len(clip.times)
    if stop <= first:
        raise InputError(
            f"{clip.path}: no frame lies between --start {settings.start or 0:g} and --end "
            f"{settings.end if settings.end is not None else length:g}; the clip is {length:.2f} s long"
        )
    start = int(clip.times[first]) * time_base if settings.start is not None else None
    end = int(clip.times[stop]) * time_base if stop < len(clip.times) else None
    return Span(start, end, start or Fraction(0)), first, stop


def _plan(clip: Clip, encoding: Encoding, settings: Settings, identity: str, first: int, stop: int) -> dict[str, Any]:
    """Everything that a segment depends on, as plain data."""
    file = clip.path.stat()
    return {
        "derain": __version__,
        "source": [clip.path.name, file.st_size, file.st_mtime_ns],
        "range": [first, stop, SEGMENT_FRAMES],
        "settings": asdict(replace(settings, start=None, end=None)),
        "encoding": repr(encoding),
        "network": identity,
    }


def _notes(clip: Clip, encoding: Encoding, target: Target, output: Path) -> list[str]:
    """What differs from the source besides the pixels, for the user."""
    notes = list(target.notes)
    source = clip.properties
    if (encoding.width, encoding.height) != (source.width, source.height):
        notes.append(
            f"{encoding.encoder} needs even dimensions: {source.width}×{source.height} became "
            f"{encoding.width}×{encoding.height} by repeating the last row or column; "
            "--codec vp9 or ffv1 keeps odd ones"
        )
    if encoding.planar != planar_format(source.pix_fmt):
        notes.append(f"{encoding.encoder} does not support {source.pix_fmt}: written as {encoding.pix_fmt}")
    if announces_alpha(clip.stream_metadata) and not has_alpha(source.pix_fmt):
        notes.append("this PyAV cannot read the transparency of VP8 and VP9: it is lost")
    if has_alpha(source.pix_fmt) and not has_alpha(encoding.pix_fmt):
        where = f"{encoding.encoder} in {output.suffix}"
        notes.append(f"{where} does not keep transparency: it is lost; .mkv with --codec ffv1 keeps it")
    if source.display is not None and output.suffix.lower() == ".ts":
        notes.append(".ts cannot hold the rotation: frames are written as they were stored")
    if clip.damaged:
        notes.append(f"{clip.damaged} damaged packets of the source were left out")
    return notes
