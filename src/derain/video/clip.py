"""A clip derained: frames through the network and the steadying, in segments that survive a crash."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from derain import images
from derain._version import __version__
from derain.errors import InputError, OutputError
from derain.files import write_text

from .fusion import RADIUS, steady
from .reader import Clip, Encoding, Segment, Span, choose_encoding, write_clip
from .yuv import Planes, layout_of, read_planes, write_planes

if TYPE_CHECKING:
    import av

FloatArray = npt.NDArray[np.float32]
Network = Callable[[FloatArray], FloatArray]
OnFrame = Callable[[int, int], None]
Source = TypeVar("Source")

#: Frames of a segment: what a crash may cost, and the farthest distance of key frames.
SEGMENT = 100
_LINE = 2  # width of the line between both halves of a comparison, pixels


@dataclass(frozen=True)
class Settings:
    """What is asked of a clip.

    Attributes:
        codec, crf: see :func:`~derain.video.reader.choose_encoding`.
        start, end: seconds from the first frame, or ``None``.
        steady: fuse each frame with its neighbors; else frame by frame.
        compare: also write a clip of which the left half is as before.
        strength: 0 gives the frames as they were, 1 the derained ones, between them a blend.
    """

    codec: str | None = None
    crf: int | None = None
    start: float | None = None
    end: float | None = None
    steady: bool = True
    compare: bool = False
    strength: float = 1.0


@dataclass(frozen=True)
class Result:
    """What was done.

    Attributes:
        frames: in the new clip.
        resumed: of these, frames that an earlier, stopped run had finished.
        size: width and height of the new clip as stored, pixels.
        compare: the split-screen clip, or ``None``.
        notes: what is not as it was, one sentence each.
    """

    frames: int
    resumed: int
    size: tuple[int, int]
    compare: Path | None
    notes: list[str]


def parts_folder(goal: Path) -> Path:
    """Where the finished segments of an unfinished clip are kept."""
    return goal.with_name(f"{goal.name}.parts")


def comparison_of(goal: Path) -> Path:
    """The name of the split-screen clip."""
    return goal.with_name(f"{goal.stem}_compare{goal.suffix}")


def derain_clip(
    source: Path,
    goal: Path,
    network: Network,
    settings: Settings = Settings(),
    *,
    identity: str = "",
    overwrite: bool = False,
    on_frame: OnFrame | None = None,
    options: dict[str, str] | None = None,
    max_pixels: int = images.MAX_PIXELS,
) -> Result:
    """Derain a clip; sound, subtitles, times, rotation and color description stay as they were.

    Frames pass one by one, so memory does not grow with the clip. Finished segments are kept in
    :func:`parts_folder` and used when the same is asked again after a stop; the result is the one
    that an unbroken run gives. The goal appears whole or not at all.

    Args:
        source: any clip that FFmpeg reads.
        goal: the file to write; its suffix chooses the container.
        network: maps ``(H, W, 3)`` RGB in [0, 1], upright, to the same.
        settings: what is asked.
        identity: tells this network and its settings from others, so that segments are not mixed.
        overwrite: replace existing files.
        on_frame: called with (frames done, frames in all) at the beginning and after each frame.
        options: of FFmpeg's reading, such as :data:`~derain.video.reader.UNTRUSTED`.
        max_pixels: larger frames are not decoded.

    Raises:
        InputError: not a clip, without frames, or no frame in the range.
        OutputError: the goal exists, cannot be written or cannot hold this.
    """
    clip = Clip(source, options, max_pixels)
    span, first, stop = _part(clip, settings)
    encoding = choose_encoding(clip, goal, settings.codec, settings.crf)
    sheet = comparison_of(goal) if settings.compare else None
    for file in (goal, sheet):
        if file is not None and file.exists() and not overwrite:
            raise OutputError(f"{file}: exists already; add --overwrite or choose another output")
    starts = list(range(first, stop, SEGMENT))
    store = _Store(parts_folder(goal), _plan(clip, encoding, settings, identity, first, stop))
    missing = [i for i in range(len(starts)) if not store.has(i)]
    total = stop - first
    resumed = total - sum(min(starts[i] + SEGMENT, stop) - starts[i] for i in missing)
    done = resumed
    if on_frame is not None:
        on_frame(done, total)
    for run in _runs(missing):
        begin, end = starts[run[0]], min(starts[run[-1]] + SEGMENT, stop)
        margin = RADIUS if settings.steady else 0
        after = end + margin
        frames = clip.frames(
            int(clip.times[max(0, begin - margin)]), int(clip.times[after]) if after < len(clip.times) else None
        )
        limits = [int(clip.times[starts[i] + SEGMENT]) if starts[i] + SEGMENT < len(clip.times) else None for i in run]
        limits[-1] = int(clip.times[end]) if end < len(clip.times) else None
        writer = _Writer(store, encoding, run, limits, sheet is not None)
        shots = (_Shot.of(time, frame, encoding) for time, frame in frames)
        for shot, result in _paired(shots, lambda shot: network(shot.rgb), settings.steady):
            if shot.time < clip.times[begin] or (limits[-1] is not None and shot.time >= limits[-1]):
                continue
            writer.add(shot, _blend(shot.rgb, result, settings.strength))
            done += 1
            if on_frame is not None:
                on_frame(min(done, total), total)
        writer.close()
    lost = write_clip(clip, encoding, store.segments(len(starts), "frames"), goal, span)
    if sheet is not None:
        write_clip(clip, encoding, store.segments(len(starts), "sheet"), sheet, span)
    store.remove()
    return Result(done, resumed, (encoding.width, encoding.height), sheet, _notes(clip, encoding, goal, lost))


def _part(clip: Clip, settings: Settings) -> tuple[Span, int, int]:
    """The span in seconds, and the frames in it: from the first to before the last."""
    base = clip.shape.time_base
    zero = int(clip.times[0]) * base
    length = float((int(clip.times[-1]) - int(clip.times[0]) + clip.duration(int(clip.times[-1]))) * base)
    if settings.start is None and settings.end is None:
        return Span(), 0, len(clip.times)

    def index(seconds: float) -> int:
        return int(np.searchsorted(clip.times, float((zero + Fraction(seconds)) / base) - 1e-6))

    first = index(settings.start) if settings.start is not None else 0
    stop = index(settings.end) if settings.end is not None else len(clip.times)
    if stop <= first:
        raise InputError(
            f"{clip.path}: no frame lies from --start {settings.start or 0:g} to --end "
            f"{settings.end if settings.end is not None else length:g}; the clip is {length:.2f} s long"
        )
    start = int(clip.times[first]) * base if settings.start is not None else None
    end = int(clip.times[stop]) * base if stop < len(clip.times) else None
    return Span(start, end, start or Fraction(0)), first, stop


def _plan(clip: Clip, encoding: Encoding, settings: Settings, identity: str, first: int, stop: int) -> dict[str, Any]:
    """All that a segment depends on, as plain data."""
    facts = clip.path.stat()
    describe_network = replace(settings, start=None, end=None)
    return {
        "derain": __version__,
        "source": [clip.path.name, facts.st_size, facts.st_mtime_ns],
        "range": [first, stop, SEGMENT],
        "settings": asdict(describe_network),
        "encoding": repr(encoding),
        "network": identity,
    }


def _runs(numbers: list[int]) -> Iterator[list[int]]:
    """Consecutive numbers together."""
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def _notes(clip: Clip, encoding: Encoding, goal: Path, lost: list[str]) -> list[str]:
    notes = [f"its container cannot hold {what}: left out" for what in lost]
    width, height = clip.shape.width, clip.shape.height
    if (encoding.width, encoding.height) != (width, height):
        notes.append(
            f"{encoding.encoder} wants even sides: {width}×{height} became {encoding.width}×{encoding.height} by "
            "repeating the last row or column; --codec vp9 or ffv1 keeps odd sides"
        )
    if encoding.pix_fmt != clip.shape.pix_fmt:
        notes.append(f"{encoding.encoder} does not take {clip.shape.pix_fmt}: written as {encoding.pix_fmt}")
    if clip.shape.display is not None and goal.suffix.lower() == ".ts":
        notes.append(".ts cannot hold the rotation: frames lie as they were stored")
    if clip.damaged:
        notes.append(f"{clip.damaged} damaged packets of the source were left out")
    return notes


# --- frames ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shot:
    """A decoded frame: its planes in the encoder's format, and as upright RGB."""

    time: int
    planes: Planes
    frame: Any  # the decoder's, for its layout
    rgb: FloatArray

    @classmethod
    def of(cls, time: int, frame: av.VideoFrame, encoding: Encoding) -> _Shot:
        if frame.format.name != encoding.pix_fmt:
            color_range = 2 if encoding.pix_fmt.startswith("yuvj") else encoding.shape.color[0]
            moved = frame.reformat(format=encoding.pix_fmt, dst_color_range=color_range or None)
            moved.colorspace, moved.color_range = frame.colorspace, color_range
            frame = moved
        planes = read_planes(frame)
        rgb = np.clip(layout_of(frame).rgb(planes), 0, 1)
        return cls(time, planes, frame, np.ascontiguousarray(np.rot90(rgb, encoding.shape.turns)))


