"""Image arrays: integers and floats, channels last and first, range checks. numpy only.

Integers span the full range of their type: 255 or 65535 is 1.0. Floats become integers by a quantizer:
``round`` is to the nearest, halves up; ``truncate`` drops the fraction, as ``numpy.uint8(255 * x)`` does in the
scripts of SAPNet, SGINet, PReNet and Rain2Avoid. Truncated results are darker by half a gray level on average.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from derain.errors import InputError

FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
Quantizer = Literal["round", "truncate"]

QUANTIZERS: tuple[Quantizer, ...] = ("round", "truncate")

#: How far floats may lie outside of [0, 1] before an array is refused.
_TOLERANCE = 1e-3


def to_float(values: npt.NDArray[Any]) -> FloatArray:
    """uint8 or uint16 to float32 in [0, 1]; floats become float32 and stay as they are otherwise."""
    if values.dtype.kind != "u":
        return values.astype(np.float32, copy=False)
    scaled: FloatArray = np.divide(values, np.float32(np.iinfo(values.dtype).max), dtype=np.float32)
    return scaled


def to_integers(values: npt.NDArray[Any], dtype: npt.DTypeLike, quantizer: Quantizer = "round") -> npt.NDArray[Any]:
    """Floats, clamped to [0, 1], to the full range of an unsigned integer type.

    Args:
        values: floats; computed in their own precision. float32 values that came from integers of the same type
            (:func:`to_float`) are given back exactly by both quantizers.
        dtype: ``numpy.uint8`` or ``numpy.uint16``.
        quantizer: ``round`` or ``truncate``.

    Raises:
        InputError: unknown quantizer.
    """
    kind = np.dtype(dtype)
    scaled = np.clip(values, 0, 1) * np.iinfo(kind).max
    if check_quantizer(quantizer) == "round":
        scaled = scaled + 0.5
    integers: npt.NDArray[Any] = scaled.astype(kind)
    return integers


def check_quantizer(name: str) -> str:
    """The name of a quantizer as it is.

    Raises:
        InputError: unknown name.
    """
    if name not in QUANTIZERS:
        raise InputError(f"quantizer must be {' or '.join(QUANTIZERS)}, not {name!r}")
    return name


def to_uint8(values: npt.NDArray[Any], quantizer: Quantizer = "round") -> UInt8Array:
    """uint8 as it is, uint16 scaled, floats clamped to [0, 1] and scaled; see :func:`to_integers`."""
    converted: UInt8Array = (
        to_integers(values, np.uint8, quantizer) if values.dtype.kind != "u" else convert_depth(values, np.uint8)
    )
    return converted


def convert_depth(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """uint8 or uint16 of the full range to the other of them; 8 bits survive the way to 16 and back."""
    kind = np.dtype(dtype)
    if values.dtype.newbyteorder("=") == kind:
        return values.astype(kind, copy=False)
    if kind == np.uint16:
        return values.astype(np.uint16) * np.uint16(257)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_chw(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``(H, W, C)`` to a contiguous ``(C, H, W)``."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def to_hwc(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``(C, H, W)`` to a contiguous ``(H, W, C)``."""
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def check_range(values: npt.NDArray[Any]) -> None:
    """Refuse arrays that are no image.

    Raises:
        InputError: another type than uint8, uint16 or float; NaN or infinite values; floats outside of [0, 1].
    """
    if values.dtype.newbyteorder("=") in (np.uint8, np.uint16):
        return
    if not np.issubdtype(values.dtype, np.floating):
        raise InputError(f"arrays of {values.dtype} are not supported; use uint8, uint16 or float in [0, 1]")
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("the array holds NaN or infinite values; replace them first")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise InputError(
            f"float arrays must lie in [0, 1], this one spans {low:g} to {high:g}; divide by its white value"
        )


def reflect_indices(length: int, before: int, after: int) -> npt.NDArray[np.intp]:
    """Indices that pad an axis by reflection without repeating the border pixel, however wide the padding.

    ``reflect_indices(3, 2, 3)`` is ``[2, 1, 0, 1, 2, 1, 0, 1]``; a single pixel is repeated.
    """
    if length == 1:
        return np.zeros(1 + before + after, np.intp)
    period = 2 * (length - 1)
    position = np.abs(np.arange(-before, length + after)) % period
    reflected: npt.NDArray[np.intp] = np.minimum(position, period - position)
    return reflected


def pad_reflect(values: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Pad ``(…, H, W)`` at the bottom and right by reflection to a height and width; never crops."""
    have = values.shape[-2:]
    rows, columns = (max(wanted, side) for wanted, side in zip((height, width), have, strict=True))
    if (rows, columns) == have:
        return values
    down = reflect_indices(have[0], 0, rows - have[0])
    across = reflect_indices(have[1], 0, columns - have[1])
    return values[..., down[:, None], across]
