"""mIoU of a segmenter on labeled images that are clean, rainy, and derained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from derain.arrays import Quantizer, UInt8Array, to_chw, to_float, to_uint8
from derain.data.scenes import LabeledScene
from derain.errors import DerainError
from derain.metrics import class_accuracy, class_iou, confusion_matrix, mean_iou
from derain.segmentation import enlarge
from derain.segmentation.colors import colored
from derain.weights.segmenters import TrainedSegmenter

from .conditions import CLEAN, RAINY, Derain, rainy_version, recovery
from .results import ResultFolder

#: Class numbers of an image, ``(H, W)``.
ClassMap = npt.NDArray[np.int64]
#: Called after each image with its name and index, its labels, and for each condition the image and the
#: predicted classes.
OnImage = Callable[[str, int, ClassMap, dict[str, tuple[UInt8Array, ClassMap]]], None]


@dataclass
class SegmentationScores:
    """Scores of a segmenter under each condition, over the same images.

    Attributes:
        classes: their names.
        confusions: condition (``clean``, ``rainy``, then models and results) to its confusion matrix over all
            images.
        images: number of evaluated images.
        failures: one line per image that could not be evaluated; such an image counts under no condition.
    """

    classes: tuple[str, ...]
    confusions: dict[str, Tensor]
    images: int = 0
    failures: list[str] = field(default_factory=list)

    def metrics(self) -> dict[str, dict[str, Any]]:
        """mIoU, pixel and class accuracy, and the IoU of each class (``None`` if it never occurs), by condition.

        With clean images, derained ones also have ``miou_recovery``: the share of the loss to rain won back.
        """
        result: dict[str, dict[str, Any]] = {}
        for condition, confusion in self.confusions.items():
            values = [None if v != v else v for v in class_iou(confusion).tolist()]  # noqa: PLR0124  (NaN)
            result[condition] = {
                "miou": mean_iou(confusion),
                "accuracy": float(confusion.diagonal().sum() / confusion.sum()),
                "class_accuracy": float(class_accuracy(confusion).nanmean()),
                "iou": dict(zip(self.classes, values, strict=True)),
            }
        if CLEAN in result:
            for condition, metrics in result.items():
                if condition not in (CLEAN, RAINY):
                    scores = (result[name]["miou"] for name in (CLEAN, RAINY, condition))
                    metrics["miou_recovery"] = recovery(*scores)
        return result


def evaluate_segmentation(
    segmenter: TrainedSegmenter,
    samples: Sequence[tuple[int, LabeledScene]],
    models: Mapping[str, Derain],
    *,
    results: Mapping[str, ResultFolder] | None = None,
    quantizer: Quantizer = "round",
    preset: str = "heavy",
    seed: int = 0,
    device: str = "cpu",
    on_image: OnImage = lambda *_: None,
    on_step: Callable[[], None] = lambda: None,
) -> SegmentationScores:
    """Segment labeled images as they are, with rain, and derained.

    Args:
        segmenter: its classes are those of the labels.
        samples: labeled scenes with their index in the set. Where they have no rainy image, index and seed
            determine the rain, so that a subset gets the same rain as the full set; see
            :func:`.conditions.evenly_spaced`.
        models: name to deraining function.
        results: name to a folder of images that another method derained; only for scenes with rainy images.
        quantizer: how the models' results become 8 bits; rain that is added is rounded.
        preset: rain that is added, a key of :data:`derain.rain.PRESETS`.
        seed: of the rain.
        device: of the segmenter.
        on_image: receives images and predictions.
        on_step: called after each image, evaluated or not.

    Returns:
        Confusion matrices; without clean images there is no condition ``clean``. Rainy and derained images have
        8 bits, as if saved to files.
    """
    count = len(segmenter.classes)
    network = segmenter.network.to(device)
    results = results or {}
    given = [CLEAN] if any(sample.clean is not None for _, sample in samples) else []
    empty = {name: torch.zeros(count, count, dtype=torch.int64) for name in (*given, RAINY, *models, *results)}
    scores = SegmentationScores(segmenter.classes, empty)
    for index, sample in samples:
        try:
            clean, rainy, labels = sample.read(count)
            shown = {} if clean is None else {CLEAN: clean}
            if rainy is None:
                assert clean is not None
                rainy = rainy_version(clean, preset, seed, index)
            shown[RAINY] = rainy
            for name, derain in models.items():
                shown[name] = to_uint8(derain(to_float(rainy)), quantizer)
            for name, folder in results.items():
                shown[name] = folder.read(sample.rainy or Path(sample.name), rainy.shape)
        except DerainError as error:
            scores.failures.append(str(error))
        else:
            truth = torch.from_numpy(labels.astype(np.int64))
            predicted = {condition: classify(network, image, device) for condition, image in shown.items()}
            for condition, classes in predicted.items():
                scores.confusions[condition] += confusion_matrix(torch.from_numpy(classes), truth, count)
            scores.images += 1
            on_image(sample.name, index, truth.numpy(), {c: (shown[c], predicted[c]) for c in shown})
        on_step()
    return scores


def classify(network: nn.Module, image: UInt8Array, device: str = "cpu") -> ClassMap:
    """The class of each pixel of ``(H, W, 3)`` uint8 RGB, by a segmenter on the given device."""
    batch = torch.from_numpy(to_chw(image))[None].to(device).float() / 255
    with torch.inference_mode():
        classes: Tensor = enlarge(network(batch), *image.shape[:2]).argmax(dim=1)[0]
    return classes.cpu().numpy()


def sheet_row(
    labels: ClassMap, views: Mapping[str, tuple[UInt8Array, ClassMap]], names: Sequence[str] = ()
) -> UInt8Array:
    """One image under all conditions: each above its predicted classes, the labels in the last column.

    Args:
        labels: true class numbers.
        views: condition to its image and predicted classes.
        names: of the classes, which decide the colors.
    """
    white = np.full_like(next(iter(views.values()))[0], 255)
    columns = [np.vstack([image, colored(classes, names)]) for image, classes in views.values()]
    return np.hstack([*columns, np.vstack([white, colored(labels, names)])])