def _blend(before: FloatArray, after: FloatArray, strength: float) -> FloatArray:
    return after if strength == 1 else before + np.float32(strength) * (after - before)


def _paired(
    items: Iterable[Source], restore: Callable[[Source], FloatArray], with_neighbors: bool
) -> Iterator[tuple[Source, FloatArray]]:
    """Each item with what became of it, also if that comes some items later."""
    waiting: deque[Source] = deque()

    def results() -> Iterator[FloatArray]:
        for item in items:
            waiting.append(item)
            yield restore(item)

    for result in steady(results()) if with_neighbors else results():
        yield waiting.popleft(), result


class _Writer:
    """Encodes frames into the segments of one run, each as soon as it is full."""

    def __init__(
        self, store: _Store, encoding: Encoding, run: list[int], limits: list[int | None], compare: bool
    ) -> None:
        self._store, self._encoding = store, encoding
        self._left = list(zip(run, limits, strict=True))
        self._kinds = ["frames", "sheet"] if compare else ["frames"]
        self._open()

    def _open(self) -> None:
        self._encoders = {kind: self._encoding.context() for kind in self._kinds}
        self._packets: dict[str, list[av.Packet[Any]]] = {kind: [] for kind in self._kinds}

    def add(self, shot: _Shot, result: FloatArray) -> None:
        while (limit := self._left[0][1]) is not None and shot.time >= limit:
            self._finish()
        change = np.clip(result, 0, 1) - shot.rgb
        self._encode("frames", shot, change)
        if "sheet" in self._kinds:
            middle = change.shape[1] // 2
            change[:, :middle] = 0
            change[:, middle - _LINE // 2 : middle + _LINE // 2] = (
                1 - shot.rgb[:, middle - _LINE // 2 : middle + 1][:, :_LINE]
            )
            self._encode("sheet", shot, change)

    def _encode(self, kind: str, shot: _Shot, change: FloatArray) -> None:
        import av

        encoding = self._encoding
        stored = np.ascontiguousarray(np.rot90(change, -encoding.shape.turns))
        frame = av.VideoFrame(encoding.width, encoding.height, encoding.pix_fmt)
        write_planes(frame, layout_of(shot.frame).changed(shot.planes, stored))
        frame.pts, frame.time_base = shot.time, encoding.shape.time_base
        frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = encoding.shape.color
        try:
            self._packets[kind] += self._encoders[kind].encode(frame)
        except av.error.FFmpegError as error:
            raise OutputError(
                f"--codec {encoding.encoder}: refuses {encoding.width}×{encoding.height} {encoding.pix_fmt} frames "
                f"({error.strerror}); choose another"
            ) from None

    def _finish(self) -> None:
        segments = {}
        for kind, encoder in self._encoders.items():
            if encoder.is_open:
                self._packets[kind] += encoder.encode(None)
            segments[kind] = Segment.of(self._packets[kind])
        self._store.put(self._left.pop(0)[0], segments)
        if self._left:
            self._open()

    def close(self) -> None:
        """Finish what is left; segments without a frame are empty."""
        while self._left:
            self._finish()


class _Store:
    """Finished segments in a folder beside the goal, with the plan that they belong to."""

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        text = json.dumps(plan, sort_keys=True)
        file = folder / "plan.json"
        try:
            if folder.exists() and (not file.exists() or file.read_text("utf-8") != text):
                if any(p.name != "plan.json" and p.suffix != ".npz" for p in folder.iterdir()):
                    raise OutputError(f"{folder}: holds files that are not derain's; move it or choose another output")
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(text, file)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another output") from None

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def has(self, number: int) -> bool:
        return self._file(number).exists()

    def put(self, number: int, segments: dict[str, Segment]) -> None:
        arrays = {f"{kind}_{name}": value for kind, part in segments.items() for name, value in vars(part).items()}
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".npz", delete=False) as file:
                np.savez(file, **arrays)
            os.replace(file.name, self._file(number))
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be written ({error.strerror}); free some space") from None

    def segments(self, count: int, kind: str) -> Iterator[Segment]:
        for number in range(count):
            with np.load(self._file(number)) as arrays:
                yield Segment(**{name: arrays[f"{kind}_{name}"] for name in ("times", "keys", "sizes", "data")})

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


