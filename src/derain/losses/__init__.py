"""Training losses, by name.

Every loss is a module called as ``loss(derained, clean, rainy)`` with ``(N, 3, H, W)`` tensors in
[0, 1] and returns a scalar to minimize.
"""

from __future__ import annotations

from .registry import LOSSES, create_loss

__all__ = ["LOSSES", "create_loss"]
