"""Mean average precision of an object detector on images that are clean, rainy, and derained.

Average precision is computed by pycocotools, COCO's own code (Lin et al., ECCV 2014): ``map50`` at an IoU of 0.5,
``map`` as the mean over IoUs of 0.5 to 0.95.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from derain.arrays import UInt8Array
from derain.data.boxes import Box, BoxedImage, BoxedSet
from derain.data.layouts import read_rgb
from derain.detection import Detection, Detector
from derain.errors import DerainError, DeviceError, InputError

from .conditions import CLEAN, RAINY, Derain, recovery, versions

#: Called after each image with its index in the set, the labeled boxes, and for each condition image and detections.
OnImage = Callable[[int, list[Box], dict[str, tuple[UInt8Array, list[Detection]]]], None]
_SHOWN_SCORE = 0.3  # detections drawn


@dataclass
class DetectionScores:
    """Detections under each condition, over the same images.

    Attributes:
        classes: names of the classes that labels and detector share.
        detections: condition (``clean``, ``rainy``, then the models) to the detections of each image.
        truth: the labeled boxes of each image, with its width and height.
        failures: one line per image that could not be evaluated; such an image counts under no condition.
    """

    classes: tuple[str, ...]
    detections: dict[str, list[list[Detection]]]
    truth: list[tuple[int, int, list[Box]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        """Number of evaluated images."""
        return len(self.truth)

    def metrics(self) -> dict[str, dict[str, Any]]:
        """``map50``, ``map``, per-class ``ap50`` (``None`` without a labeled box) and recovery of each condition."""
        found = {
            name: average_precision(self.truth, per_image, self.classes) for name, per_image in self.detections.items()
        }
        for name, values in found.items():
            if name not in (CLEAN, RAINY):
                for metric in ("map50", "map"):
                    won = recovery(found[CLEAN][metric], found[RAINY][metric], values[metric])
                    values[f"{metric}_recovery"] = won
        return found


def evaluate_detection(
    detector: Detector,
    data: BoxedSet,
    models: Mapping[str, Derain],
    *,
    samples: Sequence[int] | None = None,
    preset: str = "heavy",
    seed: int = 0,
    on_image: OnImage = lambda *_: None,
    on_step: Callable[[], None] = lambda: None,
) -> DetectionScores:
    """Detect in labeled images as they are, with synthetic rain, and derained.

    Args:
        detector: its classes are matched with those of the labels by name; others are ignored.
        data: from :func:`derain.data.boxes.find_boxes`.
        models: name to deraining function.
        samples: indices of the images to be used; all if ``None``.
        preset: rain, a key of :data:`derain.rain.PRESETS`.
        seed: of the rain; index and seed determine an image's rain.
        on_image: receives images, labels and detections.
        on_step: called after each image, evaluated or not.

    Raises:
        InputError: labels and detector share no class.
    """
    shared = [name for name in data.classes if name in detector.classes]
    if not shared:
        some = ", ".join(data.classes[:3])
        raise InputError(f"the detector knows none of the labels' classes ({some}, …); give one trained on them")
    number = {name: place for place, name in enumerate(shared)}
    of_label = {place: number.get(name) for place, name in enumerate(data.classes)}
    of_detector = {place: number.get(name) for place, name in enumerate(detector.classes)}
    scores = DetectionScores(tuple(shared), {name: [] for name in (CLEAN, RAINY, *models)})
    for index in range(len(data.images)) if samples is None else samples:
        try:
            clean, boxes = _read(data.images[index], of_label)
            shown = versions(clean, models, preset, seed, index)
            found = {condition: _renumbered(detector(image), of_detector) for condition, image in shown.items()}
        except DerainError as error:
            scores.failures.append(str(error))
        else:
            scores.truth.append((clean.shape[1], clean.shape[0], boxes))
            for condition, detections in found.items():
                scores.detections[condition].append(detections)
            on_image(index, boxes, {condition: (shown[condition], found[condition]) for condition in shown})
        on_step()
    return scores


def _read(sample: BoxedImage, of_label: Mapping[int, int | None]) -> tuple[UInt8Array, list[Box]]:
    image = read_rgb(sample.path)
    boxes = []
    for box in sample.boxes_in_pixels(image.shape[1], image.shape[0]):
        if (category := of_label[box.category]) is not None:
            boxes.append(Box(category, box.x, box.y, box.width, box.height, box.crowd))
    return image, boxes


def _renumbered(detections: list[Detection], number: Mapping[int, int | None]) -> list[Detection]:
    kept = []
    for found in detections:
        if (category := number.get(found.category)) is not None:
            kept.append(Detection(category, found.score, found.x, found.y, found.width, found.height))
    return kept


def average_precision(
    truth: Sequence[tuple[int, int, list[Box]]], detections: Sequence[list[Detection]], classes: Sequence[str]
) -> dict[str, Any]:
    """COCO's average precision over a set of images.

    Args:
        truth: width, height and labeled boxes of each image.
        detections: of each image.
        classes: names, in the order of the class numbers.

    Returns:
        ``map50``, ``map``, and ``ap50`` by class name, ``None`` for classes without a labeled box.

    Raises:
        DeviceError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise DeviceError("average precision needs pycocotools; pip install 'derain[detect]'") from None
    annotations = [
        {
            "id": 0,
            "image_id": image,
            "category_id": box.category,
            "bbox": [box.x, box.y, box.width, box.height],
            "area": box.width * box.height,
            "iscrowd": int(box.crowd),
        }
        for image, (_, _, boxes) in enumerate(truth)
        for box in boxes
    ]
    for number, annotation in enumerate(annotations, 1):  # pycocotools takes 0 for "no match"
        annotation["id"] = number
    results = [
        {
            "image_id": image,
            "category_id": found.category,
            "bbox": [found.x, found.y, found.width, found.height],
            "score": found.score,
        }
        for image, per_image in enumerate(detections)
        for found in per_image
    ]
    if not annotations or not results:
        return {"map50": 0.0, "map": 0.0, "ap50": dict.fromkeys(classes, None if not annotations else 0.0)}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        reference = COCO()
        reference.dataset = {
            "images": [{"id": i, "width": w, "height": h} for i, (w, h, _) in enumerate(truth)],
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
        }
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # IoU, recall, class; all areas, 100 detections
    labeled = [number for number in range(len(classes)) if (precision[:, :, number] > -1).any()]
    ap50 = {name: float(precision[0, :, n].mean()) if n in labeled else None for n, name in enumerate(classes)}
    return {
        "map50": float(precision[0][:, labeled].mean()),
        "map": float(precision[:, :, labeled].mean()),
        "ap50": ap50,
    }


