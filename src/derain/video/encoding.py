"""Choosing how frames are encoded: encoder, its options, pixel format and frame size."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain.errors import OutputError

from .containers import WRITABLE
from .formats import Color, convert, encoded_color, has_alpha, nearest_format, planar_format
from .reader import Clip, VideoProperties
from .yuv import SourceFrame

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

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
    "png": "png",
    "qtrle": "qtrle",
}
_H264, _H264_RGB, _PLAIN_RGB = "libx264", "libx264rgb", "gbrp"
# Formats of editors, which players expect in MOV files only.
_EDITING = frozenset({"png", "qtrle"})
# Encoder -> its options; rate factors are chosen so that the result is hard to tell from the source.
_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "medium", "crf": "18"},
    "libx265": {"preset": "medium", "crf": "20", "x265-params": "log-level=error"},
    "libvpx": {"crf": "8", "b": "20M", "deadline": "good", "cpu-used": "2"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "2", "row-mt": "1"},
    "libsvtav1": {"crf": "24", "preset": "6"},
    "mpeg4": {"qmin": "2", "qmax": "3"},
    "mjpeg": {"qmin": "2", "qmax": "3"},
    "ffv1": {"level": "3"},
}
_OPTIONS[_H264_RGB] = _OPTIONS[_H264]
_MAX_CRF = {_H264: 51, _H264_RGB: 51, "libx265": 51, "libvpx": 63, "libvpx-vp9": 63, "libsvtav1": 63}
# Encoders that need even dimensions wherever chroma is subsampled.
_EVEN_ONLY = {"libx264", "libx265", "libsvtav1", "prores_ks"}
# Encoders that put transparency beside the packets, and the formats that Matroska and FFmpeg's decoders know of it.
_ALPHA_KEPT: dict[str, tuple[str, ...]] = {"libvpx": ("yuva420p",), "libvpx-vp9": ("yuva420p",), "libx265": ()}
_CODEC_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER
_FORMAT_GLOBAL_HEADER = 0x40  # AVFMT_GLOBALHEADER


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    Attributes:
        encoder: FFmpeg's name.
        options: of the encoder.
        pix_fmt: the pixel format of the encoded frames.
        planar: the pixel format in which frames are changed, with the same values as ``pix_fmt``.
        color: range, matrix, primaries and transfer of the encoded frames, as H.273 codes.
        width, height: of the encoded frames; up to a pixel more than the source's where the encoder needs even ones.
        global_header: whether the container stores the encoder's header once instead of in each key frame.
        source: the properties of the source's frames.
    """

    encoder: str
    options: dict[str, str]
    pix_fmt: str
    planar: str
    color: Color
    width: int
    height: int
    global_header: bool
    source: VideoProperties

    def configure(self, context: Any) -> None:
        """Set up a codec context that has not been opened yet."""
        if self.encoder == "libsvtav1":  # prints its settings to stderr, past FFmpeg's log
            os.environ.setdefault("SVT_LOG", "1")  # errors only
        context.width, context.height = self.width, self.height
        context.pix_fmt = self.pix_fmt
        context.time_base = self.source.time_base
        context.framerate = self.source.rate
        if self.source.aspect:
            context.sample_aspect_ratio = self.source.aspect
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = self.color
        context.options = dict(self.options)
        if self.global_header:
            context.flags |= _CODEC_GLOBAL_HEADER

    def source_frame(self, time: int, frame: av.VideoFrame) -> SourceFrame:
        """A decoded frame, converted to :attr:`planar` if it has another format."""
        if frame.format.name != self.planar:
            frame = convert(frame, self.planar, self.color)
        return SourceFrame.from_frame(time, frame, self.source.rot90)

    def rejected(self, error: av.error.FFmpegError) -> OutputError:
        """The error for a user when the encoder does not take the frames."""
        return OutputError(
            f"--codec {self.encoder}: rejects {self.width}×{self.height} {self.pix_fmt} frames "
            f"({error.strerror}); choose another"
        )

    def create_context(self) -> av.VideoCodecContext:
        """A new encoder that belongs to no container."""
        import av

        context = av.CodecContext.create(self.encoder, "w")
        assert isinstance(context, av.VideoCodecContext)
        self.configure(context)
        return context


