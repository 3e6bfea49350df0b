"""Clips with what cameras, editors and players put beside the frames."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from PIL import Image

SPHERICAL = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")


def remux(source: Path, target: Path, prepare: Callable[[OutputContainer], None], **options: str) -> Path:
    """Copy all packets; ``prepare`` changes the new container before its header is written."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        copies = [new.add_stream_from_template(s) for s in old.streams]
        prepare(new)
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                new.mux(packet)
    return target


def add_chapters(container: OutputContainer) -> None:
    """Two chapters, at 0 and 0.5 s."""
    container.set_chapters(
        [
            {"id": i, "start": 500 * i, "end": 500 * i + 500, "time_base": Fraction(1, 1000), "metadata": {"title": t}}
            for i, t in enumerate(["One", "Two"])
        ]
    )


def add_cover(container: OutputContainer) -> None:
    """A red JPEG image as cover art."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(file, "JPEG")
    stream = container.add_mux_stream("mjpeg", width=32, height=32)
    stream.disposition = av.stream.Disposition.attached_pic
    packet = av.Packet(file.getvalue())
    packet.pts, packet.dts, packet.time_base, packet.stream = 0, 0, Fraction(1, 25), stream
    container.mux(packet)


def add_font(container: OutputContainer) -> None:
    """A font, as subtitles in Matroska bring it."""
    container.add_attachment("font.ttf", "application/x-truetype-font", bytes(range(64)))


def as_metadata_track(path: Path) -> None:
    """Make the chapter track of a MOV file a metadata track as iPhones write it, which FFmpeg does not understand."""
    data = path.read_bytes()
    assert b"mhlrtext" in data
    data = data.replace(b"mhlrtext", b"mhlrmeta").replace(b"text\0\0\0\0\0\0\0\1", b"mebx\0\0\0\0\0\0\0\1")
    path.write_bytes(data.replace(b"chap", b"cdsc"))


def as_unknown_sound(path: Path) -> None:
    """Rename the codec of the last sound track of a MOV file to one that FFmpeg does not know."""
    data = path.read_bytes()
    place = data.rindex(b"stsd")
    path.write_bytes(data[:place] + data[place:].replace(b"mp4a", b"xyzw").replace(b"esds", b"skip"))


def add_boxes(path: Path, in_track: bytes, in_sample: bytes) -> None:
    """Append boxes to the first track of an MP4 file and to its sample description; the index must be at the end."""
    data = bytearray(path.read_bytes())
    moov = data.rindex(b"moov") - 4
    track = data.index(b"trak", moov) - 4
    parents = [moov, track, *(data.index(kind, track) - 4 for kind in (b"mdia", b"minf", b"stbl", b"stsd", b"avc1"))]
    for place in parents:
        size = int.from_bytes(data[place : place + 4], "big")
        more = len(in_sample) + (len(in_track) if place <= track else 0)
        if place == track:
            end = place + size
        if place == parents[-1]:
            sample_end = place + size
        data[place : place + 4] = (size + more).to_bytes(4, "big")
    data[end:end] = in_track
    data[sample_end:sample_end] = in_sample
    path.write_bytes(data)


def box(kind: bytes, content: bytes) -> bytes:
    """A box of ISO/IEC 14496-12."""
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def make_adpcm(path: Path, frames: list[np.ndarray]) -> Path:
    """An AVI file with ADPCM sound, at 25 frames per second."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25, width=width, height=height, pix_fmt="yuv420p")
        sound = out.add_stream("adpcm_ms", rate=44_100)
        sound.layout = "mono"
        out.start_encoding()
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            out.mux(video.encode(image.reformat(format="yuv420p")))
        rng = np.random.default_rng(0)
        size = sound.codec_context.frame_size
        for i in range(len(frames) * 44_100 // 25 // size):
            samples = av.AudioFrame.from_ndarray(
                rng.integers(-3000, 3000, (1, size)).astype(np.int16), format="s16", layout="mono"
            )
            samples.sample_rate, samples.pts, samples.time_base = 44_100, i * size, Fraction(1, 44_100)
            out.mux(sound.encode(samples))
        out.mux(sound.encode(None))
        out.mux(video.encode(None))
    return path
