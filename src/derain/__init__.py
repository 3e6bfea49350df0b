"""derain removes rain from photographs and video.

Public names are loaded on first use, so that ``import derain`` takes next to no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .derainer import Derainer as Derainer
    from .errors import DerainError as DerainError
    from .images import Picture as Picture
    from .models.registry import create_model as create_model
    from .weights.manifest import list_models as list_models
    from .weights.store import load_model as load_model

_MODULES = {
    "Derainer": "derainer",
    "DerainError": "errors",
    "Picture": "images",
    "create_model": "models.registry",
    "list_models": "weights.manifest",
    "load_model": "weights.store",
}
_PACKAGES = ("losses", "metrics", "rain", "rain2avoid")

__all__ = [
    "DerainError",
    "Derainer",
    "Picture",
    "__version__",
    "create_model",
    "list_models",
    "load_model",
    "losses",
    "metrics",
    "rain",
    "rain2avoid",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'derain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
