"""Choosing how frames are encoded: encoder, its options, pixel format and frame size."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain.errors import OutputError

from .containers import WRITABLE, copy_stream
from .reader import Clip, VideoProperties
from .yuv import FULL_RANGE, SourceFrame, nearest_format

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
}
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
    "prores_ks": {},
}
_MAX_CRF = {"libx264": 51, "libx265": 51, "libvpx": 63, "libvpx-vp9": 63, "libsvtav1": 63}
# Encoders that need even dimensions wherever chroma is subsampled.
_EVEN_ONLY = {"libx264", "libx265", "libsvtav1", "prores_ks"}
_CODEC_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER
_FORMAT_GLOBAL_HEADER = 0x40  # AVFMT_GLOBALHEADER


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    Attributes:
        encoder: FFmpeg's name.
        options: of the encoder.
        pix_fmt: the pixel format of the encoded frames.
        width, height: of the encoded frames; up to a pixel more than the source's where the encoder needs even ones.
        global_header: whether the container stores the encoder's header once instead of in each key frame.
        source: the properties of the source's frames.
    """

    encoder: str
    options: dict[str, str]
    pix_fmt: str
    width: int
    height: int
    global_header: bool
    source: VideoProperties

    def configure(self, context: Any) -> None:
        """Set up a codec context that has not been opened yet."""
        context.width, context.height = self.width, self.height
        context.pix_fmt = self.pix_fmt
        context.time_base = self.source.time_base
        context.framerate = self.source.rate
        if self.source.aspect:
            context.sample_aspect_ratio = self.source.aspect
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = self.source.color
        context.options = dict(self.options)
        if self.global_header:
            context.flags |= _CODEC_GLOBAL_HEADER

    def source_frame(self, time: int, frame: av.VideoFrame) -> SourceFrame:
        """A decoded frame, converted to this encoding's pixel format if it has another one."""
        if frame.format.name != self.pix_fmt:
            color_range = FULL_RANGE if self.pix_fmt.startswith("yuvj") else self.source.color[0]
            converted = frame.reformat(format=self.pix_fmt, dst_color_range=color_range or None)
            converted.colorspace, converted.color_range = frame.colorspace, color_range
            frame = converted
        return SourceFrame.from_frame(time, frame, self.source.rot90)

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
        OutputError: an impossible suffix, codec or rate factor, or the container cannot hold the clip's sound.
    """
    import av

    if output.suffix.lower() not in WRITABLE:
        suffix = output.suffix or "a file without suffix"
        raise OutputError(f"{output}: cannot write a clip as {suffix}; use .mp4 or .mkv")
    if crf is not None and crf < 0:
        raise OutputError(f"--crf {crf}: must not be negative")
    # A file that is never finished shows which streams the container can hold.
    with tempfile.TemporaryDirectory() as folder, av.open(str(Path(folder) / f"x{output.suffix}"), "w") as probe:
        global_header = bool(probe.format.flags & _FORMAT_GLOBAL_HEADER)
        encoder = _choose_encoder(clip, output, codec, probe)
        with clip.open() as source:
            for stream in source.streams.audio:
                if copy_stream(probe, stream) is None:
                    raise OutputError(f"{output}: {output.suffix} cannot hold the sound ({stream.name}); use .mkv")
    formats = av.Codec(encoder, "w").video_formats or []
    pix_fmt = nearest_format(clip.properties.pix_fmt, [video_format.name for video_format in formats])
    if pix_fmt is None:
        raise OutputError(
            f"--codec {codec or encoder}: takes no pixel format that derain writes; use h264, hevc, vp9 or ffv1"
        )
    options = _encoder_options(encoder, crf)
    width, height = _encoded_size(clip.properties, encoder, pix_fmt)
    return Encoding(encoder, options, pix_fmt, width, height, global_header, clip.properties)


def _choose_encoder(clip: Clip, output: Path, codec: str | None, probe: OutputContainer) -> str:
    import av

    suffix = output.suffix.lower()

    def can_hold(encoder: str) -> bool:
        if suffix == ".ts":  # its muxer accepts any codec, but players do not
            return encoder in ("libx264", "libx265")
        try:
            probe.add_stream(encoder)
        except ValueError:
            return False
        return True

    if codec is None:
        own = _ENCODERS.get(clip.codec)
        usual = "libvpx-vp9" if suffix == ".webm" else "libx264"
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
