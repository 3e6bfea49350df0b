"""Clips on disk: what a file holds, its frames one by one, and a file of new frames with all else copied.

PyAV is FFmpeg's libraries in a wheel. Times are whole numbers of the stream's time base throughout, so
that they come out as they went in.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from derain import images
from derain.errors import DerainError, InputError, OutputError

from .yuv import nearest_format

if TYPE_CHECKING:
    import av
    from av.container import InputContainer, OutputContainer

    Timed = tuple[int, av.VideoFrame]  # ticks

#: What a clip can be written as.
WRITABLE = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts"})
#: What ``derain run`` takes for a clip; FFmpeg tells the rest by content.
SUFFIXES = WRITABLE | {
    *(".avi", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".nut", ".h264", ".hevc"),
}

#: For clips from strangers: containers that name no further files, which FFmpeg would open; files alone.
UNTRUSTED = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,nut,mxf",
    "protocol_whitelist": "file",
}

# Codec of the source -> the encoder that writes it.
_ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "h265": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "mpeg4": "mpeg4",
    "ffv1": "ffv1",
    "prores": "prores_ks",
    "mjpeg": "mjpeg",
}
# Encoder -> its settings; of those with a rate factor, the one that is hard to tell from the source.
_SETTINGS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "medium", "crf": "18"},
    "libx265": {"preset": "medium", "crf": "20", "x265-params": "log-level=error"},
    "libvpx": {"crf": "8", "b": "20M", "deadline": "good", "cpu-used": "2"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "2", "row-mt": "1"},
    "libsvtav1": {"crf": "24", "preset": "6"},
    "mpeg4": {"qmin": "2", "qmax": "3"},
    "mjpeg": {"qmin": "2", "qmax": "3"},
    "ffv1": {"level": "3"},
    "prores_ks": {},
}
_CRF_TOP = {"libx264": 51, "libx265": 51, "libvpx": 63, "libvpx-vp9": 63, "libsvtav1": 63}
# These want even sides wherever chroma is subsampled; others keep odd ones.
_EVEN = {"libx264", "libx265", "libsvtav1", "prores_ks"}
_GLOBAL_HEADER = 1 << 22  # of an encoder
_WANTS_HEADER = 0x40  # of a container
_MATRIX_OF_DISPLAY = 36  # bytes


def require_av() -> None:
    """Say how PyAV is installed, if it is not.

    Raises:
        DerainError: it is missing.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise DerainError('clips need PyAV; install it: pip install "derain[video]"') from None


