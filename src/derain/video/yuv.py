"""Frames of a decoder to RGB for the network, and the network's change back into the frame's own planes.

A frame is never converted to RGB and back. The change that deraining makes is converted and added to
the planes as they were, so that what the network leaves alone stays bit for bit: chroma between its
samples, colors out of RGB's gamut, the last bit of ten.

Matrices and ranges: ITU-R BT.601, BT.709, BT.2020, SMPTE 240M; codes as in ITU-T H.273.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from av import VideoFrame

FloatArray = npt.NDArray[np.float32]
Planes = list[npt.NDArray[Any]]

# H.273 matrix coefficients -> the weights of red and blue in luma.
_LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
_LUMA |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_YCGCO = 8
_FULL = 2  # FFmpeg's code of full range
_HD = 720  # lines from which an untold matrix is BT.709, by custom


@dataclass(frozen=True)
class Layout:
    """How a frame's planes hold its colors.

    Attributes:
        name: FFmpeg's name of the pixel format; planar, one component a plane.
        bits: of a component.
        ratio: luma pixels to a chroma pixel, across and down; 1, 1 without subsampling.
        kind: ``yuv``, ``rgb`` (planes green, blue, red) or ``gray``; a fourth or second plane is alpha.
        full: the components use all their codes.
        matrix: H.273 code of the matrix, told or supposed.
    """

    name: str
    bits: int
    ratio: tuple[int, int]
    kind: str
    full: bool
    matrix: int

    def _scales(self) -> tuple[float, float, float]:
        """Black's code, and the codes from black to white and of the whole span of chroma."""
        unit = 2 ** (self.bits - 8)
        top = float(2**self.bits - 1)
        return (0.0, top, top) if self.full else (16.0 * unit, 219.0 * unit, 224.0 * unit)

    def _to_ycc(self) -> npt.NDArray[np.float64]:
        """RGB to luma and two chromas of ±0.5."""
        if self.matrix == _YCGCO:
            return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]])
        red, blue = _LUMA.get(self.matrix, _LUMA[6])
        luma = np.array([red, 1 - red - blue, blue])
        by_blue = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
        by_red = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
        return np.stack([luma, by_blue, by_red])

    def rgb(self, planes: Planes) -> FloatArray:
        """``(H, W, 3)`` float32 RGB; beyond [0, 1] where the frame is beyond RGB's gamut."""
        black, white, span = self._scales()
        if self.kind == "rgb":
            green, blue, red = planes[:3]
            return ((np.stack([red, green, blue], axis=2) - np.float32(black)) / np.float32(white)).astype(np.float32)
        luma = (planes[0].astype(np.float32) - np.float32(black)) / np.float32(white)
        if self.kind == "gray":
            return np.repeat(luma[..., None], 3, axis=2)
        middle = np.float32(2 ** (self.bits - 1))
        chroma = [
            self._finer((plane.astype(np.float32) - middle) / np.float32(span), luma.shape) for plane in planes[1:3]
        ]
        back = np.linalg.inv(self._to_ycc()).astype(np.float32)
        return np.stack([luma, *chroma], axis=2) @ back.T

    def changed(self, planes: Planes, change: FloatArray) -> Planes:
        """The planes with a change of RGB added, rounded and kept within the codes; alpha as it was.

        Args:
            planes: of the frame, uint8 or uint16.
            change: ``(H, W, 3)`` RGB, new minus old.
        """
        _, white, span = self._scales()
        if self.kind == "rgb":
            added = [change[..., i] * np.float32(white) for i in (1, 2, 0)]
        elif self.kind == "gray":
            added = [change.mean(axis=2) * np.float32(white)]
        else:
            luma, *chroma = np.moveaxis(change @ self._to_ycc().astype(np.float32).T, 2, 0)
            added = [luma * np.float32(white)]
            added += [
                self._coarser(part, plane.shape) * np.float32(span)
                for part, plane in zip(chroma, planes[1:3], strict=True)
            ]
        top = 2**self.bits - 1
        new = [
            np.clip(np.rint(plane + part), 0, top).astype(plane.dtype)
            for plane, part in zip(planes, added, strict=False)
        ]
        return new + planes[len(new) :]

    def _finer(self, plane: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """Chroma at each luma pixel."""
        if self.ratio == (1, 1):
            return plane
        across, down = self.ratio
        # Full range is JPEG's, with chroma in the middle of its pixels; else it lies on the left ones, as MPEG's.
        left = (1 / across - 1) / 2 if self.full else 0.0
        place = np.array([[1 / across, 0, left], [0, 1 / down, (1 / down - 1) / 2]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(plane, place, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
        )

    def _coarser(self, plane: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """A plane at chroma's resolution, with the places of :meth:`_finer`."""
        if self.ratio == (1, 1):
            return plane
        across, down = self.ratio
        height, width = shape[0] * down, shape[1] * across
        grown = np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), "edge")
        if down > 1:
            grown = grown.reshape(shape[0], down, width).mean(axis=1)
        if across == 1:
            return grown
        if self.full:
            return np.asarray(grown.reshape(shape[0], shape[1], across).mean(axis=2), np.float32)
        tent = np.concatenate([np.arange(1, across + 1), np.arange(across - 1, 0, -1)]).astype(np.float32) / across**2
        smooth = cv2.filter2D(grown, cv2.CV_32F, tent[None], borderType=cv2.BORDER_REPLICATE)
        return np.asarray(smooth, np.float32)[:, ::across]


def layout_of(frame: VideoFrame) -> Layout:
    """The layout of a frame in a format that :func:`workable` accepts."""
    form = frame.format
    colors = [c for c in form.components if not c.is_alpha]
    ratio = (1, 1)
    if form.is_rgb:
        kind = "rgb"
    elif len(colors) == 1:
        kind = "gray"
    else:
        kind = "yuv"
        ratio = (round(colors[0].width / colors[1].width), round(colors[0].height / colors[1].height))
    matrix = int(frame.colorspace)
    if matrix not in _LUMA and matrix != _YCGCO:
        matrix = 1 if min(frame.width, frame.height) >= _HD else 6
    full = kind == "rgb" or form.name.startswith("yuvj") or int(frame.color_range) == _FULL
    return Layout(form.name, colors[0].bits, ratio, kind, full, matrix)


def workable(name: str) -> bool:
    """Whether :class:`Layout` can hold a pixel format: planar, one component a plane, whole numbers, 8 to 16 bits."""
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


def nearest_format(source: str, offered: list[str]) -> str | None:
    """The offered pixel format that keeps most of a source's: itself, or by color, alpha, resolution and bits."""
    import av

    usable = [name for name in offered if workable(name)]
    if source in usable:
        return source
    form = av.VideoFormat(source, 64, 64)

    def facts(form: av.VideoFormat) -> tuple[bool, bool, int, int, int, int]:
        colors = [c for c in form.components if not c.is_alpha]
        alpha, chroma = len(colors) < len(form.components), colors[-1]
        if form.has_palette:
            return True, False, 3, 64, 64, 8
        return form.is_rgb, alpha, len(colors), chroma.width, chroma.height, max(c.bits for c in colors)

    is_rgb, alpha, channels, across, down, bits = facts(form)

    def loss(name: str) -> tuple[bool, bool, bool, bool, bool, int]:
        rgb2, alpha2, channels2, across2, down2, bits2 = facts(av.VideoFormat(name, 64, 64))
        more = abs(across2 - across) + abs(down2 - down) + abs(bits2 - bits)
        more += 64 * abs(channels2 - channels) + 64 * (alpha2 != alpha)
        ranged = source.startswith("yuvj") != name.startswith("yuvj")
        coarser = across2 < across or down2 < down
        return channels2 < channels, coarser, bits2 < bits, rgb2 != is_rgb, ranged or alpha2 < alpha, more

    return min(usable, key=loss, default=None)


def read_planes(frame: VideoFrame) -> Planes:
    """The planes of a frame in a workable format, ``(h, w)`` uint8 or uint16 each, in the order of its components."""
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return [_view(plane, kind)[:, : plane.width].copy() for plane in frame.planes]


def write_planes(frame: VideoFrame, planes: Planes) -> None:
    """Put planes into a frame; a larger frame repeats their last row and column."""
    for target, plane in zip(frame.planes, planes, strict=True):
        view = _view(target, plane.dtype)
        height, width = plane.shape
        grown = np.pad(plane, ((0, target.height - height), (0, target.width - width)), "edge")
        view[:, : target.width] = grown


def _view(plane: Any, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """A plane's memory with the bytes that pad each row."""
    size = np.dtype(kind).itemsize
    flat = np.frombuffer(plane, kind)
    row = plane.line_size // size
    return flat[: row * plane.height].reshape(plane.height, row)
