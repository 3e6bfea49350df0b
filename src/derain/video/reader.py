"""Reading clips: properties, frame times, decoded frames, and the packets of all other streams.

Times are integer ticks of the video stream's time base throughout, so that they are written exactly as they were read.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from derain.errors import InputError

from .containers import ReadOptions, open_clip, video_stream

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

    TimedFrame = tuple[int, av.VideoFrame]  # ticks

_DISPLAY_MATRIX_BYTES = 36
_DEFAULT_TIME_BASE = Fraction(1, 90_000)
# Key of a WebM stream's metadata that announces transparency, and the decoders that read it.
ALPHA_MODE = "alpha_mode"
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_MAX_DAMAGED = 10_000  # packets that may fail to decode before reading stops


@dataclass(frozen=True)
class VideoProperties:
    """What describes a clip's frames besides their pixels; all of it is written as it was read.

    Attributes:
        width, height: as stored, pixels.
        time_base: seconds per tick.
        rate: frames per second, approximately; a hint for the encoder.
        pix_fmt: FFmpeg's name of the pixel format.
        color: range, matrix, primaries and transfer, as H.273 codes.
        aspect: width of a pixel divided by its height.
        display: the nine numbers of the display matrix, or ``None``.
        rot90: counterclockwise rotations by 90 degrees that make a frame upright, 0 to 3.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    pix_fmt: str
    color: tuple[int, int, int, int]
    aspect: Fraction | None
    display: tuple[int, ...] | None
    rot90: int


@dataclass
class Span:
    """The part of a clip that is written.

    Attributes:
        start, stop: seconds, or ``None`` for the clip's own limits.
        shift: seconds subtracted from all times, so that a part begins at zero.
    """

    start: Fraction | None = None
    stop: Fraction | None = None
    shift: Fraction = field(default_factory=Fraction)

    def contains(self, time: Fraction) -> bool:
        """Whether a time lies in the span."""
        return (self.start is None or time >= self.start) and (self.stop is None or time < self.stop)


