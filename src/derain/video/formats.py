"""Pixel formats: which are supported, which one an encoder takes, and conversion between them.

Frames are changed in planar formats with one component per plane. Packed RGB, which some encoders take, is the same
values in another order, so it is unpacked before and packed after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .yuv import FULL_RANGE, matrix_of

if TYPE_CHECKING:
    from av import VideoFormat, VideoFrame

#: Range, matrix, primaries and transfer, as H.273 codes.
Color = tuple[int, int, int, int]

# Packed RGB -> the planar format of the same values.
_PLANAR = dict.fromkeys(("rgb24", "bgr24", "rgb0", "bgr0", "0rgb", "0bgr"), "gbrp")
_PLANAR |= dict.fromkeys(("rgba", "bgra", "argb", "abgr"), "gbrap")
_PLANAR |= dict.fromkeys(("rgb48le", "rgb48be"), "gbrp16le") | dict.fromkeys(("rgba64le", "rgba64be"), "gbrap16le")

_LIMITED_RANGE = 1
_RGB_MATRIX = 0
# Primaries -> the matrix that belongs to them.
_MATRIX = {1: 1, 5: 6, 6: 6, 9: 9}
# Matrix -> swscale's code, where that differs.
_SWSCALE = {6: 5, 10: 9}


def is_supported(name: str) -> bool:
    """Whether frames of a format can be changed: planar, one component per plane, integers of 8 to 16 bits."""
    import av

    try:
        form = av.VideoFormat(name)
    except ValueError:
        return False
    parts = form.components
    if form.has_palette or form.is_bit_stream or not parts or form.name.startswith(("xyz", "bayer")):
        return False
    if "f16" in name or "f32" in name or "msb" in name or (form.is_big_endian and parts[0].bits > 8):
        return False
    same_bits = len({c.bits for c in parts}) == 1 and 8 <= parts[0].bits <= 16
    return same_bits and sorted(c.plane for c in parts) == list(range(len(parts)))


def planar_format(name: str) -> str | None:
    """The supported format that holds the same values as ``name``, or ``None``."""
    return name if is_supported(name) else _PLANAR.get(name)


def has_alpha(name: str) -> bool:
    """Whether a pixel format has a component for transparency."""
    import av

    return any(c.is_alpha for c in av.VideoFormat(name).components)


def nearest_format(source: str, offered: list[str]) -> str | None:
    """The pixel format of ``offered`` that loses least: the source's own, else by channels, alpha, resolution, bits."""
    import av

    usable = [name for name in offered if planar_format(name)]
    if source in usable:
        return source

    def facts(form: VideoFormat) -> tuple[bool, bool, int, int, int, int]:
        colors = [c for c in form.components if not c.is_alpha]
        alpha, chroma = len(colors) < len(form.components), colors[-1]
        if form.has_palette:
            return True, False, 3, 64, 64, 8
        return form.is_rgb, alpha, len(colors), chroma.width, chroma.height, max(c.bits for c in colors)

    is_rgb, alpha, channels, across, down, bits = facts(av.VideoFormat(source, 64, 64))

    def loss(name: str) -> tuple[bool, bool, bool, bool, bool, bool, bool, int]:
        rgb2, alpha2, channels2, across2, down2, bits2 = facts(av.VideoFormat(name, 64, 64))
        more = abs(across2 - across) + abs(down2 - down) + abs(bits2 - bits)
        more += 64 * abs(channels2 - channels) + 64 * (alpha2 != alpha)
        ranged = source.startswith("yuvj") != name.startswith("yuvj")
        coarser = across2 < across or down2 < down
        to_rgb = rgb2 and not is_rgb
        return channels2 < channels, alpha2 < alpha, to_rgb, coarser, bits2 < bits, rgb2 != is_rgb, ranged, more

    return min(usable, key=loss, default=None)


def encoded_color(color: Color, source: str, target: str, width: int, height: int) -> Color:
    """The color description of frames that are converted from one pixel format to another.

    Args:
        color: of the source.
        source, target: pixel formats.
        width, height: of the frames.
    """
    color_range, matrix, primaries, transfer = color
    from_rgb, to_rgb = _is_rgb(source), _is_rgb(target)
    if to_rgb:
        return color_range if from_rgb else FULL_RANGE, _RGB_MATRIX, primaries, transfer
    if from_rgb:
        color_range = _LIMITED_RANGE
    if target.startswith("yuvj"):
        color_range = FULL_RANGE
    if from_rgb or matrix == _RGB_MATRIX:  # planes that are YUV have a matrix
        matrix = _MATRIX.get(primaries, matrix_of(_RGB_MATRIX, width, height))
    return color_range, matrix, primaries, transfer


def convert(frame: VideoFrame, pix_fmt: str, color: Color) -> VideoFrame:
    """A frame in another pixel format, described by ``color``, which :func:`encoded_color` gives."""
    color_range, matrix = color[:2]
    from_rgb, to_rgb = _is_rgb(frame.format.name), _is_rgb(pix_fmt)
    if from_rgb and to_rgb:
        converted = frame.reformat(format=pix_fmt)
    elif from_rgb:
        converted = frame.reformat(
            format=pix_fmt, dst_colorspace=_SWSCALE.get(matrix, matrix), dst_color_range=color_range
        )
    elif to_rgb:
        own = matrix_of(int(frame.colorspace), frame.width, frame.height)
        converted = frame.reformat(format=pix_fmt, src_colorspace=_SWSCALE.get(own, own), dst_color_range=FULL_RANGE)
    else:
        converted = frame.reformat(format=pix_fmt, dst_color_range=color_range or None)
        matrix = int(frame.colorspace)
    converted.colorspace, converted.color_range = matrix, color_range
    return converted


def _is_rgb(name: str) -> bool:
    import av

    form = av.VideoFormat(name)
    return form.is_rgb or form.has_palette
