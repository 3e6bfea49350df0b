"""transformers' object detectors (DETR, RT-DETR and others) from a local folder or the hub."""

from __future__ import annotations

from pathlib import Path

import torch

from derain.arrays import UInt8Array
from derain.errors import DeviceError, ModelError

from .base import Detection

_SCORE_THRESHOLD = 0.01
_MAX_DETECTIONS = 100


class HubDetector:
    """An ``AutoModelForObjectDetection`` with its image processor.

    Args:
        name_or_path: a folder that ``save_pretrained`` wrote, or a name on the hub.

    Raises:
        DeviceError: transformers is not installed.
        ModelError: it cannot be loaded.
    """

    def __init__(self, name_or_path: str | Path) -> None:
        try:
            from transformers import AutoImageProcessor, AutoModelForObjectDetection
        except ImportError:
            raise DeviceError("this detector needs transformers; pip install 'derain[segment]'") from None
        try:
            self._processor = AutoImageProcessor.from_pretrained(name_or_path)  # type: ignore[no-untyped-call]
            self._model = AutoModelForObjectDetection.from_pretrained(name_or_path).eval()
        except Exception as error:  # of many kinds
            raise ModelError(f"{name_or_path}: not an object detector ({str(error).splitlines()[0][:160]})") from None
        labels = self._model.config.id2label
        self.classes = tuple(str(labels[key]) for key in sorted(labels))

    def __call__(self, image: UInt8Array) -> list[Detection]:
        """See :class:`~derain.detection.base.Detector`."""
        inputs = self._processor(images=image, return_tensors="pt")
        with torch.inference_mode():
            outputs = self._model(**inputs)
        sizes = torch.tensor([image.shape[:2]])
        found = self._processor.post_process_object_detection(outputs, threshold=_SCORE_THRESHOLD, target_sizes=sizes)[
            0
        ]
        detections = []
        for score, label, (left, top, right, bottom) in zip(
            found["scores"].tolist(), found["labels"].tolist(), found["boxes"].tolist(), strict=True
        ):
            detections.append(Detection(label, score, left, top, right - left, bottom - top))
        return sorted(detections, key=lambda detection: -detection.score)[:_MAX_DETECTIONS]
