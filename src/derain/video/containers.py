"""Containers: files that FFmpeg opens, and the streams that a new file can hold.

PyAV is FFmpeg's libraries in a wheel. It is imported inside functions, so that suffixes can be looked up without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from derain import images
from derain.errors import DerainError, InputError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer, OutputContainer

#: Suffixes of the containers that can be written.
WRITABLE = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts"})
#: Of these, MP4 and its relatives.
QUICKTIME = frozenset({".mp4", ".m4v", ".mov"})
#: Suffixes that ``derain run`` treats as clips; FFmpeg detects the actual container by content.
SUFFIXES = WRITABLE | {
    *(".avi", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".nut", ".h264", ".hevc"),
}

#: FFmpeg options for untrusted clips: only containers that cannot reference other files, and only local files.
UNTRUSTED = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,nut,mxf",
    "protocol_whitelist": "file",
}


@dataclass(frozen=True)
class ReadOptions:
    """How a clip is opened and decoded.

    Attributes:
        ffmpeg: options of FFmpeg's demuxer, such as :data:`UNTRUSTED`.
        max_pixels: larger frames are not decoded, also where the size changes within the clip.
    """

    ffmpeg: dict[str, str] = field(default_factory=dict)
    max_pixels: int = images.MAX_PIXELS


def require_av() -> None:
    """Check that PyAV is installed.

    Raises:
        DerainError: it is not; the message says how to install it.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise DerainError('clips need PyAV; install it: pip install "derain[video]"') from None


@contextlib.contextmanager
def open_clip(path: Path, ffmpeg_options: dict[str, str]) -> Iterator[InputContainer]:
    """Open a file for reading.

    Raises:
        InputError: missing, empty, or in no format that FFmpeg reads.
    """
    import av

    try:
        if not path.stat().st_size:
            raise InputError(f"{path}: is empty (0 bytes); the copy or download probably failed")
        container = av.open(str(path), metadata_errors="replace", options=ffmpeg_options)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name") from None
    except (OSError, av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: not a clip that FFmpeg can read, or damaged ({reason})") from None
    with container:
        yield container


def video_stream(path: Path, container: InputContainer) -> av.VideoStream:
    """The first video stream that is not cover art.

    Raises:
        InputError: there is none.
    """
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            stream.thread_type = "AUTO"
            return stream
    raise InputError(f"{path}: has no video stream; choose another file")


def declared_size(path: Path) -> tuple[int, int]:
    """Width and height in the header of an untrusted clip, pixels; no frame is decoded.

    Raises:
        InputError: not a clip, or in a container that :data:`UNTRUSTED` excludes.
    """
    with open_clip(path, UNTRUSTED) as container:
        stream = video_stream(path, container)
        return stream.codec_context.width, stream.codec_context.height


def stream_name(stream: av.stream.Stream) -> str | None:
    """The name of a stream's codec, of an attachment its file name; ``None`` if FFmpeg does not know it."""
    return getattr(stream, "name", None)


def copy_stream(output: OutputContainer, stream: av.stream.Stream) -> av.stream.Stream | None:
    """Add a stream like ``stream`` to a new file; ``None`` if its container cannot hold it."""
    import av

    is_dvb = (stream_name(stream) or "").startswith("dvb")
    if output.format.name == "mpegts" and stream.type == "subtitle" and not is_dvb:
        return None  # FFmpeg would write it as private data that no player reads
    for opaque in (None, True):  # the second copies also what FFmpeg cannot encode under the decoder's name
        with contextlib.suppress(ValueError, TypeError, NotImplementedError, av.error.FFmpegError):
            return output.add_stream_from_template(stream, opaque=opaque)
    return None