def choose_encoding(clip: Clip, output: Path, codec: str | None, crf: int | None) -> Encoding:
    """Choose the encoding of a clip for an output file.

    Args:
        clip: the source.
        output: the file to be written; its suffix determines the container.
        codec: ``h264``, ``hevc``, ``vp9``, ``av1``…, an encoder's name, or ``None`` for the source's codec where
            the container can hold it, else the container's usual one.
        crf: the encoder's rate factor; a lower one gives better quality and larger files.

    Raises:
        OutputError: an impossible suffix, codec or rate factor.
    """
    import av

    if output.suffix.lower() not in WRITABLE:
        suffix = output.suffix or "a file without suffix"
        raise OutputError(f"{output}: cannot write a clip as {suffix}; use .mp4 or .mkv")
    if crf is not None and crf < 0:
        raise OutputError(f"--crf {crf}: must not be negative")
    # A file that is never finished shows which codecs the container can hold.
    with tempfile.TemporaryDirectory() as folder, av.open(str(Path(folder) / f"x{output.suffix}"), "w") as probe:
        global_header = bool(probe.format.flags & _FORMAT_GLOBAL_HEADER)
        encoder = _choose_encoder(clip, output, codec, probe)
    source = clip.properties
    formats = [video_format.name for video_format in av.Codec(encoder, "w").video_formats or []]
    if encoder in _ALPHA_KEPT:
        kept = _ALPHA_KEPT[encoder] if output.suffix.lower() in (".webm", ".mkv") else ()
        formats = [name for name in formats if not has_alpha(name) or name in kept]
    pix_fmt = nearest_format(source.pix_fmt, formats)
    planar = planar_format(pix_fmt) if pix_fmt is not None else None
    if pix_fmt is None or planar is None:
        raise OutputError(
            f"--codec {codec or encoder}: takes no pixel format that derain writes; use h264, hevc, vp9 or ffv1"
        )
    options = _encoder_options(encoder, crf)
    if encoder == "libvpx" and has_alpha(pix_fmt):
        options["auto-alt-ref"] = "0"  # VP8's hidden frames have no counterpart in the transparency
    width, height = _encoded_size(source, encoder, pix_fmt)
    color = encoded_color(source.color, source.pix_fmt, pix_fmt, source.width, source.height)
    return Encoding(encoder, options, pix_fmt, planar, color, width, height, global_header, source)


def _choose_encoder(clip: Clip, output: Path, codec: str | None, probe: OutputContainer) -> str:
    import av

    suffix = output.suffix.lower()

    def can_hold(encoder: str) -> bool:
        if suffix == ".ts":  # its muxer accepts any codec, but players do not
            return encoder in (_H264, _H264_RGB, "libx265")
        try:
            probe.add_stream(encoder)
        except ValueError:
            return False
        return True

    if codec is None:
        own = _ENCODERS.get(clip.codec)
        if own == _H264 and planar_format(clip.properties.pix_fmt) == _PLAIN_RGB:
            own = _H264_RGB
        if own in _EDITING and suffix != ".mov":
            own = None
        usual = "libvpx-vp9" if suffix == ".webm" else _H264
        encoder = own if own is not None and can_hold(own) else usual
    else:
        encoder = _ENCODERS.get(codec, codec)
    try:
        kind = av.Codec(encoder, "w").type
    except ValueError:
        raise OutputError(f"--codec {encoder}: this PyAV has no such encoder; use h264, hevc, vp9 or ffv1") from None
    if kind != "video" or not can_hold(encoder):
        raise OutputError(f"{output}: {output.suffix} cannot hold {codec or encoder}; choose another suffix or --codec")
    return encoder


def _encoder_options(encoder: str, crf: int | None) -> dict[str, str]:
    options = dict(_OPTIONS.get(encoder, {}))
    if crf is not None:
        max_crf = _MAX_CRF.get(encoder)
        if max_crf is None:
            raise OutputError(f"--crf {crf}: {encoder} has no rate factor; leave it out")
        if crf > max_crf:
            raise OutputError(f"--crf {crf}: must lie between 0 and {max_crf} for {encoder}; choose another")
        options["crf"] = str(crf)
    return options


def _encoded_size(source: VideoProperties, encoder: str, pix_fmt: str) -> tuple[int, int]:
    """The source's size, rounded up to even along subsampled directions if the encoder needs it."""
    import av

    sample = av.VideoFormat(pix_fmt, 64, 64)
    if sample.is_rgb or len(sample.components) < 3 or encoder not in _EVEN_ONLY:
        return source.width, source.height
    chroma = sample.components[-1]
    across, down = (2 if size < 64 else 1 for size in (chroma.width, chroma.height))
    return -(-source.width // across) * across, -(-source.height // down) * down
