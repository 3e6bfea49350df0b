"""Semantic segmentation networks.

SGINet and SAPNet's loss each use one. A segmenter maps RGB in [0, 1] to logits at its own, coarser
resolution; :func:`enlarge` resizes them to the image.
"""

from .base import Segmenter, enlarge
from .registry import SEGMENTERS, create_segmenter

__all__ = ["SEGMENTERS", "Segmenter", "create_segmenter", "enlarge"]
