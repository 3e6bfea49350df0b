"""Decoded frames to RGB for the network, and the network's change added to the frame's own planes.

A frame is never converted to RGB and back. Only the change that deraining makes is converted and added to
the original planes, so that whatever the network leaves alone stays bit-identical: full-resolution chroma
detail, colors outside of the RGB gamut, the low bits of 10-bit video.

Matrices and ranges: ITU-R BT.601, BT.709, BT.2020, SMPTE 240M; codes as in ITU-T H.273.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray

if TYPE_CHECKING:
    from av import VideoFrame

Planes = list[npt.NDArray[Any]]

#: FFmpeg's code of full range.
FULL_RANGE = 2
# H.273 matrix code -> the coefficients of red and blue in luma.
_LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
_LUMA |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_YCGCO = 8
_HD = 720  # lines from which an unspecified matrix is BT.709, by convention


@dataclass(frozen=True)
class Layout:
    """How a frame's planes store its colors.

    Attributes:
        name: FFmpeg's name of the pixel format; planar, one component per plane.
        bits: of a component.
        ratio: luma pixels per chroma pixel, horizontally and vertically; 1, 1 without subsampling.
        kind: ``yuv``, ``rgb`` (planes green, blue, red) or ``gray``; an additional plane is alpha.
        full: the components use the full range of codes.
        matrix: H.273 code of the matrix, declared or assumed.
    """

    name: str
    bits: int
    ratio: tuple[int, int]
    kind: str
    full: bool
    matrix: int

    def _scales(self) -> tuple[float, float, float]:
        """The code of black, and the number of codes from black to white and across chroma's range."""
        unit = 2 ** (self.bits - 8)
        top = float(2**self.bits - 1)
        return (0.0, top, top) if self.full else (16.0 * unit, 219.0 * unit, 224.0 * unit)

    def _to_ycc(self) -> npt.NDArray[np.float64]:
        """The matrix from RGB to luma and two chroma components of ±0.5."""
        if self.matrix == _YCGCO:
            return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]])
        red, blue = _LUMA.get(self.matrix, _LUMA[6])
        luma = np.array([red, 1 - red - blue, blue])
        by_blue = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
        by_red = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
        return np.stack([luma, by_blue, by_red])

    def rgb(self, planes: Planes) -> FloatArray:
        """``(H, W, 3)`` float32 RGB; outside of [0, 1] where the frame is outside of the RGB gamut."""
        black, white, span = self._scales()
        if self.kind == "rgb":
            green, blue, red = planes[:3]
            return ((np.stack([red, green, blue], axis=2) - np.float32(black)) / np.float32(white)).astype(np.float32)
        luma = (planes[0].astype(np.float32) - np.float32(black)) / np.float32(white)
        if self.kind == "gray":
            return np.repeat(luma[..., None], 3, axis=2)
        middle = np.float32(2 ** (self.bits - 1))
        chroma = [
            self._upsample((plane.astype(np.float32) - middle) / np.float32(span), luma.shape) for plane in planes[1:3]
        ]
        back = np.linalg.inv(self._to_ycc()).astype(np.float32)
        return np.stack([luma, *chroma], axis=2) @ back.T

    def changed(self, planes: Planes, change: FloatArray) -> Planes:
        """The planes with a change in RGB added, rounded and clipped to valid codes; alpha stays as it was.

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
                self._downsample(part, plane.shape) * np.float32(span)
                for part, plane in zip(chroma, planes[1:3], strict=True)
            ]
        top = 2**self.bits - 1
        new = [
            np.clip(np.rint(plane + part), 0, top).astype(plane.dtype)
            for plane, part in zip(planes, added, strict=False)
        ]
        return new + planes[len(new) :]

    def _upsample(self, plane: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """Chroma at each luma pixel."""
        if self.ratio == (1, 1):
            return plane
        across, down = self.ratio
        # Chroma siting: centered with full range, as in JPEG; else on the left luma pixels, as in MPEG.
        left = (1 / across - 1) / 2 if self.full else 0.0
        transform = np.array([[1 / across, 0, left], [0, 1 / down, (1 / down - 1) / 2]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(plane, transform, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE),
            np.float32,
        )

    def _downsample(self, plane: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """A plane at chroma's resolution, with the siting of :meth:`_upsample`."""
        if self.ratio == (1, 1):
            return plane
        across, down = self.ratio
        height, width = shape[0] * down, shape[1] * across
        padded = np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), "edge")
        if down > 1:
            padded = padded.reshape(shape[0], down, width).mean(axis=1)
        if across == 1:
            return padded
        if self.full:
            return np.asarray(padded.reshape(shape[0], shape[1], across).mean(axis=2), np.float32)
        tent = np.concatenate([np.arange(1, across + 1), np.arange(across - 1, 0, -1)]).astype(np.float32) / across**2
        smooth = cv2.filter2D(padded, cv2.CV_32F, tent[None], borderType=cv2.BORDER_REPLICATE)
        return np.asarray(smooth, np.float32)[:, ::across]


