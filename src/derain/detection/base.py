"""What every detector offers, and how its input is described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from derain.arrays import FloatArray, UInt8Array

_COCO_NAMES = """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,
parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,
handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,
surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,
broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,
mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,
teddy bear,hair drier,toothbrush"""
#: The 80 classes of COCO's detection task, in the order of most detectors.
COCO_CLASSES = tuple(_COCO_NAMES.replace("\n", "").split(","))


@dataclass(frozen=True)
class Detection:
    """One detected object: class number, score in [0, 1], left, top, width and height in pixels of the image."""

    category: int
    score: float
    x: float
    y: float
    width: float
    height: float


class Detector(Protocol):
    """Finds objects in an image."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the class numbers."""

    def __call__(self, image: UInt8Array) -> list[Detection]:
        """Detect in ``(H, W, 3)`` uint8 RGB; best first."""


class DetectorSpec(BaseModel):
    """How to feed an ONNX detector and read its output; a YAML file beside the model, or a name.

    Attributes:
        family: how the output is decoded, ``yolox`` or ``fastestdet``.
        size: width and height of the input, pixels.
        color: order of the channels.
        scale: the 8-bit values are multiplied by it,
        mean, std: then these are subtracted and divided by, in the order of ``color``.
        resize: ``letterbox`` keeps the proportions and pads, ``stretch`` does not.
        pad: value of the padding, 0 to 255.
        classes: names, in the order of the class numbers.
        score_threshold: detections below it are dropped; low, for average precision looks at all scores.
        nms_threshold: of two boxes of a class that overlap more, the better one stays.
        max_detections: of an image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["yolox", "fastestdet"]
    size: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]]
    color: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: Literal["letterbox", "stretch"] = "letterbox"
    pad: Annotated[int, Field(ge=0, le=255)] = 114
    classes: tuple[str, ...] = COCO_CLASSES
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.01
    nms_threshold: Annotated[float, Field(gt=0, le=1)] = 0.65
    max_detections: Annotated[int, Field(ge=1)] = 100

    def prepare(self, image: UInt8Array) -> tuple[FloatArray, float, float]:
        """The input ``(1, 3, height, width)`` of an image, and its scale factors along x and y."""
        width, height = self.size
        if self.resize == "letterbox":
            ratio = min(width / image.shape[1], height / image.shape[0])
            inner = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
            canvas = np.full((height, width, 3), self.pad, np.uint8)
            canvas[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
            ratios = (ratio, ratio)
        else:
            canvas = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
            ratios = (width / image.shape[1], height / image.shape[0])
        values = canvas[..., ::-1] if self.color == "bgr" else canvas
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        scaled = (values.astype(np.float32) * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))[None], *ratios


def select(
    boxes: FloatArray,
    scores: FloatArray,
    categories: npt.NDArray[np.int64],
    spec: DetectorSpec,
    ratios: tuple[float, float],
) -> list[Detection]:
    """Threshold, non-maximum suppression within each class, and back to pixels of the image.

    Args:
        boxes: ``(n, 4)`` left, top, width, height in pixels of the input.
        scores, categories: ``(n,)``.
        spec: thresholds.
        ratios: input pixels per image pixel along x and y.
    """
    kept = cv2.dnn.NMSBoxesBatched(
        boxes.tolist(), scores.tolist(), categories.tolist(), spec.score_threshold, spec.nms_threshold
    )
    best = sorted((int(index) for index in kept), key=lambda index: -scores[index])[: spec.max_detections]
    found = []
    for index in best:
        x, y, width, height = (float(value) for value in boxes[index])
        across, down = ratios
        box = (x / across, y / down, width / across, height / down)
        found.append(Detection(int(categories[index]), float(scores[index]), *box))
    return found