def detection_table(metrics: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows, a condition each, of :meth:`DetectionScores.metrics`."""
    headings = ["condition", "mAP50", "mAP50:95", "recovery of mAP50", "recovery of mAP50:95"]
    rows = []
    for condition, values in metrics.items():
        shares = (values.get(f"{name}_recovery") for name in ("map50", "map"))
        scores = [f"{values['map50']:.3f}", f"{values['map']:.3f}"]
        rows.append([Path(condition).name, *scores, *("" if share is None else f"{share:.0%}" for share in shares)])
    return headings, rows


def example_row(
    views: Mapping[str, tuple[UInt8Array, list[Detection]]], boxes: Sequence[Box], classes: Sequence[str]
) -> UInt8Array:
    """One image with its detections under all conditions, and with the labeled boxes in the last column."""
    columns = [draw_boxes(image, detections, classes) for image, detections in views.values()]
    columns.append(draw_boxes(next(iter(views.values()))[0], boxes, classes))
    return np.hstack([np.pad(column, ((0, 0), (0, 6), (0, 0)), constant_values=255) for column in columns])


def draw_boxes(image: UInt8Array, boxes: Sequence[Box | Detection], classes: Sequence[str]) -> UInt8Array:
    """A copy with boxes and class names; detections of a low score are left out."""
    canvas = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 320))
    for box in boxes:
        if isinstance(box, Detection) and box.score < _SHOWN_SCORE:
            continue
        color = _color(box.category)
        left, top = round(box.x), round(box.y)
        cv2.rectangle(canvas, (left, top), (round(box.x + box.width), round(box.y + box.height)), color, thickness)
        text = classes[box.category] + (f" {box.score:.2f}" if isinstance(box, Detection) else "")
        place = (max(0, left) + 2, max(12, top + 13))
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1, cv2.LINE_AA)
    return canvas


def _color(category: int) -> tuple[int, int, int]:
    """A bright color; neighboring class numbers differ by the golden angle."""
    hue = np.array([[[round(category * 180 * 0.381966) % 180, 200, 255]]], np.uint8)
    red, green, blue = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0]
    return int(red), int(green), int(blue)
