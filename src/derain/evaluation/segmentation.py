"""What a segmenter still sees: mIoU on labeled pictures that are clean, rained on, and derained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from derain.data.labels import Labeled
from derain.errors import DerainError
from derain.metrics import class_iou, confusion_matrix, mean_iou
from derain.rain import apply_rain, sample_rain
from derain.segmentation import enlarge
from derain.segmentation.colors import colored
from derain.weights.segmenters import TrainedSegmenter

Picture = npt.NDArray[np.uint8]
Classes = npt.NDArray[np.int64]
#: A picture without its rain, both ``(H, W, 3)`` float32 in [0, 1].
Derain = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
#: Called after each picture with its name and number, its labels, and for each condition what the segmenter
#: was shown and what it saw there.
OnPicture = Callable[[str, int, Classes, dict[str, tuple[Picture, Classes]]], None]


@dataclass
class Judgment:
    """What the segmenter saw under each condition, over the same pictures.

    Attributes:
        classes: their names.
        confusions: condition (``clean``, ``rainy``, then models) to the confusion matrix of all pictures.
        pictures: how many.
        failures: one line for each picture that could not be judged, and counts under no condition.
    """

    classes: tuple[str, ...]
    confusions: dict[str, Tensor]
    pictures: int = 0
    failures: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, dict[str, Any]]:
        """mIoU, pixel accuracy and the IoU of each class (``None`` if it never occurs) of each condition."""
        found: dict[str, dict[str, Any]] = {}
        for condition, confusion in self.confusions.items():
            values = [None if v != v else v for v in class_iou(confusion).tolist()]  # noqa: PLR0124  (NaN)
            found[condition] = {
                "miou": mean_iou(confusion),
                "accuracy": float(confusion.diagonal().sum() / confusion.sum()),
                "iou": dict(zip(self.classes, values, strict=True)),
            }
        return found


def judge(
    segmenter: TrainedSegmenter,
    pairs: Sequence[tuple[int, Labeled]],
    models: Mapping[str, Derain],
    *,
    preset: str = "heavy",
    seed: int = 0,
    device: str = "cpu",
    on_picture: OnPicture = lambda *_: None,
    on_step: Callable[[], None] = lambda: None,
) -> Judgment:
    """Show labeled pictures to a segmenter as they are, rained on, and derained.

    Args:
        segmenter: its classes are those of the labels.
        pairs: pictures with their number, which decides their rain together with the seed; a selection
            of a set is rained on as the whole set is.
        models: name to what derains.
        preset: rain of :data:`derain.rain.PRESETS`.
        seed: of the rain.
        device: of the segmenter.
        on_picture: receives what was shown and seen.
        on_step: called after each picture, judged or not.

    Returns:
        Confusion matrices. Rainy and derained pictures are rounded to 8 bits, as files would be.
    """
    count = len(segmenter.classes)
    network = segmenter.network.to(device)
    empty = {name: torch.zeros(count, count, dtype=torch.int64) for name in ("clean", "rainy", *models)}
    judgment = Judgment(segmenter.classes, empty)
    for number, pair in pairs:
        try:
            clean, labels = pair.read(count)
            rng = np.random.default_rng([seed, number])
            rain = sample_rain(preset, rng)
            rainy = _rounded(apply_rain(clean.astype(np.float32) / np.float32(255), rain, rng))
            shown = {"clean": clean, "rainy": rainy}
            for name, derain in models.items():
                shown[name] = _rounded(derain(rainy.astype(np.float32) / np.float32(255)))
        except DerainError as error:
            judgment.failures.append(str(error))
        else:
            truth = torch.from_numpy(labels.astype(np.int64))
            seen = {condition: classify(network, picture, device) for condition, picture in shown.items()}
            for condition, classes in seen.items():
                judgment.confusions[condition] += confusion_matrix(torch.from_numpy(classes), truth, count)
            judgment.pictures += 1
            on_picture(pair.name, number, truth.numpy(), {c: (shown[c], seen[c]) for c in shown})
        on_step()
    return judgment


def classify(network: nn.Module, picture: Picture, device: str = "cpu") -> Classes:
    """The class of each pixel of ``(H, W, 3)`` uint8 RGB, ``(H, W)`` int64, by a segmenter on that device."""
    planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].to(device).float() / 255
    with torch.inference_mode():
        classes: Tensor = enlarge(network(planes), *picture.shape[:2]).argmax(dim=1)[0]
    return classes.cpu().numpy()


def evenly(pairs: Sequence[Labeled], count: int | None) -> list[tuple[int, Labeled]]:
    """``count`` pictures spread evenly over the set (all if ``None``), each with its number in the set."""
    count = len(pairs) if count is None else min(count, len(pairs))
    return [(place, pairs[place]) for place in (i * len(pairs) // count for i in range(count))]


def sheet_row(labels: Classes, views: Mapping[str, tuple[Picture, Classes]]) -> Picture:
    """One picture as it was shown and seen: each condition above its classes, the labels last."""
    white = np.full_like(next(iter(views.values()))[0], 255)
    columns = [np.vstack([picture, colored(classes)]) for picture, classes in views.values()]
    return np.hstack([*columns, np.vstack([white, colored(labels)])])


def _rounded(picture: npt.NDArray[np.float32]) -> Picture:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
