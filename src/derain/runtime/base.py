"""What every runtime offers: one padded batch in, one batch out, as numpy arrays."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class Runtime(Protocol):
    """Executes one network. Instances are safe to call from several threads."""

    @property
    def device(self) -> str:
        """Where it runs: ``cpu``, ``cuda``, ``mps``."""

    @property
    def precision(self) -> str:
        """How it computes: ``fp32`` or ``bf16``."""

    def __call__(self, batch: FloatArray) -> FloatArray:
        """Map ``(N, 3, H, W)`` float32 in [0, 1], sized as the network wants, to the same shape."""
