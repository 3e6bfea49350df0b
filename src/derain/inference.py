"""Inference on arrays: tiling by available memory, self-ensemble, strength. Knows no file types and no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import tiling
from .arrays import FloatArray, Quantizer, check_quantizer, to_float
from .errors import InputError, ModelError
from .runtime.base import Runtime

Tile = int | Literal["auto", "off"]
OnTile = Callable[[int, int], None]

#: Working memory that one tile of the automatic policy may take, bytes.
TILE_BUDGET = 700 * 2**20
_MIN_TILE = 128
_MAX_TILE = 512  # larger ones are slower on a CPU: 9.7 s against 6.5 s for 2.3 megapixels at 960

#: Beside the image itself, by the size of the ensemble: the axes that are flipped. Never a transposition, for
#: rain falls.
_FLIPS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: (),
    2: ((-1,),),
    4: ((-1,), (-2,), (-2, -1)),
}
ENSEMBLES = tuple(_FLIPS)


class Inference:
    """Runs a network on images of any size.

    Args:
        runtime: executes the network.
        tile: side of the tiles in pixels, ``auto`` or ``off``; see :class:`derain.Derainer`.
        ensemble: 1, 2 or 4: average over flipped forms of the image (Timofte et al., CVPR 2016).
        quantizer: of integer results; see :func:`derain.arrays.to_integers`.
        name: what messages call the model.

    Raises:
        InputError: an impossible tile, ensemble or quantizer.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        tile: Tile = "auto",
        ensemble: int = 1,
        quantizer: Quantizer = "round",
        name: str = "the model",
    ) -> None:
        check_quantizer(quantizer)
        if ensemble not in ENSEMBLES:
            raise InputError(f"ensemble must be {' or '.join(map(str, ENSEMBLES))}, not {ensemble!r}")
        if isinstance(tile, int):
            minimum = 2 * runtime.info.overlap
            if tile < minimum:
                raise InputError(
                    f"a tile of {tile} pixels is too small for this model; use at least {minimum}, or auto"
                )
        elif tile not in ("auto", "off"):
            raise InputError(f"tile must be a number of pixels, auto or off, not {tile!r}")
        self.runtime, self.info = runtime, runtime.info
        self.tile: Tile = tile
        self.ensemble = ensemble
        self.quantizer: Quantizer = quantizer
        self.name = name

    def run(
        self, values: npt.NDArray[Any], result: npt.NDArray[Any], strength: float = 1.0, on_tile: OnTile | None = None
    ) -> None:
        """Derain ``(H, W, 1 or 3)`` uint8, uint16 or float in [0, 1] into an array of the same shape and type.

        Only one row of tiles at a time is held in float32.

        Args:
            values: the rainy image.
            result: filled with the derained one.
            strength: 0 copies the input, 1 gives the network's output, between them a linear blend.
            on_tile: called with (tiles done, tiles in all) after each tile.

        Raises:
            ModelError: the network's output has NaN or infinite values.
        """
        wide = values.shape[1] > 2 * values.shape[0]
        if wide:  # one row of tiles across a panorama would be large: process it along the longer side
            values, result = values.swapaxes(0, 1), result.swapaxes(0, 1)
        if strength == 0:
            result[...] = values
            return
        height, width = values.shape[:2]
        align = math.lcm(self.info.size.multiple_of, self.info.align)
        side = self.tile_for(height, width)

        def cut(rows: slice, columns: slice) -> FloatArray:
            piece = _to_unit_range(values[rows, columns])
            upright = piece.swapaxes(0, 1) if wide else piece
            return np.broadcast_to(upright, (*upright.shape[:2], 3)).transpose(2, 0, 1)

        def derain(pieces: list[FloatArray]) -> list[FloatArray]:
            derained = self._network(pieces)
            return [piece.swapaxes(1, 2) for piece in derained] if wide else derained

        for start, band in tiling.run_in_bands(
            derain,
            cut,
            (height, width),
            tile=side or max(height, width) + self.info.overlap + align,
            overlap=self.info.overlap,
            align=align,
            batch=self._batch(side),
            on_tile=on_tile,
        ):
            rows = np.clip(band, 0, 1, out=band).transpose(1, 2, 0)
            if strength < 1:
                before = _to_unit_range(values[start : start + len(rows)])
                rows = before + np.float32(strength) * (rows - before)
            if values.shape[2] == 1:
                rows = rows.mean(axis=2, keepdims=True)
            if result.dtype.kind == "u":
                rows *= np.float32(np.iinfo(result.dtype).max)
                if self.quantizer == "round":
                    rows += np.float32(0.5)
            result[start : start + len(rows)] = rows

    def tile_for(self, height: int, width: int) -> int | None:
        """Side of the tiles for an image, or ``None`` to run it whole."""
        if self.tile == "off":
            return None
        if isinstance(self.tile, int):
            return self.tile if max(height, width) > self.tile else None
        if height * width * self.info.memory_per_pixel <= self.info.whole_budget:
            return None
        side = min(_MAX_TILE, math.isqrt(TILE_BUDGET // self.info.memory_per_pixel) // 64 * 64)
        return max(_MIN_TILE, 2 * self.info.overlap, side)

    def _batch(self, side: int | None) -> int:
        """How many tiles run at once: as many as the budget holds, but one on a CPU, where that is faster."""
        if side is None or self.runtime.device == "cpu":
            return 1
        return max(1, TILE_BUDGET // (side**2 * self.info.memory_per_pixel))

    def _network(self, pieces: list[FloatArray]) -> list[FloatArray]:
        """Pieces ``(3, h, w)`` through the network, as one batch if their padded sizes are equal."""
        rule = self.info.size
        padded = [rule.pad(piece)[None] for piece in pieces]
        alike = len({piece.shape for piece in padded}) == 1
        batches = [np.concatenate(padded) if len(padded) > 1 else padded[0]] if alike else padded
        outputs = [output for batch in batches for output in self._ensemble(batch)]
        return [rule.crop(output, piece) for output, piece in zip(outputs, pieces, strict=True)]

    def _ensemble(self, batch: FloatArray) -> FloatArray:
        """The mean of the network's results for all flipped forms, each flipped back."""
        if self.ensemble == 1:
            return self._run(batch)
        total = np.clip(self._run(batch), 0, 1)  # values out of range must not weigh in the mean
        for axes in _FLIPS[self.ensemble]:
            total += np.flip(np.clip(self._run(np.ascontiguousarray(np.flip(batch, axes))), 0, 1), axes)
        return total / np.float32(self.ensemble)

    def _run(self, batch: FloatArray) -> FloatArray:
        """One batch through the runtime; NaN would become black pixels, and infinity white ones."""
        output = self.runtime(batch)
        with np.errstate(all="ignore"):
            total = float(output.sum())
        if not math.isfinite(total) and not np.isfinite(output).all():  # a sum of large values may overflow
            remedy = "use --precision fp32" if self.runtime.precision == "bf16" else "use another model"
            raise ModelError(f"{self.name}: the network computed NaN or infinite values for this image; {remedy}")
        return output


def _to_unit_range(values: npt.NDArray[Any]) -> FloatArray:
    unit = to_float(values)
    return unit if values.dtype.kind == "u" else np.clip(unit, 0, 1)