class Clip:
    """A file with a video stream. The file is opened anew for each pass over it.

    Args:
        path: the file.
        options: how it is opened and decoded.

    Attributes:
        properties: of the frames.
        times: of all frames, ascending, ticks.
        codec: FFmpeg's name of the video codec.
        stream_index: of the video stream.
        codec_tag: the container's name of the codec, such as ``hvc1``; empty where it has none.
        format: FFmpeg's name of the container.
        metadata, chapters: of the container.
        stream_metadata: of the video stream.
        damaged: packets that could not be decoded so far.

    Raises:
        InputError: missing, empty, not a clip, without a video stream or without a frame.
    """

    def __init__(self, path: Path, options: ReadOptions | None = None) -> None:
        self.path = path
        self.options = options or ReadOptions()
        self.damaged = 0
        with self.open() as container:
            stream = self._video(container)
            self.stream_index = stream.index
            self.codec = stream.codec_context.codec.canonical_name
            self.codec_tag = _codec_tag(stream)
            self.format = container.format.name
            self.metadata = dict(container.metadata)
            self.stream_metadata = dict(stream.metadata)
            self.chapters = container.chapters()
            first = next(self._decode(container, stream), None)
            if first is None:
                raise InputError(f"{path}: holds no frame that can be decoded; it is truncated or damaged")
            self.properties = _properties(stream, first[1])
        self.times, self._last_duration = self._index()
        self.damaged = 0

    def open(self) -> contextlib.AbstractContextManager[InputContainer]:
        """The container, opened with this clip's options."""
        return open_clip(self.path, self.options.ffmpeg)

    def frames(self, start: int, stop: int | None = None) -> Iterator[TimedFrame]:
        """Decoded frames with times from ``start`` to before ``stop``, in order.

        Args:
            start, stop: ticks; ``None`` reads to the end.

        Raises:
            InputError: the frame size changes within the clip.
        """
        with self.open() as container:
            stream = self._video(container)
            earlier = self.times[self.times <= start]
            if len(earlier) and earlier[-1] > self.times[0]:
                with contextlib.suppress(OSError):  # not seekable: read from the beginning
                    container.seek(int(start), stream=stream)
            decoded = self._decode(container, stream)
            first = next(decoded, None)
            if first is None or first[0] > start > self.times[0]:
                # The seek went past the start, or to where nothing can be decoded.
                container.close()
                yield from self._frames_without_seeking(start, stop)
                return
            yield from self._in_range(decoded, first, start, stop)

    def _frames_without_seeking(self, start: int, stop: int | None) -> Iterator[TimedFrame]:
        with self.open() as container:
            decoded = self._decode(container, self._video(container))
            yield from self._in_range(decoded, next(decoded, None), start, stop)

    def _in_range(
        self, decoded: Iterator[TimedFrame], item: TimedFrame | None, start: int, stop: int | None
    ) -> Iterator[TimedFrame]:
        last: int | None = None
        while item is not None:
            time, frame = item
            if stop is not None and time >= stop:
                return
            if (frame.width, frame.height) != (self.properties.width, self.properties.height):
                seconds = float(time * self.properties.time_base)
                raise InputError(
                    f"{self.path}: the frame size changes to {frame.width}×{frame.height} at {seconds:.1f} s; "
                    f"derain the part before with --end {seconds:.1f}, and the rest with --start"
                )
            if time >= start and (last is None or time > last):
                last = time
                yield item
            item = next(decoded, None)

    def duration(self, time: int) -> int:
        """Ticks from a frame to the next; for the last frame, the duration that the file declares."""
        following = int(np.searchsorted(self.times, time, "right"))
        return int(self.times[following]) - time if following < len(self.times) else self._last_duration

    def other_packets(self) -> Iterator[tuple[int, av.Packet[Any]]]:
        """The packets of all other streams in file order, each with the index of its stream; cover art has no times."""
        import av
        from av.stream import Disposition

        with self.open() as container:
            streams = [s for s in container.streams if s.index != self.stream_index]
            if not streams:
                return
            try:
                for packet in container.demux(*streams):
                    if packet.size and packet.stream is not None:
                        if packet.dts is None:
                            packet.dts = packet.pts
                        if packet.dts is not None or packet.stream.disposition & Disposition.attached_pic:
                            yield packet.stream.index, packet
            except av.error.FFmpegError:
                self.damaged += 1

    def _video(self, container: InputContainer) -> av.VideoStream:
        stream = video_stream(self.path, container)
        stream.codec_context.options = {"max_pixels": str(self.options.max_pixels)}
        return stream

    def _alpha_decoder(self, stream: av.VideoStream) -> av.VideoCodecContext | None:
        """The decoder of a VP8 or VP9 stream with transparency, which FFmpeg's own decoders ignore."""
        import av

        name = _ALPHA_DECODERS.get(stream.codec_context.name)
        if name is None or not announces_alpha(dict(stream.metadata)):
            return None
        try:
            context = av.CodecContext.create(name, "r")
        except ValueError:  # this PyAV was built without libvpx
            return None
        assert isinstance(context, av.VideoCodecContext)
        context.options = dict(stream.codec_context.options)
        return context

    def _decode(self, container: InputContainer, stream: av.VideoStream) -> Iterator[TimedFrame]:
        """All frames from the current position; packets that cannot be decoded are skipped and counted."""
        import av

        decoder = self._alpha_decoder(stream)
        step = 1 / (_rate(stream) * (stream.time_base or _DEFAULT_TIME_BASE))
        count = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode() if decoder is None else decoder.decode(packet)
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.damaged += 1
                if self.damaged > _MAX_DAMAGED:
                    return
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                # A raw stream has no times: they follow from the frame rate.
                yield (frame.pts if frame.pts is not None else round(count * step)), frame
                count += 1

    def _index(self) -> tuple[npt.NDArray[np.int64], int]:
        """The times of all frames, and the duration of the last one; frames are decoded only if packets lack times."""
        import av

        times: list[int] = []
        last = (-1, 0)  # time and duration of the last frame
        frame_duration = max(1, round(1 / (self.properties.rate * self.properties.time_base)))
        with self.open() as container:
            try:
                for packet in container.demux(self._video(container)):
                    if packet.size and not packet.is_discard:
                        if packet.pts is None:
                            break
                        times.append(packet.pts)
                        last = max(last, (packet.pts, packet.duration or 0))
                else:
                    return np.unique(np.array(times, np.int64)), last[1] or frame_duration
            except av.error.FFmpegError:
                pass
        with self.open() as container:
            decoded = self._decode(container, self._video(container))
            return np.unique(np.array([time for time, _ in decoded], np.int64)), frame_duration


def announces_alpha(metadata: dict[str, str]) -> bool:
    """Whether the metadata of a VP8 or VP9 stream say that it has transparency."""
    return any(key.lower() == ALPHA_MODE and value == "1" for key, value in metadata.items())


def _codec_tag(stream: av.VideoStream) -> str:
    try:
        return str(stream.codec_context.codec_tag).strip("\0 ")
    except UnicodeDecodeError:
        return ""


def _rate(stream: av.VideoStream) -> Fraction:
    for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate):
        if rate:
            return rate
    return Fraction(25)


def _properties(stream: av.VideoStream, frame: av.VideoFrame) -> VideoProperties:
    context = stream.codec_context
    color_range, matrix, primaries, transfer = (
        int(getattr(frame, name) if int(getattr(frame, name)) != unset else getattr(context, name))
        for name, unset in (("color_range", 0), ("colorspace", 2), ("color_primaries", 2), ("color_trc", 2))
    )
    display = None
    side_data: Any = frame.side_data
    for data in side_data.keys():  # noqa: SIM118  (iterating over the mapping itself gives something else)
        if data.type.name == "DISPLAYMATRIX" and data.buffer_size == _DISPLAY_MATRIX_BYTES:
            display = struct.unpack("=9i", bytes(data))
    return VideoProperties(
        frame.width,
        frame.height,
        stream.time_base or _DEFAULT_TIME_BASE,
        _rate(stream).limit_denominator(1_001_000),
        frame.format.name,
        (color_range, matrix, primaries, transfer),
        stream.sample_aspect_ratio or None,
        display,
        round(frame.rotation / 90) % 4 if display is not None else 0,
    )
