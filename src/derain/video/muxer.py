"""Writing the output container: encoded frames, and packets and metadata of all other streams copied."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain.errors import OutputError
from derain.files import atomic_path

from .containers import copy_stream
from .encoding import Encoding
from .reader import Clip, Span
from .segments import Segment

if TYPE_CHECKING:
    import av
    from av.container import InputContainer, OutputContainer

    TimedPacket = tuple[Fraction, av.Packet[Any]]  # decoding time, seconds

# Metadata that FFmpeg writes itself.
_CONTAINER_KEYS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
_STREAM_KEYS = frozenset({"encoder", "vendor_id"})


def write_clip(clip: Clip, encoding: Encoding, segments: Iterable[Segment], output: Path, span: Span) -> list[str]:
    """Write encoded frames and all other streams of a clip into a file, atomically.

    Args:
        clip: the source; its other streams are copied packet by packet.
        encoding: how the frames were encoded.
        segments: the frames, in order.
        output: the file; an existing one is replaced.
        span: the part that is written.

    Returns:
        The streams that the container cannot hold, described for a user.

    Raises:
        OutputError: the file cannot be written.
    """
    import av

    with atomic_path(output) as temporary:
        try:
            options = _container_options(output, clip.properties.time_base)
            with av.open(str(temporary), "w", options=options) as container, clip.open() as source:
                video, copies, dropped = _add_streams(clip, encoding, source, container)
                for key, value in clip.metadata.items():
                    if key not in _CONTAINER_KEYS:
                        container.metadata[key] = value
                if clip.chapters and span.start is None and span.stop is None:
                    container.set_chapters(clip.chapters)
                container.start_encoding()
                encoded = _encoded_packets(clip, segments, video, span)
                copied = _copied_packets(clip, copies, span)
                for _, packet in heapq.merge(encoded, copied, key=lambda pair: pair[0]):
                    container.mux(packet)
        except (OSError, av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"{output}: cannot be written ({reason}); try another suffix, such as .mkv") from None
    return dropped


def _container_options(output: Path, time_base: Fraction) -> dict[str, str]:
    if output.suffix.lower() in (".mp4", ".m4v", ".mov") and time_base.numerator == 1:
        # The movie's time scale applies to the start of the first frame, which would be rounded to a millisecond.
        return dict.fromkeys(("video_track_timescale", "movie_timescale"), str(time_base.denominator))
    return {}


def _add_streams(
    clip: Clip, encoding: Encoding, source: InputContainer, container: OutputContainer
) -> tuple[av.VideoStream, dict[int, av.stream.Stream], list[str]]:
    """Add the source's streams in their order: the video stream, copies by source index, and what is dropped."""
    import av

    copies: dict[int, av.stream.Stream] = {}
    dropped: list[str] = []
    video: av.VideoStream | None = None
    for stream in source.streams:
        if stream.index == clip.stream_index:
            added = container.add_stream(encoding.encoder, rate=encoding.source.rate)
            assert isinstance(added, av.VideoStream)
            encoding.configure(added.codec_context)
            added.time_base = encoding.source.time_base
            if encoding.source.display is not None:
                added.set_display_matrix(encoding.source.display)
            video = added
            new: av.stream.Stream = added
        else:
            copied = copy_stream(container, stream)
            if copied is None:
                dropped.append(f"{stream.type} stream {stream.index} ({stream.name or 'unknown'})")
                continue
            new = copies[stream.index] = copied
        for key, value in stream.metadata.items():
            if key not in _STREAM_KEYS:
                new.metadata[key] = value
        with contextlib.suppress(AttributeError):
            new.disposition = stream.disposition
    assert video is not None
    return video, copies, dropped


def _encoded_packets(
    clip: Clip, segments: Iterable[Segment], stream: av.VideoStream, span: Span
) -> Iterator[TimedPacket]:
    time_base = clip.properties.time_base
    shift = round(span.shift / time_base)
    last: int | None = None
    for segment in segments:
        for packet in segment.packets():
            assert packet.pts is not None
            assert packet.dts is not None
            # Decoding starts before the segment's first frame is shown; it must not overlap the previous segment.
            dts = packet.dts if last is None else max(packet.dts, last + 1)
            last = dts
            packet.duration = clip.duration(packet.pts)
            packet.pts, packet.dts = packet.pts - shift, dts - shift
            packet.time_base = time_base
            packet.stream = stream
            yield packet.dts * time_base, packet


def _copied_packets(clip: Clip, copies: dict[int, av.stream.Stream], span: Span) -> Iterator[TimedPacket]:
    for index, packet in clip.other_packets():
        if index not in copies:
            continue
        time_base = packet.time_base
        time = (packet.pts if packet.pts is not None else packet.dts or 0) * time_base
        if not span.contains(time):
            continue
        shift = round(span.shift / time_base)
        if packet.pts is not None:
            packet.pts -= shift
        packet.dts = (packet.dts or 0) - shift
        packet.stream = copies[index]
        yield packet.dts * time_base, packet