@dataclass(frozen=True)
class Shape:
    """What a clip's frames look like beside their pixels; all of it is written as it was read.

    Attributes:
        width, height: as stored, pixels.
        time_base: seconds to a tick.
        rate: frames a second, near enough for an encoder.
        pix_fmt: FFmpeg's name of the pixel format.
        color: range, matrix, primaries and transfer, as H.273 codes.
        aspect: width of a pixel by its height.
        display: the display matrix, nine numbers, or ``None``.
        turns: quarter turns counterclockwise that make a frame upright, 0 to 3.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    pix_fmt: str
    color: tuple[int, int, int, int]
    aspect: Fraction | None
    display: tuple[int, ...] | None
    turns: int


class Clip:
    """A file with a video stream, opened for reading; several times if need be.

    Args:
        path: the file.
        options: of FFmpeg's reading.
        max_pixels: larger frames are not decoded, also where the size changes on the way.

    Raises:
        InputError: missing, empty, not a clip, without a video stream or without a frame.
    """

    def __init__(self, path: Path, options: dict[str, str] | None = None, max_pixels: int = images.MAX_PIXELS) -> None:
        self.path = path
        self._max_pixels = max_pixels
        self.options = options or {}
        self.damaged = 0  # packets that could not be decoded
        with self._opened() as container:
            stream = self._video(container)
            self._stream = stream.index
            self.codec = stream.codec_context.codec.canonical_name
            self.metadata = dict(container.metadata)
            self.chapters = container.chapters()
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise InputError(f"{path}: holds no frame that can be decoded; it is truncated or damaged")
            self.shape = _shape(stream, first[1])
        self.times = self._index()
        self.damaged = 0

    def frames(self, start: int, stop: int | None = None) -> Iterator[Timed]:
        """Decoded frames of which the time is at least ``start`` and before ``stop``, in order.

        Args:
            start, stop: ticks; ``None`` reads to the end.

        Raises:
            InputError: the picture's size changes on the way.
        """
        with self._opened() as container:
            stream = self._video(container)
            before = self.times[self.times <= start]
            if len(before) and before[-1] > self.times[0]:
                with contextlib.suppress(OSError):  # not seekable: read from the beginning
                    container.seek(int(start), stream=stream)
            source = self._decoded(container, stream)
            first = next(source, None)
            if first is None or first[0] > start > self.times[0]:
                # The container landed too late, or nowhere.
                container.close()
                yield from self._from_beginning(start, stop)
                return
            yield from self._between(source, first, start, stop)

    def _from_beginning(self, start: int, stop: int | None) -> Iterator[Timed]:
        with self._opened() as container:
            source = self._decoded(container, self._video(container))
            yield from self._between(source, next(source, None), start, stop)

    def _between(self, source: Iterator[Timed], item: Timed | None, start: int, stop: int | None) -> Iterator[Timed]:
        last: int | None = None
        while item is not None:
            time, frame = item
            if stop is not None and time >= stop:
                return
            if (frame.width, frame.height) != (self.shape.width, self.shape.height):
                at = float(time * self.shape.time_base)
                raise InputError(
                    f"{self.path}: the picture changes to {frame.width}×{frame.height} at {at:.1f} s; "
                    f"derain the part before with --end {at:.1f}, and the rest with --start"
                )
            if time >= start and (last is None or time > last):
                last = time
                yield item
            item = next(source, None)

    def duration(self, time: int) -> int:
        """Ticks from a frame to the next, or how long the file shows the last."""
        after = int(np.searchsorted(self.times, time, "right"))
        return int(self.times[after]) - time if after < len(self.times) else self._last

    def others(self) -> Iterator[tuple[int, av.Packet[Any]]]:
        """The packets of all other streams, with the number of their stream, as they lie in the file."""
        import av

        with self._opened() as container:
            streams = [s for s in container.streams if s.index != self._stream]
            if not streams:
                return
            try:
                for packet in container.demux(*streams):
                    if packet.size and packet.stream is not None:
                        if packet.dts is None:
                            packet.dts = packet.pts
                        if packet.dts is not None:
                            yield packet.stream.index, packet
            except av.error.FFmpegError:
                self.damaged += 1

    def _opened(self) -> contextlib.AbstractContextManager[InputContainer]:
        return _opened(self.path, self.options)

    def _video(self, container: InputContainer) -> av.VideoStream:
        stream = _video(self.path, container)
        stream.codec_context.options = {"max_pixels": str(self._max_pixels)}
        return stream

    def _decoded(self, container: InputContainer, stream: av.VideoStream) -> Iterator[Timed]:
        """All frames from here on, each with a time; what cannot be decoded is left out and counted."""
        import av

        step = 1 / (_rate(stream) * (stream.time_base or Fraction(1, 90_000)))
        guess = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.damaged += 1
                if self.damaged > 10_000:
                    return
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                yield (frame.pts if frame.pts is not None else round(guess * step)), frame
                guess += 1

    def _index(self) -> npt.NDArray[np.int64]:
        """The times of all frames, in order, from the packets alone where these tell them."""
        import av

        times: list[int] = []
        last = (-1, 0)  # time and duration of the last frame
        self._last = max(1, round(1 / (self.shape.rate * self.shape.time_base)))
        with self._opened() as container:
            try:
                for packet in container.demux(self._video(container)):
                    if packet.size and not packet.is_discard:
                        if packet.pts is None:
                            break
                        times.append(packet.pts)
                        last = max(last, (packet.pts, packet.duration or 0))
                else:
                    self._last = last[1] or self._last
                    return np.unique(np.array(times, np.int64))
            except av.error.FFmpegError:
                pass
        with self._opened() as container:
            source = self._decoded(container, self._video(container))
            return np.unique(np.array([time for time, _ in source], np.int64))


@contextlib.contextmanager
def _opened(path: Path, options: dict[str, str]) -> Iterator[InputContainer]:
    import av

    try:
        if not path.stat().st_size:
            raise InputError(f"{path}: is empty (0 bytes); the copy or download probably failed")
        container = av.open(str(path), metadata_errors="replace", options=options)
    except (OSError, av.error.FFmpegError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{path}: no such file; check the name") from None
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: not a clip that FFmpeg can read, or damaged ({why})") from None
    with container:
        yield container


def _video(path: Path, container: InputContainer) -> av.VideoStream:
    """The first real video stream; cover pictures are none."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            stream.thread_type = "AUTO"
            return stream
    raise InputError(f"{path}: has no video stream; give a clip with pictures")


