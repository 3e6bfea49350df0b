"""Rain2Avoid: self-supervised deraining. One rainy image trains the network that derains it.

Peng et al., ICASSP 2023, and its journal version (IEEE TMM 27, 2025). Three stages, each usable alone:
:func:`ldgp` finds the rain, :class:`Sampler` samples references without it, :func:`adapt` trains on them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .ldgp import ldgp, rain_angles, rain_mask
from .nss import Sampler

if TYPE_CHECKING:
    from .run import adapt as adapt
    from .settings import Settings as Settings

__all__ = ["Sampler", "Settings", "adapt", "ldgp", "rain_angles", "rain_mask"]

_MODULES = {"Settings": "settings", "adapt": "run"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:  # on first use: `run` imports torch
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
