"""PyTorch as a runtime."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import nn

from derain.arrays import FloatArray
from derain.errors import DeviceError
from derain.models import ModelInfo
from derain.models.base import PrefersContiguous

from .base import UNLISTED, device_name

_BF16_UNITS = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")


def pick_device(device: str | torch.device = "auto") -> str:
    """Turn ``auto`` into the best device here; check the others.

    Raises:
        DeviceError: not available, or unknown.
    """
    device = device_name(device)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    kind = device.split(":", maxsplit=1)[0]
    if kind not in available:
        raise DeviceError(f"unknown device {device!r}; choose auto, cpu, cuda or mps")
    if not available[kind]:
        raise DeviceError(f"device {device!r} is not available here; use --device auto or cpu")
    return device


def fast_bf16(device: str) -> bool:
    """Whether bfloat16 is computed in hardware: on a CPU by AMX or AVX512-BF16.

    On a CPU without it, PyTorch's bf16 convolutions are many times slower than fp32 (measured on a
    Zen 3: 2.8 s against 0.1 s for one residual block); on one with AVX512-BF16 twice as fast (Zen 4).
    """
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return bool(mkldnn and any(getattr(torch.cpu, name, bool)() for name in _BF16_UNITS))
    return False


def pick_precision(precision: str, device: str) -> str:
    """Turn ``auto`` into ``bf16`` where hardware computes it, else ``fp32``.

    Raises:
        DeviceError: unknown precision.
    """
    if precision == "auto":
        return "bf16" if fast_bf16(device) else "fp32"
    if precision not in ("fp32", "bf16"):
        raise DeviceError(f"unknown precision {precision!r}; choose auto, fp32 or bf16")
    return precision


class TorchRuntime:
    """Runs an ``nn.Module`` in inference mode.

    Args:
        network: maps ``(N, 3, H, W)`` to the same shape; moved to the device and set to ``eval``.
        device: ``auto``, ``cpu``, ``cuda`` (also ``cuda:1``) or ``mps``, or a ``torch.device``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        info: what the network needs; see :class:`derain.models.ModelInfo`.
    """

    name = "torch"

    def __init__(
        self,
        network: nn.Module,
        device: str | torch.device = "auto",
        precision: str = "auto",
        info: ModelInfo = UNLISTED,
    ) -> None:
        self.info = info
        self._device = pick_device(device)
        self._precision = pick_precision(precision, self._device)
        self._low = self._precision == "bf16"
        # oneDNN's fp32 convolutions take channels_last as it is; from NCHW they copy to blocks and back.
        contiguous = self._device == "cpu" and not self._low and isinstance(network, PrefersContiguous)
        self._layout = torch.contiguous_format if contiguous else torch.channels_last
        self.network = network.eval().requires_grad_(False).to(self._device)
        self.network.to(memory_format=self._layout)  # type: ignore[call-overload]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its arguments: torch's memory formats are pickled by names that another process may not find."""
        return type(self), (self.network, self._device, self._precision, self.info)

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._device

    @property
    def precision(self) -> str:
        """How it computes."""
        return self._precision

    def __call__(self, batch: FloatArray) -> FloatArray:
        """See :class:`derain.runtime.base.Runtime`."""
        kind = self._device.split(":")[0]
        low = torch.autocast(kind, torch.bfloat16) if self._low else contextlib.nullcontext()
        with torch.inference_mode(), low:
            inputs = torch.from_numpy(np.require(batch, requirements=["C", "W"])).to(self._device)
            output = self.network(inputs.contiguous(memory_format=self._layout))
        return np.ascontiguousarray(output.float().cpu().numpy())