def declared_size(path: Path) -> tuple[int, int]:
    """Width and height that a stranger's clip declares, pixels; :data:`UNTRUSTED` containers only.

    Raises:
        InputError: not such a clip.
    """
    with _opened(path, UNTRUSTED) as container:
        stream = _video(path, container)
        return stream.codec_context.width, stream.codec_context.height


def _rate(stream: av.VideoStream) -> Fraction:
    for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate):
        if rate:
            return rate
    return Fraction(25)


def _shape(stream: av.VideoStream, frame: av.VideoFrame) -> Shape:
    context = stream.codec_context
    told = [
        int(getattr(frame, name) if int(getattr(frame, name)) != unset else getattr(context, name))
        for name, unset in (("color_range", 0), ("colorspace", 2), ("color_primaries", 2), ("color_trc", 2))
    ]
    display = None
    side_data: Any = frame.side_data
    for data in side_data.keys():  # noqa: SIM118  (they are the data themselves)
        if data.type.name == "DISPLAYMATRIX" and data.buffer_size == _MATRIX_OF_DISPLAY:
            display = struct.unpack("=9i", bytes(data))
    return Shape(
        frame.width,
        frame.height,
        stream.time_base or Fraction(1, 90_000),
        _rate(stream).limit_denominator(1_001_000),
        frame.format.name,
        (told[0], told[1], told[2], told[3]),
        stream.sample_aspect_ratio or None,
        display,
        round(frame.rotation / 90) % 4 if display is not None else 0,
    )


@dataclass(frozen=True)
class Encoding:
    """How frames are written.

    Attributes:
        encoder: FFmpeg's name.
        options: of the encoder.
        pix_fmt: the pixel format that it gets.
        width, height: of the written frame; a pixel more than the source where the encoder wants even sides.
        header: whether the container keeps the encoder's header apart.
        shape: of the source.
    """

    encoder: str
    options: dict[str, str]
    pix_fmt: str
    width: int
    height: int
    header: bool
    shape: Shape

    def configure(self, context: Any) -> None:
        """Set up an encoder that was not opened yet."""
        context.width, context.height = self.width, self.height
        context.pix_fmt = self.pix_fmt
        context.time_base = self.shape.time_base
        context.framerate = self.shape.rate
        if self.shape.aspect:
            context.sample_aspect_ratio = self.shape.aspect
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = self.shape.color
        context.options = dict(self.options)
        if self.header:
            context.flags |= _GLOBAL_HEADER

    def context(self) -> av.VideoCodecContext:
        """An encoder of its own."""
        import av

        context = av.CodecContext.create(self.encoder, "w")
        assert isinstance(context, av.VideoCodecContext)
        self.configure(context)
        return context


