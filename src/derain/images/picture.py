"""The :class:`Picture` value: the pixels of an image file and everything that must survive the round trip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from derain.arrays import FloatArray, Quantizer, convert_depth, to_float, to_integers

from .orientation import to_stored
from .writing import write

STRIP = 256  # rows converted at a time


@dataclass(frozen=True)
class Picture:
    """A still image.

    Attributes:
        values: upright colors: ``(H, W, 3)`` RGB or ``(H, W)`` gray, uint8 or uint16 of the full range as
            in the file; or ``(H, W, 3)`` float32 RGB, clamped to [0, 1] when written. May be a view in any
            memory order.
        alpha: ``(H, W)`` uint8 or uint16, unchanged and upright, or ``None``.
        depth: bits per channel of the source, 8 or 16.
        gray: the source had no color; a result is written without color too.
        orientation: EXIF orientation of the source, 1 to 8. Files that carry EXIF are written in the
            source's stored orientation with the same tag, so that they are displayed like the source.
        exif: the source's EXIF block, or ``None``.
        icc: the source's ICC profile, or ``None``. Pixels are never converted to another profile, except for
            formats without profiles, and except CMYK, which is converted to RGB for the network and back.
        xmp: the source's XMP packet, or ``None``.
        iptc: the source's Photoshop image resources, which hold IPTC records, or ``None``.
        text: keywords and texts of a PNG, and the comments of a JPEG, with the keyword ``Comment``.
        color_chunks: tags and contents of the chunks of a PNG that say how its colors are meant.
        associated: the colors of the source were multiplied by alpha, and are so again in a TIFF.
        cmyk: ``(H, W, 4)`` uint8 values of a CMYK source, upright, or ``None``.
        format: Pillow's name of the source format (``JPEG``, ``PNG``…), or ``None``.
        info: further settings to preserve, such as ``dpi``.
        notes: what was left out or repaired, in words.
    """

    values: npt.NDArray[Any]
    alpha: npt.NDArray[Any] | None = None
    depth: int = 8
    gray: bool = False
    orientation: int = 1
    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    color_chunks: tuple[tuple[bytes, bytes], ...] = ()
    associated: bool = False
    cmyk: npt.NDArray[np.uint8] | None = None
    format: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height when upright, pixels."""
        return self.values.shape[1], self.values.shape[0]

    @property
    def channels(self) -> int:
        """Number of channels of :meth:`array`: 1 or 3, and one more for alpha."""
        return (1 if self.gray else 3) + (self.alpha is not None)

    @property
    def pixels(self) -> FloatArray:
        """``(H, W, 3)`` float32 RGB in [0, 1], upright. Computed on each access: 12 bytes per pixel."""
        return self.float_rows(slice(None))

    def with_pixels(self, pixels: FloatArray, quantizer: Quantizer = "round") -> Picture:
        """The same image with other colors.

        Args:
            pixels: ``(H, W, 3)`` float; kept, and clamped to [0, 1] and rounded when written.
            quantizer: ``truncate`` makes integers of them at once.

        Raises:
            ValueError: another shape.
        """
        if pixels.shape != (*self.values.shape[:2], 3):
            raise ValueError(f"new pixels are {pixels.shape}, the image {(*self.values.shape[:2], 3)}")
        if quantizer == "truncate":
            colors = pixels.mean(axis=2) if self.gray else pixels
            return replace(self, values=to_integers(colors, np.uint16 if self.depth == 16 else np.uint8, quantizer))
        return replace(self, values=pixels)

    def float_rows(self, rows: slice) -> FloatArray:
        """Some rows of :attr:`pixels`."""
        strip = to_float(self.values[rows])
        return np.ascontiguousarray(strip) if strip.ndim == 3 else np.repeat(strip[..., None], 3, axis=2)

    def integer_rows(self, rows: slice) -> npt.NDArray[Any]:
        """Some rows as ``(rows, W, channels)``, integers at the source's depth, alpha last."""
        dtype = np.uint16 if self.depth == 16 else np.uint8
        strip = self.values[rows]
        if strip.dtype.kind == "f":
            strip = strip.mean(axis=2) if self.gray else strip
            strip = to_integers(strip, dtype)
        planes = [strip[..., None] if strip.ndim == 2 else strip]
        if self.alpha is not None:
            planes.append(self.alpha[rows, :, None])
        planes = [convert_depth(plane, dtype) for plane in planes]
        return np.ascontiguousarray(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2))

    def strips(self) -> Iterator[slice]:
        """Slices of rows that cover the image from top to bottom; large images are converted strip by strip."""
        height = self.size[1]
        for start in range(0, height, STRIP):
            yield slice(start, min(start + STRIP, height))

    def array(self) -> npt.NDArray[Any]:
        """Upright integer pixels at the source's depth: ``(H, W)``, ``(H, W, 3)`` or with alpha last."""
        width, height = self.size
        result = np.empty((height, width, self.channels), np.uint16 if self.depth == 16 else np.uint8)
        for rows in self.strips():
            result[rows] = self.integer_rows(rows)
        return result[..., 0] if self.channels == 1 else result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self.array() if dtype is None else self.array().astype(dtype)

    def to_pil(self) -> Image.Image:
        """An upright 8-bit PIL image (16-bit gray stays ``I;16``; 16-bit color becomes 8-bit)."""
        if self.depth == 16 and self.channels > 1:
            return replace(self, depth=8).to_pil()
        mode = "I;16" if self.depth == 16 else ("L", "LA", "RGB", "RGBA")[self.channels - 1]
        pil = Image.new(mode, self.size, None)
        for rows in self.strips():
            strip = self.integer_rows(rows)
            pil.paste(Image.fromarray(strip[..., 0] if self.channels == 1 else strip), (0, rows.start))
        return pil

    def as_stored(self) -> Picture:
        """The image in the source's stored orientation instead of upright."""

        def stored(values: npt.NDArray[Any] | None) -> Any:
            return None if values is None else to_stored(values, self.orientation)

        return replace(
            self, values=stored(self.values), alpha=stored(self.alpha), cmyk=stored(self.cmyk), orientation=1
        )

    def save(self, path: str | Path, *, quality: int = 95, overwrite: bool = False) -> None:
        """Write to a file; see :func:`derain.images.write`."""
        write(self, Path(path), quality=quality, overwrite=overwrite)
