"""The :class:`Picture` value: pixels as the file has them, and what must survive the round trip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from derain.arrays import FloatArray, convert_depth, to_float, to_integers

STRIP = 256  # rows converted at once


@dataclass(frozen=True)
class Picture:
    """A still picture.

    Attributes:
        values: colors turned upright: ``(H, W, 3)`` RGB or ``(H, W)`` gray, uint8 or uint16 of the full range as
            the file has them; or ``(H, W, 3)`` float32 RGB, clamped to [0, 1] when written. May be a view in any
            memory order.
        alpha: ``(H, W)`` uint8 or uint16 as it was, upright, or ``None``.
        depth: bits a channel of the source, 8 or 16.
        gray: the source had no color; a result is written without color too.
        orientation: EXIF orientation of the source, 1 to 8. Files that carry EXIF are written turned
            as the source was, with the same tag, so that they look upright where the source did.
        exif: the source's EXIF block, or ``None``.
        icc: the source's ICC profile, or ``None``. Pixels are never converted to another profile,
            except CMYK, which goes to RGB for the network and back.
        cmyk: ``(H, W, 4)`` uint8 inks of a CMYK source, upright, or ``None``.
        format: Pillow's name of the source format (``JPEG``, ``PNG``…), or ``None``.
        info: further settings to be kept, such as ``dpi``.
    """

    values: npt.NDArray[Any]
    alpha: npt.NDArray[Any] | None = None
    depth: int = 8
    gray: bool = False
    orientation: int = 1
    exif: bytes | None = None
    icc: bytes | None = None
    cmyk: npt.NDArray[np.uint8] | None = None
    format: str | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels, as seen upright."""
        return self.values.shape[1], self.values.shape[0]

    @property
    def pixels(self) -> FloatArray:
        """``(H, W, 3)`` float32 RGB in [0, 1], upright. Made when asked for: 12 bytes a pixel each time."""
        return self.unit(0, self.size[1])

    def unit(self, start: int, stop: int) -> FloatArray:
        """Some rows of :attr:`pixels`."""
        strip = to_float(self.values[start:stop])
        return np.ascontiguousarray(strip) if strip.ndim == 3 else np.repeat(strip[..., None], 3, axis=2)

    def with_pixels(self, pixels: FloatArray) -> Picture:
        """The same picture with other colors; ``(H, W, 3)`` float, clamped to [0, 1] when written."""
        if pixels.shape != (*self.values.shape[:2], 3):
            raise ValueError(f"new pixels are {pixels.shape}, the picture {(*self.values.shape[:2], 3)}")
        return replace(self, values=pixels)

    @property
    def channels(self) -> int:
        """How many channels :meth:`array` has: 1 or 3, and one more for alpha."""
        return (1 if self.gray else 3) + (self.alpha is not None)

    def rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Some rows as ``(rows, W, channels)``, integers at the source's depth, alpha last."""
        kind = np.uint16 if self.depth == 16 else np.uint8
        strip = self.values[start:stop]
        if strip.dtype.kind == "f":
            strip = strip.mean(axis=2) if self.gray else strip
            strip = to_integers(strip, kind)
        planes = [strip[..., None] if strip.ndim == 2 else strip]
        if self.alpha is not None:
            planes.append(self.alpha[start:stop, :, None])
        planes = [convert_depth(plane, kind) for plane in planes]
        return np.ascontiguousarray(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2))

    def strips(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """All :meth:`rows` from the top, some at a time, each with the number of its first."""
        for start in range(0, self.size[1], STRIP):
            yield start, self.rows(start, start + STRIP)

    def array(self) -> npt.NDArray[Any]:
        """Upright integer pixels at the source's depth: ``(H, W)``, ``(H, W, 3)`` or with alpha last."""
        width, height = self.size
        result = np.empty((height, width, self.channels), np.uint16 if self.depth == 16 else np.uint8)
        for start, strip in self.strips():
            result[start : start + len(strip)] = strip
        return result[..., 0] if self.channels == 1 else result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self.array() if dtype is None else self.array().astype(dtype)

    def to_pil(self) -> Image.Image:
        """An upright 8-bit PIL image (16-bit gray stays ``I;16``; 16-bit color becomes 8-bit)."""
        if self.depth == 16 and self.channels > 1:
            return replace(self, depth=8).to_pil()
        mode = "I;16" if self.depth == 16 else ("L", "LA", "RGB", "RGBA")[self.channels - 1]
        image = Image.new(mode, self.size, None)
        for start, strip in self.strips():
            image.paste(Image.fromarray(strip[..., 0] if self.channels == 1 else strip), (0, start))
        return image

    def turned(self) -> Picture:
        """The picture as the source's file stores it: not upright, but as its orientation tells."""

        def back(values: npt.NDArray[Any] | None) -> Any:
            return None if values is None else turn(values, self.orientation, undo=True)

        return replace(self, values=back(self.values), alpha=back(self.alpha), cmyk=back(self.cmyk), orientation=1)

    def save(self, path: str | Path, *, quality: int = 95, overwrite: bool = False) -> None:
        """Write to a file; see :func:`derain.images.write`."""
        from .writing import write

        write(self, Path(path), quality=quality, overwrite=overwrite)


def turn(values: npt.NDArray[Any], orientation: int, *, undo: bool) -> npt.NDArray[Any]:
    """Turn an array upright as EXIF's orientation says, or back. A view, no copy."""
    if undo and orientation in (6, 8):
        orientation = 14 - orientation  # the two quarter turns undo each other; all others are their own
    down = values[::-1] if orientation in (3, 4, 6, 7) else values
    across = down[:, ::-1] if orientation in (2, 3, 7) else down
    turned = across.swapaxes(0, 1) if orientation >= 5 else across
    return turned[::-1] if orientation == 8 else turned
