"""Derainer: a model, its weights, a runtime and a tiling policy; image in, image out."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from . import images, tiling
from .arrays import check_range, to_float
from .errors import DeviceError, InputError, ModelError
from .images import Picture
from .models import ModelInfo, model_info
from .runtime.base import Description, FloatArray, Runtime, is_exported, pick_runtime
from .runtime.ensemble import ENSEMBLES, averaged

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from .adaptation import Adapted
    from .runtime.torch import TorchRuntime

Tile = int | Literal["auto", "off"]
OnTile = Callable[[int, int], None]

#: Working memory that one tile of the automatic policy may take, bytes.
TILE_BUDGET = 700 * 2**20
_SMALLEST_TILE = 128
_LARGEST_TILE = 512  # larger ones are slower on a CPU: 9.7 s against 6.5 s for 2.3 megapixels at 960


class _How(NamedTuple):
    """What a call may ask for."""

    strength: float = 1.0
    on_tile: OnTile | None = None


class Derainer:
    """Takes the rain out of pictures.

    Args:
        model: a name that ``derain models`` lists, a safetensors file written by derain, or an ``.onnx``
            or ``.xml`` file of ``derain export``, which runs without importing torch.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` (bf16 where hardware computes it), ``fp32`` or ``bf16``.
        tile: side of the tiles in pixels; ``auto`` runs whole what fits into some 700 MB of working
            memory (4 GB for ``sginet``) and tiles the rest; ``off`` never tiles. Tiles overlap and are
            blended. A network that averages over its whole input (``sapnet``, and much more so
            ``sginet``) gives different colors when tiled; the others agree with the untiled result
            but for rounding and rare far influences.
        runtime: ``auto`` (torch, or what an exported file needs), ``torch``, ``onnx`` or ``openvino``. A
            weight that is no exported file is exported once for them and kept under ``DERAIN_HOME``.
        threads: of one call on a CPU; ``None`` leaves it to the runtime and ``OMP_NUM_THREADS``. torch's
            count belongs to the process: set it with ``torch.set_num_threads``.
        ensemble: 2 or 4 to average over mirrored forms of the picture, which takes as many times as long
            and is a little better (README).

    Raises:
        ModelError: unknown model, or damaged weights.
        DeviceError: the device, precision or runtime is not available.

    Calls are thread-safe: the network is never changed after construction.

    Example:
        >>> from derain import Derainer
        >>> Derainer()("photo.jpg").save("dry.jpg")
    """

    def __init__(
        self,
        model: str | Path = "default",
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: Tile = "auto",
        runtime: str = "auto",
        threads: int | None = None,
        ensemble: int = 1,
    ) -> None:
        if ensemble not in ENSEMBLES:
            raise InputError(f"ensemble must be {' or '.join(map(str, ENSEMBLES))}, not {ensemble!r}")
        self.ensemble = ensemble
        self.model = str(model)
        self.file, self.info, self.runtime = _start(model, pick_runtime(runtime, model), device, precision, threads)
        if isinstance(tile, int):
            least = 2 * self.info.overlap
            if tile < least:
                raise InputError(f"a tile of {tile} pixels is too small for {model}; use at least {least}, or auto")
        elif tile not in ("auto", "off"):
            raise InputError(f"tile must be a number of pixels, auto or off, not {tile!r}")
        self.tile: Tile = tile

    @overload
    def __call__(
        self, image: str | Path | Picture, *, strength: float = 1.0, on_tile: OnTile | None = None
    ) -> Picture: ...
    @overload
    def __call__(self, image: Image.Image, *, strength: float = 1.0, on_tile: OnTile | None = None) -> Image.Image: ...
    @overload
    def __call__(
        self, image: npt.NDArray[Any], *, strength: float = 1.0, on_tile: OnTile | None = None
    ) -> npt.NDArray[Any]: ...
    @overload
    def __call__(
        self, image: torch.Tensor, *, strength: float = 1.0, on_tile: OnTile | None = None
    ) -> torch.Tensor: ...
    @overload
    def __call__(self, image: list[Any], *, strength: float = 1.0, on_tile: OnTile | None = None) -> list[Any]: ...

    def __call__(self, image: Any, *, strength: float = 1.0, on_tile: OnTile | None = None) -> Any:
        """Derain a picture and give back the same kind of thing.

        Args:
            image: one of

                - a path: gives a :class:`~derain.images.Picture` with all that the file held;
                - a ``Picture``, or a PIL image of any mode;
                - numpy ``(H, W)``, ``(H, W, C)`` with C of 1 to 4 (gray, gray and alpha, RGB, RGBA), or
                  ``(N, H, W, C)``; uint8, uint16, or float in [0, 1];
                - torch ``(3, H, W)`` or ``(N, 3, H, W)`` (also one channel), uint8 or float in [0, 1];
                - a list of these.
            strength: 0 gives the input's pixels, 1 the network's, between them a linear blend.
            on_tile: called with (tiles done, tiles in all) after each tile.

        Returns:
            The same type, shape, bit depth and device; alpha is untouched; values stay in range.

        Raises:
            InputError: something else, an unreadable file, or values out of range.
        """
        if not 0 <= strength <= 1:
            raise InputError(f"strength must lie between 0 and 1, not {strength:g}")
        return self._any(image, _How(strength, on_tile))

    def _any(self, image: Any, how: _How) -> Any:
        """See ``__call__``."""
        if isinstance(image, (list, tuple)):
            return type(image)(self._any(item, how) for item in image)
        if isinstance(image, (str, Path)):
            return self._picture(images.read(image), how)
        if isinstance(image, Picture):
            return self._picture(image, how)
        if isinstance(image, np.ndarray):
            return self._array(image, how)
        kind = type(image)
        if any(base.__module__.startswith("PIL.") for base in kind.__mro__):
            return images.back_to_pil(self._picture(images.from_pil(image), how), image)
        if any(base.__module__ == "torch" and base.__name__ == "Tensor" for base in kind.__mro__):
            return self._tensor(image, how)
        raise InputError(f"cannot derain a {kind.__name__}; give a path, a PIL image, a numpy array or a torch tensor")

    def adapt(
        self,
        image: str | Path | Picture,
        *,
        strength: float = 1.0,
        seed: int = 0,
        steps: int | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> tuple[Picture, Adapted]:
        """Derain a picture by a copy of the network that first learns this picture's own rain.

        Takes some 50 times as long as a call. A check without ground truth decides whether what was learned
        is used; see :mod:`derain.adaptation`.

        Args:
            image: a path or a ``Picture``.
            strength: as of a call.
            seed: of every draw; equal seeds give equal results on one machine with one number of threads.
            steps: optimizer steps; ``None`` is the usual number.
            on_step: called with (steps done, steps in all).

        Returns:
            The picture with all that the file held, and how it went: ``refused`` says why the plain result
            was kept, and is empty if the adapted one is better by the check.

        Raises:
            InputError: an unreadable file.
            DeviceError: the runtime is not torch, and cannot learn.
        """
        from .adaptation import adapt_network
        from .runtime.torch import TorchRuntime

        runtime = self.learning_runtime()

        def apply(network: nn.Module, planes: FloatArray) -> FloatArray:
            other = copy.copy(self)  # this Derainer may be at work in other threads
            if network is not runtime.network:
                other.runtime = TorchRuntime(network, runtime.device, runtime.precision)
            derained: FloatArray = other._array(planes.transpose(1, 2, 0), _How()).transpose(2, 0, 1)
            return derained

        picture = image if isinstance(image, Picture) else images.read(image)
        planes = np.ascontiguousarray(picture.pixels.transpose(2, 0, 1))
        adapted = adapt_network(
            runtime.network,
            planes,
            apply,
            self.info.size,
            device=runtime.device,
            seed=seed,
            steps=steps,
            on_step=on_step,
        )
        if adapted.refused:
            return self(picture, strength=strength), adapted
        mixed = planes + np.float32(strength) * (adapted.planes - planes)
        return picture.with_pixels(mixed.transpose(1, 2, 0)), adapted

    def learning_runtime(self) -> TorchRuntime:
        """The runtime, if it can learn.

        Raises:
            DeviceError: it is not torch.
        """
        from .runtime.torch import TorchRuntime

        if not isinstance(self.runtime, TorchRuntime):
            raise DeviceError(f"{self.model}: this runtime cannot learn; to adapt, run a .safetensors weight by torch")
        return self.runtime

    def _picture(self, picture: Picture, how: _How) -> Picture:
        values = picture.values
        result = np.empty(values.shape, values.dtype)
        planes = (..., None) if values.ndim == 2 else ...
        self._colors(values[planes], result[planes], how)
        return replace(picture, values=result)

    def _array(self, array: npt.NDArray[Any], how: _How) -> npt.NDArray[Any]:
        if array.ndim == 4:
            return np.stack([self._array(one, how) for one in array]) if len(array) else array.copy()
        stacked = array[..., None] if array.ndim == 2 else array
        if stacked.ndim != 3 or stacked.shape[2] not in (1, 2, 3, 4) or 0 in stacked.shape:
            raise InputError(f"an array of shape {array.shape} is not a picture; use (H, W, 3), RGB last")
        colors = stacked.shape[2] - (stacked.shape[2] in (2, 4))
        check_range(stacked[..., :colors])
        result = np.empty(stacked.shape, stacked.dtype)
        result[..., colors:] = stacked[..., colors:]
        self._colors(stacked[..., :colors], result[..., :colors], how)
        return result.reshape(array.shape)

    def _tensor(self, tensor: torch.Tensor, how: _How) -> torch.Tensor:
        if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3):
            raise InputError(f"a tensor of shape {tuple(tensor.shape)} is not a picture; use (3, H, W) or (N, 3, H, W)")
        import torch

        values = tensor.detach().cpu()
        if values.dtype == torch.bfloat16:
            values = values.float()
        last = np.moveaxis(values.numpy(), -3, -1)
        derained = torch.from_numpy(np.ascontiguousarray(np.moveaxis(self._array(last, how), -1, -3)))
        return derained.to(device=tensor.device, dtype=tensor.dtype)

    def _colors(self, values: npt.NDArray[Any], result: npt.NDArray[Any], how: _How) -> None:
        """Derain ``(H, W, 1 or 3)`` uint8, uint16 or float in [0, 1] into an array of its shape and type.

        Only tiles and a row of them are ever held in float32.
        """
        wide = values.shape[1] > 2 * values.shape[0]
        if wide:  # a row of tiles across a panorama would be large: walk along the longer side
            values, result = values.swapaxes(0, 1), result.swapaxes(0, 1)
        if how.strength == 0:
            result[...] = values
            return
        height, width = values.shape[:2]
        align = math.lcm(self.info.size.multiple_of, self.info.align)
        side = self._tile_for(height, width)

        def cut(rows: slice, columns: slice) -> FloatArray:
            piece = _to_unit(values[rows, columns])
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
            on_tile=how.on_tile,
        ):
            rows = np.clip(band, 0, 1, out=band).transpose(1, 2, 0)
            if how.strength < 1:
                before = _to_unit(values[start : start + len(rows)])
                rows = before + np.float32(how.strength) * (rows - before)
            if values.shape[2] == 1:
                rows = rows.mean(axis=2, keepdims=True)
            if result.dtype.kind == "u":
                rows *= np.float32(np.iinfo(result.dtype).max)
                rows += np.float32(0.5)
            result[start : start + len(rows)] = rows

    def _tile_for(self, height: int, width: int) -> int | None:
        """Side of the tiles for a picture, or ``None`` to run it whole."""
        if self.tile == "off":
            return None
        if isinstance(self.tile, int):
            return self.tile if max(height, width) > self.tile else None
        if height * width * self.info.memory_per_pixel <= self.info.whole_budget:
            return None
        side = min(_LARGEST_TILE, math.isqrt(TILE_BUDGET // self.info.memory_per_pixel) // 64 * 64)
        return max(_SMALLEST_TILE, 2 * self.info.overlap, side)

    def _batch(self, side: int | None) -> int:
        """How many tiles run at once: as many as the budget holds, but on a CPU one, which is faster there."""
        if side is None or self.runtime.device == "cpu":
            return 1
        return max(1, TILE_BUDGET // (side**2 * self.info.memory_per_pixel))

    def _network(self, pieces: list[FloatArray]) -> list[FloatArray]:
        """Pieces ``(3, h, w)`` through the network, at once if they are of one size when padded."""
        rule = self.info.size
        padded = [tiling.pad_to_rule(p, multiple_of=rule.multiple_of, minimum=rule.minimum)[None] for p in pieces]
        alike = len({p.shape for p in padded}) == 1
        batches = [np.concatenate(padded) if len(padded) > 1 else padded[0]] if alike else padded
        outputs = [output for batch in batches for output in averaged(self.runtime, batch, self.ensemble)]
        return [o[:, : p.shape[1], : p.shape[2]] for o, p in zip(outputs, pieces, strict=True)]


def _start(
    model: str | Path, kind: str, device: str, precision: str, threads: int | None
) -> tuple[Path, ModelInfo, Runtime]:
    """The file of a model, what is known of its network, and what runs it; torch is imported if it must."""
    from derain.weights.store import find_file, load_file

    if kind == "torch":
        from .runtime.torch import TorchRuntime, pick_device, pick_precision

        pick_precision(precision, pick_device(device))  # a wrong word is told before weights are read
        file = find_file(model)
        network, key = load_file(file)
        return file, describe_network(network, key), TorchRuntime(network, device, precision)
    file = Path(model) if is_exported(model) else _exported(model)
    if kind == "onnx":
        from .runtime.onnx import OnnxRuntime

        onnx = OnnxRuntime(file, device, precision, threads)
        return file, onnx.description.info, onnx
    from .runtime.openvino import OpenVinoRuntime

    openvino = OpenVinoRuntime(file, device, precision, threads)
    return file, openvino.description.info, openvino


def describe_network(network: object, key: str) -> ModelInfo:
    """The entry of a network in the table, with the memory that its settings really take."""
    info = model_info(key)
    return replace(info, memory_per_pixel=int(getattr(network, "memory_per_pixel", info.memory_per_pixel)))


def _exported(model: str | Path) -> Path:
    """A weight's ONNX file, made when it is first asked for."""
    from derain._version import __version__
    from derain.fetch import home
    from derain.weights.store import find_file

    source = find_file(model)
    if not source.is_file():
        raise ModelError(f"{source}: no such weight file; check the name")
    digest = hashlib.sha256(source.read_bytes() + __version__.encode()).hexdigest()[:16]
    file = home() / "exported" / f"{source.stem}-{digest}.onnx"
    if not file.exists():
        export_model(model, file, overwrite=True)
    return file


def export_model(
    model: str | Path, file: Path, *, to: str = "onnx", precision: str = "fp32", overwrite: bool = False
) -> float:
    """Write a weight for another runtime; see :func:`derain.runtime.export.export`.

    Args:
        model: a name that ``derain models`` lists, or a safetensors file.
        file: the ``.onnx`` or ``.xml`` file.
        to: ``onnx`` or ``openvino``.
        precision: how weights are stored, ``fp32`` or ``fp16``.
        overwrite: replace an existing file.

    Returns:
        The largest difference to torch, of 1.

    Raises:
        DerainError: see there; ModelError also for a model that is exported already.
    """
    from derain.weights.store import file_settings, find_file, load_file

    from .runtime.export import export

    if is_exported(model):
        raise ModelError(f"{model}: is exported already; give a name or a .safetensors file")
    source = find_file(model)
    network, key = load_file(source)
    description = Description(str(model), key, file_settings(source), describe_network(network, key))
    return export(network, file, description, to=to, precision=precision, overwrite=overwrite)


def _to_unit(values: npt.NDArray[Any]) -> FloatArray:
    unit = to_float(values)
    return unit if values.dtype.kind == "u" else np.clip(unit, 0, 1)