def choose_encoding(clip: Clip, goal: Path, codec: str | None, crf: int | None) -> Encoding:
    """The encoder for a goal.

    Args:
        clip: the source.
        goal: the file to be written; its suffix chooses the container.
        codec: ``h264``, ``hevc``, ``vp9``, ``av1``…, an encoder's name, or ``None`` for the source's codec where
            the container takes it, else the container's usual one.
        crf: the encoder's rate factor; lower is better and larger.

    Raises:
        OutputError: a suffix, codec or factor that cannot be.
    """
    import av

    if goal.suffix.lower() not in WRITABLE:
        raise OutputError(f"{goal}: cannot write a clip as {goal.suffix or 'a file without suffix'}; use .mp4 or .mkv")
    if crf is not None and crf < 0:
        raise OutputError(f"--crf {crf}: must not be negative")
    with tempfile.TemporaryDirectory() as folder, av.open(str(Path(folder) / f"x{goal.suffix}"), "w") as probe:
        header = bool(probe.format.flags & _WANTS_HEADER)

        def holds(encoder: str) -> bool:
            if goal.suffix.lower() == ".ts":  # its muxer takes whatever comes, players do not
                return encoder in ("libx264", "libx265")
            try:
                probe.add_stream(encoder)
            except ValueError:
                return False
            return True

        if codec is None:
            own = _ENCODERS.get(clip.codec)
            usual = "libvpx-vp9" if goal.suffix.lower() == ".webm" else "libx264"
            encoder = own if own is not None and holds(own) else usual
        else:
            encoder = _ENCODERS.get(codec, codec)
        try:
            found = av.Codec(encoder, "w")
        except ValueError:
            raise OutputError(
                f"--codec {encoder}: this PyAV has no such encoder; use h264, hevc, vp9 or ffv1"
            ) from None
        if found.type != "video" or not holds(encoder):
            raise OutputError(f"{goal}: {goal.suffix} cannot hold {codec or encoder}; choose another suffix or --codec")
        with clip._opened() as source:
            for stream in source.streams.audio:  # told before the work, not after it
                if _copy(probe, stream) is None:
                    raise OutputError(f"{goal}: {goal.suffix} cannot hold the sound ({stream.name}); use .mkv")
    pix_fmt = nearest_format(clip.shape.pix_fmt, [form.name for form in found.video_formats or []])
    if pix_fmt is None:
        raise OutputError(f"--codec {codec}: takes no pixel format that derain writes; use h264, hevc, vp9 or ffv1")
    options = dict(_SETTINGS.get(encoder, {}))
    if crf is not None:
        top = _CRF_TOP.get(encoder)
        if top is None or not 0 <= crf <= top:
            can = f"lies between 0 and {top}" if top is not None else "does not exist"
            raise OutputError(f"--crf {crf}: for {encoder} it {can}; choose another or leave it out")
        options["crf"] = str(crf)
    # Even where chroma is halved.
    form = av.VideoFormat(pix_fmt, 64, 64)
    across, down = (2 if size < 64 else 1 for size in (form.components[-1].width, form.components[-1].height))
    if form.is_rgb or len(form.components) < 3 or encoder not in _EVEN:
        across = down = 1
    width, height = -(-clip.shape.width // across) * across, -(-clip.shape.height // down) * down
    return Encoding(encoder, options, pix_fmt, width, height, header, clip.shape)


@dataclass
class Segment:
    """Encoded frames, as numbers and bytes; the first is a key frame.

    Attributes:
        times: ``(N, 3)`` int64: presentation, decoding and duration of each packet, ticks.
        keys: ``(N,)`` bool.
        sizes: ``(N,)`` int64.
        data: the packets one after the other, uint8.
    """

    times: npt.NDArray[np.int64]
    keys: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, packets: list[av.Packet[Any]]) -> Segment:
        """Take over what an encoder gave."""
        rows = [(p.pts or 0, p.dts if p.dts is not None else p.pts or 0, p.duration or 0) for p in packets]
        return cls(
            np.array(rows, np.int64).reshape(-1, 3),
            np.array([p.is_keyframe for p in packets], bool),
            np.array([p.size for p in packets], np.int64),
            np.frombuffer(b"".join(bytes(p) for p in packets), np.uint8),
        )

    def packets(self) -> Iterator[av.Packet[Any]]:
        """The packets again, in the order of decoding."""
        import av

        ends = np.cumsum(self.sizes)
        for (pts, dts, duration), key, size, end in zip(self.times, self.keys, self.sizes, ends, strict=True):
            packet = av.Packet(self.data[end - size : end].tobytes())
            packet.pts, packet.dts, packet.duration = int(pts), int(dts), int(duration)
            packet.is_keyframe = bool(key)
            yield packet


@dataclass
class Span:
    """The part of a clip that is written.

    Attributes:
        start, stop: seconds, or ``None`` for the whole.
        shift: seconds that all times are moved back, so that a part begins at zero.
    """

    start: Fraction | None = None
    stop: Fraction | None = None
    shift: Fraction = field(default_factory=Fraction)

    def holds(self, time: Fraction) -> bool:
        """Whether a time belongs to it."""
        return (self.start is None or time >= self.start) and (self.stop is None or time < self.stop)


