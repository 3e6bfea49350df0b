"""Derainer: the public class. An image of any kind in, the same kind out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from . import images
from .arrays import FloatArray, Quantizer, check_range, to_chw
from .errors import DeviceError, InputError
from .files import sha256_of
from .images import Picture
from .inference import Inference, OnTile, Tile
from .models import ModelInfo
from .runtime.base import Runtime
from .runtime.load import load_runtime
from .weights.store import find_file, is_file_name

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from .adaptation import Adapted
    from .runtime.torch import TorchRuntime


class _CallOptions(NamedTuple):
    """The options of one call."""

    strength: float = 1.0
    on_tile: OnTile | None = None


class Derainer:
    """Removes rain from images.

    Args:
        model: a name that ``derain models`` lists, a safetensors file written by derain, or an ``.onnx``
            or ``.xml`` file of ``derain export``, which runs without importing torch.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``, or a ``torch.device``.
        precision: ``auto`` (bf16 where the hardware supports it), ``fp32`` or ``bf16``.
        tile: side of the tiles in pixels; ``auto`` runs whole what fits into some 700 MB of working
            memory (4 GB for ``sginet``) and tiles the rest; ``off`` never tiles. Tiles overlap and are
            blended. A network that averages over its whole input (``sapnet``, and much more so
            ``sginet``) gives different colors when tiled; the others agree with the untiled result
            except for rounding and rare long-range effects.
        runtime: ``auto`` (torch, or what an exported file needs), ``torch``, ``onnx`` or ``openvino``: a
            checkpoint is exported once for these and kept under ``DERAIN_HOME``. Or a
            :class:`~derain.runtime.base.Runtime`, which then executes the network; ``model`` only names it.
        threads: of one call on a CPU; ``None`` leaves it to the runtime and ``OMP_NUM_THREADS``. torch's
            count belongs to the process: set it with ``torch.set_num_threads``.
        ensemble: 2 or 4 to average over flipped forms of the image, which takes that many times as long
            and is slightly better (README).
        quantizer: how the network's floats become the integers of files and integer arrays: ``round``, or
            ``truncate``, as most authors' scripts do, which is half a gray level darker and only useful to
            reproduce published figures.

    Raises:
        ModelError: unknown model, or damaged weights.
        DeviceError: the device, precision or runtime is not available.
        InputError: an impossible tile, ensemble or quantizer.

    Calls are thread-safe: the network is never changed after construction. Pickled, for process pools, it is only
    its arguments: the other process opens the model's file itself.

    Example:
        >>> from derain import Derainer
        >>> Derainer()("photo.jpg").save("photo_derained.jpg")
    """

    def __init__(
        self,
        model: str | Path = "default",
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        tile: Tile = "auto",
        runtime: str | Runtime = "auto",
        threads: int | None = None,
        ensemble: int = 1,
        quantizer: Quantizer = "round",
    ) -> None:
        self.model = str(model)
        self._arguments = {
            "model": Path(model).absolute() if is_file_name(model) else model,
            "device": str(device),
            "precision": precision,
            "tile": tile,
            "runtime": runtime,
            "threads": threads,
            "ensemble": ensemble,
            "quantizer": quantizer,
        }
        if isinstance(runtime, str):
            self.file, runtime = load_runtime(model, runtime, device, precision, threads)
        self._inference = Inference(runtime, tile=tile, ensemble=ensemble, quantizer=quantizer, name=self.model)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its arguments, which are far smaller than a network and hold nothing of this process."""
        return _reopen, (type(self), self._arguments)

    @property
    def runtime(self) -> Runtime:
        """What executes the network."""
        return self._inference.runtime

    @property
    def info(self) -> ModelInfo:
        """What the network needs: image sizes, overlap of tiles, memory."""
        return self._inference.info

    @property
    def tile(self) -> Tile:
        """The tile policy."""
        return self._inference.tile

    @property
    def ensemble(self) -> int:
        """The number of forms that are averaged."""
        return self._inference.ensemble

    @property
    def quantizer(self) -> Quantizer:
        """How floats become integers."""
        return self._inference.quantizer

    @cached_property
    def file(self) -> Path:
        """The model's file."""
        return find_file(self.model)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that changes results: file, runtime, device, precision, tile, ensemble, quantizer."""
        runtime = self.runtime
        parts = [sha256_of(self.file), runtime.name, runtime.device, runtime.precision, self.tile, self.ensemble]
        parts.append(self.quantizer)
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

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
        """Derain an image and return the same kind of object.

        Args:
            image: one of

                - a path: returns a :class:`~derain.images.Picture` with everything that the file held;
                - a ``Picture``, or a PIL image of any mode;
                - numpy ``(H, W)``, ``(H, W, C)`` with C of 1 to 4 (gray, gray and alpha, RGB, RGBA), or
                  ``(N, H, W, C)``; uint8, uint16, or float in [0, 1];
                - torch ``(3, H, W)`` or ``(N, 3, H, W)`` (also one channel), uint8 or float in [0, 1];
                - a list of these.
            strength: 0 returns the input's pixels, 1 the network's, between them a linear blend.
            on_tile: called with (tiles done, tiles in all) after each tile.

        Returns:
            The same type, shape, bit depth and device; alpha is untouched; values stay in range.

        Raises:
            InputError: another kind of object, an unreadable file, an image without pixels, or values out of range.
            ModelError: the network computed NaN or infinite values.
        """
        if not 0 <= strength <= 1:
            raise InputError(f"strength must lie between 0 and 1, not {strength:g}")
        return self._derain(image, _CallOptions(strength, on_tile))

    def _derain(self, image: Any, options: _CallOptions) -> Any:
        """See ``__call__``."""
        if isinstance(image, (list, tuple)):
            return type(image)(self._derain(item, options) for item in image)
        if isinstance(image, (str, Path)):
            return self._picture(images.read(image), options)
        if isinstance(image, Picture):
            return self._picture(image, options)
        if isinstance(image, np.ndarray):
            return self._array(image, options)
        # By name, so that neither PIL nor torch is imported to ask.
        bases = {(base.__module__.partition(".")[0], base.__name__) for base in type(image).__mro__}
        if ("PIL", "Image") in bases:
            return images.back_to_pil(self._picture(images.from_pil(image), options), image)
        if ("torch", "Tensor") in bases:
            return self._tensor(image, options)
        kind = type(image).__name__
        raise InputError(f"cannot derain a {kind}; give a path, a PIL image, a numpy array or a torch tensor")

    def adapt(
        self,
        image: str | Path | Picture,
        *,
        strength: float = 1.0,
        seed: int = 0,
        steps: int | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> tuple[Picture, Adapted]:
        """Derain an image with a copy of the network that is first trained on this image's own rain.

        Takes some 50 times as long as a call. A check without ground truth decides whether the adapted
        result is used; see :mod:`derain.adaptation`.

        Args:
            image: a path or a ``Picture``.
            strength: as of a call.
            seed: of all randomness; equal seeds give equal results on one machine with one number of threads.
            steps: optimizer steps; ``None`` is the default number.
            on_step: called with (steps done, steps in all).

        Returns:
            The image with everything that the file held, and how the adaptation went: ``refused`` says why the
            plain result was kept, and is empty if the adapted one was better by the check.

        Raises:
            InputError: an unreadable file.
            DeviceError: the runtime is not torch, and cannot train.
        """
        from .adaptation import adapt_network
        from .runtime.torch import TorchRuntime

        runtime = self.torch_runtime()

        def apply(network: nn.Module, planes: FloatArray) -> FloatArray:
            derainer = self
            if network is not runtime.network:
                adapted_runtime = TorchRuntime(network, runtime.device, runtime.precision, self.info)
                derainer = Derainer(self.model, runtime=adapted_runtime, tile=self.tile, ensemble=self.ensemble)
            derained: FloatArray = derainer._array(planes.transpose(1, 2, 0), _CallOptions()).transpose(2, 0, 1)
            return derained

        picture = image if isinstance(image, Picture) else images.read(image)
        planes = to_chw(picture.pixels)
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
        blended = (planes + np.float32(strength) * (adapted.planes - planes)).transpose(1, 2, 0)
        return picture.with_pixels(blended, self.quantizer), adapted

    def torch_runtime(self) -> TorchRuntime:
        """The runtime, if it is torch, which alone can train.

        Raises:
            DeviceError: it is another one.
        """
        from .runtime.torch import TorchRuntime

        if not isinstance(self.runtime, TorchRuntime):
            raise DeviceError(f"{self.model}: only torch can train; to adapt, use a .safetensors file and torch")
        return self.runtime

    def _picture(self, picture: Picture, options: _CallOptions) -> Picture:
        values = picture.values
        _check_not_empty(values.shape)
        result = np.empty(values.shape, values.dtype)
        channels = (..., None) if values.ndim == 2 else ...
        self._inference.run(values[channels], result[channels], *options)
        return replace(picture, values=result)

    def _array(self, array: npt.NDArray[Any], options: _CallOptions) -> npt.NDArray[Any]:
        if array.ndim == 4:
            results = np.empty(array.shape, array.dtype)
            for image, result in zip(array, results, strict=True):
                result[...] = self._array(image, options)
            return results
        stacked = array[..., None] if array.ndim == 2 else array
        if stacked.ndim != 3 or stacked.shape[2] not in (1, 2, 3, 4):
            raise InputError(f"an array of shape {array.shape} is not an image; use (H, W, 3), RGB last")
        _check_not_empty(stacked.shape)
        colors = stacked.shape[2] - (stacked.shape[2] in (2, 4))
        check_range(stacked[..., :colors])
        result = np.empty(stacked.shape, stacked.dtype)
        result[..., colors:] = stacked[..., colors:]
        self._inference.run(stacked[..., :colors], result[..., :colors], *options)
        return result.reshape(array.shape)

    def _tensor(self, tensor: torch.Tensor, options: _CallOptions) -> torch.Tensor:
        if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3):
            raise InputError(f"a tensor of shape {tuple(tensor.shape)} is not an image; use (3, H, W) or (N, 3, H, W)")
        import torch

        values = tensor.detach().cpu()
        if values.dtype == torch.bfloat16:
            values = values.float()
        channels_last = np.moveaxis(values.numpy(), -3, -1)
        derained = np.moveaxis(self._array(channels_last, options), -1, -3)
        return torch.from_numpy(np.ascontiguousarray(derained)).to(device=tensor.device, dtype=tensor.dtype)


def _reopen(kind: type[Derainer], arguments: dict[str, Any]) -> Derainer:
    """What :meth:`Derainer.__reduce__` stands for."""
    return kind(**arguments)


def _check_not_empty(shape: tuple[int, ...]) -> None:
    if 0 in shape[:2]:
        raise InputError(f"the image has no pixels ({shape[1]}×{shape[0]}); give one of at least 1×1")
