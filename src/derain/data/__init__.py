"""Data sets on disk: folder layouts, the catalog of public sets, checks, labels. No torch."""

from .layouts import Pair, PairedFolder, find_pairs

__all__ = ["Pair", "PairedFolder", "find_pairs"]
