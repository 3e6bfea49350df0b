"""Rain2Avoid: one rainy picture teaches the network that derains it; no clean pictures needed.

Peng et al., ICASSP 2023, and its journal version (IEEE TMM 27, 2025). Three stages, each usable alone:
:func:`ldgp` finds the rain, :class:`Sampler` draws references without it, :func:`adapt` learns from them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .ldgp import ldgp, rain_angles, rain_mask
from .nss import Sampler

if TYPE_CHECKING:
    from .sdrl import Settings as Settings
    from .sdrl import adapt as adapt

__all__ = ["Sampler", "Settings", "adapt", "ldgp", "rain_angles", "rain_mask"]


def __getattr__(name: str) -> Any:
    if name in ("Settings", "adapt"):  # they need torch
        return getattr(importlib.import_module(".sdrl", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