def matrix_of(declared: int, width: int, height: int) -> int:
    """The H.273 code of the matrix of YUV planes: the declared one, else by convention that of the frame's size."""
    if declared in _LUMA or declared == _YCGCO:
        return declared
    return 1 if min(width, height) >= _HD else 6


def layout_of(frame: VideoFrame) -> Layout:
    """The layout of a frame in a format that :func:`~derain.video.formats.is_supported` accepts."""
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
    matrix = matrix_of(int(frame.colorspace), frame.width, frame.height)
    full = kind == "rgb" or form.name.startswith("yuvj") or int(frame.color_range) == FULL_RANGE
    return Layout(form.name, colors[0].bits, ratio, kind, full, matrix)


def read_planes(frame: VideoFrame) -> Planes:
    """The planes of a frame in a supported format, ``(h, w)`` uint8 or uint16 each, in the order of its components."""
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return [_view(plane, kind)[:, : plane.width].copy() for plane in frame.planes]


def write_planes(frame: VideoFrame, planes: Planes) -> None:
    """Copy planes into a frame; a larger frame repeats their last row and column."""
    for target, plane in zip(frame.planes, planes, strict=True):
        view = _view(target, plane.dtype)
        height, width = plane.shape
        padded = np.pad(plane, ((0, target.height - height), (0, target.width - width)), "edge")
        view[:, : target.width] = padded


def _view(plane: Any, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """A view of a plane's memory, including the padding of each row."""
    size = np.dtype(kind).itemsize
    flat = np.frombuffer(plane, kind)
    row = plane.line_size // size
    return flat[: row * plane.height].reshape(plane.height, row)


@dataclass(frozen=True)
class SourceFrame:
    """A decoded frame: its planes, and as upright RGB.

    Attributes:
        time: ticks.
        planes: as decoded.
        layout: of the planes.
        rot90: counterclockwise rotations by 90 degrees that make the frame upright.
        rgb: ``(H, W, 3)`` float32 in [0, 1], upright.
    """

    time: int
    planes: Planes
    layout: Layout
    rot90: int
    rgb: FloatArray

    @classmethod
    def from_frame(cls, time: int, frame: VideoFrame, rot90: int) -> SourceFrame:
        """Copy a decoded frame in a supported format."""
        planes, layout = read_planes(frame), layout_of(frame)
        rgb = np.clip(layout.rgb(planes), 0, 1)
        return cls(time, planes, layout, rot90, np.ascontiguousarray(np.rot90(rgb, rot90)))

    def changed_planes(self, change: FloatArray) -> Planes:
        """The planes with a change of :attr:`rgb` added."""
        return self.layout.changed(self.planes, np.ascontiguousarray(np.rot90(change, -self.rot90)))
