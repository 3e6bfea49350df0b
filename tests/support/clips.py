"""Clips as files, made to measure, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from derain.video.yuv import read_planes

#: Per second, in the clips of :func:`make_clip`.
TICKS = 12_800
# H.273 code of a matrix -> swscale's, where that differs.
_SWSCALE = {6: 5}


def unchanged(frame: np.ndarray) -> np.ndarray:
    """A network that leaves everything as it is."""
    return frame


def darker(frame: np.ndarray) -> np.ndarray:
    return frame * np.float32(0.5)


def make_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: str | None = None,
    rotation: int = 0,
    color: tuple[int, int, int, int] = (1, 1, 1, 1),
    alpha: bool = False,
    timecode: str | None = None,
) -> Path:
    """A clip of RGB frames, uint8; times in 1/12800 s, 25 frames per second by default.

    ``alpha`` adds transparency that grows from left to right.
    """
    times = times or [512 * i for i in range(len(frames))]
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, width=width, height=height, pix_fmt=pix_fmt)
        video.codec_context.time_base = Fraction(1, TICKS)
        video.time_base = Fraction(1, TICKS)
        context = video.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = color
        if codec == "libx264":
            context.options = {"preset": "ultrafast", "bf": "2"}
        if timecode:
            video.metadata["timecode"] = timecode
        if rotation:
            video.set_display_rotation(rotation)
        if codec == "libvpx" and alpha:
            context.options = {"auto-alt-ref": "0"}
        ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[:, None], (height, width, 1))
        sound = out.add_stream(audio, rate=48_000) if audio else None
        for time_, frame in zip(times, frames, strict=True):
            pixels = np.concatenate([frame, ramp], axis=2) if alpha else np.ascontiguousarray(frame)
            encoded = av.VideoFrame.from_ndarray(pixels, format="rgba" if alpha else "rgb24")
            if encoded.reformat(format=pix_fmt).format.is_rgb:
                encoded = encoded.reformat(format=pix_fmt)
                encoded.color_range, encoded.colorspace = color[:2]
            else:
                matrix = _SWSCALE.get(color[1], color[1])
                encoded = encoded.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=color[0])
            encoded.pts, encoded.time_base = time_, Fraction(1, TICKS)
            out.mux(video.encode(encoded))
        if sound is not None:
            rng = np.random.default_rng(0)
            for i in range((times[-1] + 512) * 48_000 // TICKS // 1024):
                noise = (0.1 * rng.standard_normal((2, 1024))).astype(np.float32)
                samples = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
                samples.sample_rate, samples.pts, samples.time_base = 48_000, 1024 * i, Fraction(1, 48_000)
                out.mux(sound.encode(samples))
            out.mux(sound.encode(None))
        out.mux(video.encode(None))
    return path


def decoded(path: Path) -> list[tuple[int, list[np.ndarray]]]:
    with av.open(str(path)) as container:
        return [(f.pts, read_planes(f)) for f in container.decode(video=0)]


def rgb_frames(path: Path) -> np.ndarray:
    """All frames as FFmpeg shows them, ``(N, H, W, 3)`` of 0 to 255, float."""
    with av.open(str(path)) as container:
        return np.array([_as_rgb(frame) for frame in container.decode(video=0)], float)


def _as_rgb(frame: av.VideoFrame) -> np.ndarray:
    # PyAV passes H.273 codes to swscale, which has other ones.
    matrix = _SWSCALE.get(int(frame.colorspace), int(frame.colorspace))
    return frame.to_ndarray(format="rgb24", src_colorspace=matrix) if matrix != 2 else frame.to_ndarray(format="rgb24")


def packets(path: Path, kind: str) -> list[tuple[int, int, int, bytes]]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(p.pts, p.dts, p.duration, bytes(p)) for p in container.demux(stream) if p.size]
