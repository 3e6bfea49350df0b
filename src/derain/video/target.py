"""What a new file takes of a source besides its frames, found by writing headers before the first frame is derained."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from derain.errors import OutputError

from .boxes import has_projection
from .containers import QUICKTIME, copy_stream, stream_name
from .encoding import Encoding
from .reader import ALPHA_MODE, Clip, Span

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

    Streams = tuple[OutputContainer, av.VideoStream, dict[int, av.stream.Stream]]

# Metadata that describes the source's file or encoding, not the clip.
_CONTAINER_KEYS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
_STREAM_KEYS = frozenset({"encoder", "vendor_id", ALPHA_MODE})
_TIMECODE = "timecode"
_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


@dataclass(frozen=True)
class Muxer:
    """How FFmpeg writes a container.

    Attributes:
        name: FFmpeg's; ``None``: by the suffix.
        options: of the muxer.
        tee: reach it through the tee muxer. PyAV asks a muxer which codecs it holds, and that of Matroska leaves out
            those that it stores as in AVI; the tee muxer excludes none. It drops chapters.
    """

    name: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    tee: bool = False

    def open(self, path: Path) -> OutputContainer:
        """A new file."""
        import av

        if not self.tee:
            return av.open(str(path), "w", format=self.name, options=self.options)
        escaped = "".join(f"\\{c}" if c in "\\'|" or c.isspace() else c for c in str(path))
        return av.open(f"[f={self.name}]{escaped}", "w", format="tee")


@dataclass(frozen=True)
class Target:
    """What a new file takes of a clip besides its frames.

    Attributes:
        muxer: of the new file.
        copied: indices of the streams that are copied.
        chapters: the chapters are copied.
        timecode: the time of the first frame is copied.
        notes: what is left out, a sentence each.
    """

    muxer: Muxer
    copied: tuple[int, ...]
    chapters: bool
    timecode: bool
    notes: tuple[str, ...] = ()


def choose_target(clip: Clip, encoding: Encoding, output: Path, span: Span) -> Target:
    """Try which streams the new file can hold; what it refuses is left out.

    Args:
        clip: the source.
        encoding: of the frames.
        output: the file to be written; its suffix determines the container.
        span: the part that is written.

    Raises:
        OutputError: the container can hold none of the clip's sound, or not the video.
    """
    import av

    suffix = output.suffix.lower()
    whole, from_start = span.start is None and span.stop is None, not span.shift
    with clip.open() as source:
        others = [s for s in source.streams if s.index != clip.stream_index]
        recreated = {s.index for s in others if _is_recreated(clip, s)}
        names = {s.index: f"{s.type} stream {s.index} ({stream_name(s) or 'unknown codec'})" for s in others}
        sound = {s.index: stream_name(s) for s in others if s.type == "audio"}
    streams = tuple(i for i in names if i not in recreated)
    muxers = _muxers(clip, suffix)
    everything = Target(muxers[0], streams, whole and bool(clip.chapters), from_start)
    if _accepts(clip, encoding, everything, suffix):
        chosen = everything
    else:
        reduced = [_reduce(clip, encoding, replace(everything, muxer=muxer), suffix) for muxer in muxers]
        possible = [t for t in reduced if t is not None]
        if not possible:
            try:
                encoding.create_context().open()
            except av.error.FFmpegError as error:
                raise encoding.rejected(error) from None
            raise OutputError(f"{output}: {suffix} cannot hold {encoding.encoder} video as it is; try .mkv")
        chosen = max(possible, key=lambda t: len(t.copied))
    refused = [name for i, name in sound.items() if name and i not in chosen.copied]
    if refused and suffix != ".mkv" and not any(i in chosen.copied for i in sound):
        raise OutputError(f"{output}: {suffix} cannot hold the sound ({refused[0]}); use .mkv")
    notes = [f"{suffix} cannot hold {names[i]}: left out" for i in streams if i not in chosen.copied]
    if everything.chapters and not chosen.chapters:
        notes.append(f"{suffix} cannot hold the chapters: left out")
    if suffix not in QUICKTIME and has_projection(clip.path):
        notes.append(f"{suffix} gets no description of the spherical projection: left out; .mp4 and .mov keep it")
    if _TIMECODE in clip.stream_metadata and not from_start:
        notes.append("the time code is that of the first frame of the source: left out of a part")
    return replace(chosen, notes=tuple(notes))


@contextlib.contextmanager
def open_target(clip: Clip, encoding: Encoding, target: Target, path: Path, suffix: str) -> Iterator[Streams]:
    """A new file with its header written, its video stream, and its copied streams by the source's index.

    Raises:
        OSError, ValueError, av.error.FFmpegError: the muxer refuses something.
    """
    with target.muxer.open(path) as container, clip.open() as source:
        copies: dict[int, av.stream.Stream] = {}
        video: av.VideoStream | None = None
        for stream in source.streams:
            if stream.index == clip.stream_index:
                video = _add_video(clip, encoding, container, suffix)
                new: av.stream.Stream = video
            elif stream.index not in target.copied:
                continue
            elif suffix == ".mkv" and _is_cover(stream):
                name, kind = _COVERS[stream_name(stream) or ""]
                container.add_attachment(name, kind, _first_packet(clip, stream.index))
                continue
            else:
                copy = copy_stream(container, stream) if _can_describe(target.muxer, suffix, stream) else None
                if copy is None:
                    raise ValueError(f"cannot hold {stream_name(stream)}")
                new = copies[stream.index] = copy
            for key, value in stream.metadata.items():
                if key.lower() not in _STREAM_KEYS and (target.timecode or key != _TIMECODE):
                    new.metadata[key] = value
            with contextlib.suppress(AttributeError):
                new.disposition = stream.disposition
        assert video is not None
        for key, value in clip.metadata.items():
            if key.lower() not in _CONTAINER_KEYS and (target.timecode or key != _TIMECODE):
                container.metadata[key] = value
        if target.chapters:
            container.set_chapters(clip.chapters)
        container.start_encoding()
        yield container, video, copies


def _add_video(clip: Clip, encoding: Encoding, container: OutputContainer, suffix: str) -> av.VideoStream:
    import av

    stream = container.add_stream(encoding.encoder, rate=encoding.source.rate)
    assert isinstance(stream, av.VideoStream)
    encoding.configure(stream.codec_context)
    if suffix in QUICKTIME and encoding.encoder == "libx265":
        # Apple's players want hvc1, which says that the headers are in the container, as they are here.
        stream.codec_context.codec_tag = "hev1" if clip.codec_tag == "hev1" else "hvc1"
    stream.time_base = encoding.source.time_base
    if encoding.source.display is not None:
        stream.set_display_matrix(encoding.source.display)
    return stream


def _muxers(clip: Clip, suffix: str) -> list[Muxer]:
    """The muxers that write a suffix; the first is the usual one."""
    if suffix not in QUICKTIME:
        return [Muxer(), Muxer("matroska", tee=True)] if suffix == ".mkv" else [Muxer()]
    options = {}
    time_base = clip.properties.time_base
    if time_base.numerator == 1:
        # The movie's time scale applies to the start of the first frame, which would be rounded to a millisecond.
        options = dict.fromkeys(("video_track_timescale", "movie_timescale"), str(time_base.denominator))
    if any(key.startswith("com.") for key in clip.metadata):  # QuickTime's keys, such as Apple's place and camera
        options["movflags"] = "use_metadata_tags"
    muxers = [Muxer(None, options)]
    if suffix == ".m4v":  # FFmpeg's muxer for it refuses cover art
        muxers.append(Muxer("mp4", {**options, "brand": "M4V "}))
    return muxers


def _reduce(clip: Clip, encoding: Encoding, target: Target, suffix: str) -> Target | None:
    """As much of a target as its muxer accepts; ``None`` if not even the video."""
    best = replace(target, copied=(), chapters=target.chapters and not target.muxer.tee)
    if not _accepts(clip, encoding, best, suffix):
        best = replace(best, chapters=False)
        if not _accepts(clip, encoding, best, suffix):
            return None
    for index in target.copied:
        more = replace(best, copied=(*best.copied, index))
        if _accepts(clip, encoding, more, suffix):
            best = more
    return best


def _accepts(clip: Clip, encoding: Encoding, target: Target, suffix: str) -> bool:
    """Whether the muxer writes the header."""
    import av

    started = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            with open_target(clip, encoding, target, Path(folder) / f"x{suffix}", suffix):
                started = True
        except (OSError, ValueError, av.error.FFmpegError):
            pass  # once started, an error only means that there are no packets
    return started


def _is_recreated(clip: Clip, stream: av.stream.Stream) -> bool:
    """Whether a stream of an MP4 or MOV file holds chapters or a time code, which are written from the metadata."""
    if stream.type == "data" and _TIMECODE in stream.metadata:
        return _TIMECODE in clip.stream_metadata
    is_text = stream.type == "data" and stream_name(stream) == "bin_data"
    return clip.format.startswith("mov") and is_text and 0 < len(clip.chapters) == stream.frames


def _can_describe(muxer: Muxer, suffix: str, stream: av.stream.Stream) -> bool:
    """Whether a stream is more than bytes that no program understands, in containers that take anything."""
    if _is_cover(stream):
        return suffix not in (".mov", ".ts") and "movflags" not in muxer.options
    return suffix not in QUICKTIME or stream.type != "data" or stream_name(stream) is not None


def _is_cover(stream: av.stream.Stream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic) and stream_name(stream) in _COVERS


def _first_packet(clip: Clip, index: int) -> bytes:
    return next((bytes(packet) for i, packet in clip.other_packets() if i == index), b"")
