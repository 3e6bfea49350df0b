"""Detectors by name or file."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from derain.errors import ModelError

from .base import Detector, DetectorSpec

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Descriptions by name. ``yolox`` is today's release (BGR, 0 to 255), ``yolox-2021`` the first one.
DETECTORS: dict[str, DetectorSpec] = {
    "yolox": DetectorSpec(family="yolox", size=(640, 640), color="bgr"),
    "yolox-nano": DetectorSpec(family="yolox", size=(416, 416), color="bgr"),
    "yolox-nano-2021": DetectorSpec(
        family="yolox", size=(416, 416), scale=1 / 255, mean=_IMAGENET_MEAN, std=_IMAGENET_STD
    ),
    "fastestdet": DetectorSpec(
        family="fastestdet", size=(352, 352), color="bgr", scale=1 / 255, resize="stretch", nms_threshold=0.45
    ),
}


def open_detector(text: str, threads: int = 0) -> Detector:
    """A detector from ``--detector``.

    Args:
        text: ``NAME:FILE.onnx`` with a name of :data:`DETECTORS`; ``FILE.onnx`` with a description ``FILE.yaml``
            beside it (fields of :class:`~derain.detection.base.DetectorSpec`); or a folder of a transformers
            model for object detection.
        threads: of one call; 0 is the runtime's default.

    Raises:
        ModelError: no such file, no description, or one that does not fit.
        DeviceError: the package that runs it is not installed.
    """
    name, colon, file = text.partition(":")
    if colon and name in DETECTORS:
        from .onnx import OnnxDetector

        return OnnxDetector(Path(file), DETECTORS[name], threads)
    path = Path(text)
    if path.is_dir() and (path / "config.json").is_file():
        from .hub import HubDetector

        return HubDetector(path)
    if path.suffix.lower() != ".onnx":
        known = ", ".join(DETECTORS)
        raise ModelError(f"{text}: not a detector; give NAME:FILE.onnx (NAME: {known}), an .onnx file or a folder")
    from .onnx import OnnxDetector

    return OnnxDetector(path, _described(path), threads)


def _described(file: Path) -> DetectorSpec:
    description = file.with_suffix(".yaml")
    if not description.is_file():
        known = ", ".join(f"{name}:{file}" for name in DETECTORS)
        raise ModelError(f"{file}: no description {description.name} beside it; add one, or name a family: {known}")
    try:
        return DetectorSpec.model_validate(yaml.safe_load(description.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "not YAML"}
        where = ".".join(map(str, reason["loc"]))
        raise ModelError(f"{description}: {where}: {reason['msg']}; fix the description") from None
