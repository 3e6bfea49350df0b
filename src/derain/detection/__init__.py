"""Object detectors that look at derained images: ONNX files of known families, and transformers' DETR."""

from .base import Detection, Detector
from .registry import DETECTORS, open_detector

__all__ = ["DETECTORS", "Detection", "Detector", "open_detector"]
