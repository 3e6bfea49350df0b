"""Data sets: how they lie on disk."""

from .layouts import Pair, PairedFolder, find_pairs

__all__ = ["Pair", "PairedFolder", "find_pairs"]
