"""Writing the output container: encoded frames, and packets and metadata of all other streams copied."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain.errors import OutputError
from derain.files import atomic_path

from .boxes import copy_descriptions
from .containers import QUICKTIME
from .encoding import Encoding
from .reader import Clip, Span
from .segments import Segment
from .target import Target, open_target

if TYPE_CHECKING:
    import av

    TimedPacket = tuple[Fraction, av.Packet[Any]]  # decoding time, seconds

_FORMAT_EQUAL_TIMES = 0x20000  # AVFMT_TS_NONSTRICT


def write_clip(
    clip: Clip, encoding: Encoding, target: Target, segments: Iterable[Segment], output: Path, span: Span
) -> None:
    """Write encoded frames and other streams of a clip into a file, atomically.

    Args:
        clip: the source; its other streams are copied packet by packet.
        encoding: how the frames were encoded.
        target: what else the file takes.
        segments: the frames, in order.
        output: the file; an existing one is replaced.
        span: the part that is written.

    Raises:
        OutputError: the file cannot be written.
    """
    import av

    suffix = output.suffix.lower()
    with atomic_path(output) as temporary:
        try:
            with open_target(clip, encoding, target, temporary, suffix) as (container, video, copies):
                encoded = _encoded_packets(clip, segments, video, span)
                strict = not container.format.flags & _FORMAT_EQUAL_TIMES
                copied = _copied_packets(clip, copies, span, strict=strict)
                for _, packet in heapq.merge(encoded, copied, key=lambda pair: pair[0]):
                    container.mux(packet)
            if suffix in QUICKTIME:
                copy_descriptions(clip.path, temporary)
        except (OSError, av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"{output}: cannot be written ({reason}); try another suffix, such as .mkv") from None


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


def _copied_packets(
    clip: Clip, copies: dict[int, av.stream.Stream], span: Span, *, strict: bool
) -> Iterator[TimedPacket]:
    last: dict[int, int] = {}
    for index, packet in clip.other_packets():
        if index not in copies:
            continue
        if packet.dts is None:  # cover art
            packet.pts, packet.dts, packet.stream = 0, 0, copies[index]
            yield Fraction(), packet
            continue
        time_base = packet.time_base
        time = (packet.pts if packet.pts is not None else packet.dts or 0) * time_base
        if not span.contains(time):
            continue
        shift = round(span.shift / time_base)
        if packet.pts is not None:
            packet.pts -= shift
        packet.dts -= shift
        if index in last and packet.dts < last[index] + strict:  # which no muxer accepts
            packet.dts = last[index] + strict
            packet.pts = max(packet.pts or 0, packet.dts)
        last[index] = packet.dts
        packet.stream = copies[index]
        yield packet.dts * time_base, packet