def write_clip(clip: Clip, encoding: Encoding, segments: Iterable[Segment], goal: Path, span: Span) -> list[str]:
    """Put encoded frames and all other streams of a clip into a file, whole or not at all.

    Args:
        clip: the source; its other streams are copied packet by packet.
        encoding: how the frames were encoded.
        segments: the frames, in order.
        goal: the file; an existing one is replaced.
        span: the part that is written.

    Returns:
        What the goal's container could not take, as words for a user.

    Raises:
        OutputError: it cannot be written.
    """
    import av

    try:
        handle, name = tempfile.mkstemp(prefix=".derain-", suffix=goal.suffix, dir=goal.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{goal}: cannot be written ({error.strerror}); choose another output folder") from None
    base = clip.shape.time_base
    options = {}
    if goal.suffix.lower() in (".mp4", ".m4v", ".mov") and base.numerator == 1:
        # The second is for when the first frame is shown, which would be rounded to a millisecond.
        options = dict.fromkeys(("video_track_timescale", "movie_timescale"), str(base.denominator))
    try:
        with av.open(name, "w", options=options) as out, clip._opened() as source:
            video, copies, lost = _streams(clip, encoding, source, out)
            for key, value in clip.metadata.items():
                if key not in ("major_brand", "minor_version", "compatible_brands", "encoder"):
                    out.metadata[key] = value
            if clip.chapters and span.start is None and span.stop is None:
                out.set_chapters(clip.chapters)
            out.start_encoding()
            moved = round(span.shift / base)
            new = _video_packets(clip, segments, video, moved)
            old = _copied_packets(clip, copies, span)
            for _, packet in heapq.merge(new, old, key=lambda pair: pair[0]):
                out.mux(packet)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, goal)
    except (OSError, av.error.FFmpegError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise OutputError(f"{goal}: cannot be written ({why}); try another suffix, such as .mkv") from None
    finally:
        if os.path.exists(name):
            os.unlink(name)
    return lost


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _streams(
    clip: Clip, encoding: Encoding, source: InputContainer, out: OutputContainer
) -> tuple[av.VideoStream, dict[int, av.stream.Stream], list[str]]:
    """The streams of the new file, in the order of the old: the video, copies by number, and what is lost."""
    import av

    copies: dict[int, av.stream.Stream] = {}
    lost: list[str] = []
    video: av.VideoStream | None = None
    for stream in source.streams:
        if stream.index == clip._stream:
            added = out.add_stream(encoding.encoder, rate=encoding.shape.rate)
            assert isinstance(added, av.VideoStream)
            encoding.configure(added.codec_context)
            added.time_base = encoding.shape.time_base
            if encoding.shape.display is not None:
                added.set_display_matrix(encoding.shape.display)
            video = added
            new: av.stream.Stream = added
        else:
            copied = _copy(out, stream)
            if copied is None:
                lost.append(f"{stream.type} stream {stream.index} ({stream.name or 'unknown'})")
                continue
            new = copies[stream.index] = copied
        for key, value in stream.metadata.items():
            if key not in ("encoder", "vendor_id"):
                new.metadata[key] = value
        with contextlib.suppress(AttributeError):
            new.disposition = stream.disposition
    assert video is not None
    return video, copies, lost


def _copy(out: OutputContainer, stream: av.stream.Stream) -> av.stream.Stream | None:
    """A stream like another in a new file, or ``None`` if its container cannot hold it."""
    import av

    if out.format.name == "mpegts" and stream.type == "subtitle" and not (stream.name or "").startswith("dvb"):
        return None  # it would be written as data that nothing reads
    try:
        return out.add_stream_from_template(stream)
    except (ValueError, TypeError, NotImplementedError, av.error.FFmpegError):
        return None


def _video_packets(
    clip: Clip, segments: Iterable[Segment], stream: av.VideoStream, moved: int
) -> Iterator[tuple[Fraction, av.Packet[Any]]]:
    base = clip.shape.time_base
    last: int | None = None
    for segment in segments:
        for packet in segment.packets():
            assert packet.pts is not None
            assert packet.dts is not None
            # An encoder begins before its first picture, which may reach into the segment before.
            dts = packet.dts if last is None else max(packet.dts, last + 1)
            last = dts
            packet.duration = clip.duration(packet.pts)
            packet.pts, packet.dts = packet.pts - moved, dts - moved
            packet.time_base = base
            packet.stream = stream
            yield packet.dts * base, packet


def _copied_packets(
    clip: Clip, copies: dict[int, av.stream.Stream], span: Span
) -> Iterator[tuple[Fraction, av.Packet[Any]]]:
    for index, packet in clip.others():
        if index not in copies:
            continue
        base = packet.time_base
        time = (packet.pts if packet.pts is not None else packet.dts or 0) * base
        if not span.holds(time):
            continue
        moved = round(span.shift / base)
        if packet.pts is not None:
            packet.pts -= moved
        packet.dts = (packet.dts or 0) - moved
        packet.stream = copies[index]
        yield packet.dts * base, packet