# --- folders of frames ----------------------------------------------------------------------------


def derain_frames(
    sources: list[Path],
    goals: list[Path],
    network: Network,
    *,
    with_neighbors: bool = True,
    strength: float = 1.0,
    quality: int = 95,
    wanted: list[bool] | None = None,
    on_frame: OnFrame | None = None,
) -> None:
    """Derain pictures that are the frames of a clip, in order.

    Args:
        sources: the frames.
        goals: where each goes; existing files are replaced.
        network: maps ``(H, W, 3)`` RGB in [0, 1] to the same, such as :class:`~derain.derainer.Derainer`.
        with_neighbors: fuse each frame with its neighbors.
        strength: 0 gives the frames as they were, 1 the derained ones, between them a blend.
        quality: of JPEG, WebP and AVIF, 1 to 100.
        wanted: the frames to write, all unless told; their neighbors are derained too, not written.
        on_frame: called with (frames done, frames in all).

    Raises:
        InputError: a frame cannot be read.
        OutputError: a frame cannot be written.
    """
    wanted = wanted or [True] * len(sources)
    margin = RADIUS if with_neighbors else 0
    near = [i for i in range(len(sources)) if any(wanted[max(0, i - margin) : i + margin + 1])]
    done = 0
    for run in _runs(near):
        read = ((i, images.read(sources[i])) for i in run)
        for (i, picture), pixels in _paired(read, lambda item: network(item[1].pixels), with_neighbors):
            if not wanted[i]:
                continue
            picture.with_pixels(_blend(picture.pixels, pixels, strength)).save(
                goals[i], quality=quality, overwrite=True
            )
            done += 1
            if on_frame is not None:
                on_frame(done, sum(wanted))
