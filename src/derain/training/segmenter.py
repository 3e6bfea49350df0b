"""Training of segmenters on labeled images: data and module of a :class:`~.recipe.SegmenterRecipe`."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from derain.arrays import to_float
from derain.data.labels import balanced_weights, count_classes, find_labeled
from derain.errors import ModelError, RecipeError
from derain.losses.labeled import lovasz_softmax, weighted_entropy
from derain.metrics import class_iou, confusion_matrix, mean_iou
from derain.segmentation import create_segmenter, enlarge
from derain.segmentation.colors import colored

from .base import RecipeModule
from .datasets.data_module import patch_loader
from .datasets.labeled import LabeledImages, LabeledPatches
from .datasets.sources import to_tensor
from .recipe import SegmenterRecipe


class SegmenterData(pl.LightningDataModule):
    """Training patches and whole validation images.

    Attributes:
        recipe, start: as of :class:`~.datasets.data_module.TrainingData`.
        weights: of the classes in the cross entropy, ``(classes,)``.

    Raises:
        RecipeError: no folder given.
        InputError: a split that is not laid out like CamVid's.
    """

    def __init__(self, recipe: SegmenterRecipe) -> None:
        super().__init__()
        self.start = (0, 0)
        data = recipe.data
        if data.folder is None:
            raise RecipeError(f"{recipe.name}: data.folder: nothing to train on; add --data DIR (with train and val)")
        count = len(data.classes)
        pairs = find_labeled(data.folder / "train")
        self.validation = LabeledImages(find_labeled(data.folder / "val"), count)
        self.weights = torch.from_numpy(balanced_weights(count_classes(pairs, count), data.balance))
        self.patches = LabeledPatches(pairs, count, zoom=data.zoom, jitter=data.jitter, seed=recipe.seed)
        self.recipe = recipe.with_data(lambda _side: len(pairs))

    def train_dataloader(self) -> DataLoader[Any]:
        """Patches of this process."""
        return patch_loader(self.patches, self.recipe, self.trainer, self.start)

    def val_dataloader(self) -> DataLoader[Any]:
        """Whole images, one at a time."""
        return DataLoader(self.validation, batch_size=None)


class SegmenterModule(RecipeModule):
    """Trains a segmenter by a recipe.

    Args:
        recipe: see :class:`derain.training.recipe.SegmenterRecipe`.
        weights: of the classes in the cross entropy; equal by default.

    Raises:
        RecipeError: unusable settings.
    """

    score = "miou"
    recipe: SegmenterRecipe

    def __init__(self, recipe: SegmenterRecipe, weights: Tensor | None = None) -> None:
        super().__init__(recipe)
        self.names = recipe.data.classes
        try:
            self.network = create_segmenter(recipe.segmenter.name, len(self.names), **recipe.segmenter.settings)
        except ModelError as error:
            raise RecipeError(f"{recipe.name}: segmenter: {error}") from None
        self.weights: Tensor | None
        self.register_buffer("weights", weights, persistent=False)
        self._confusion = torch.zeros(len(self.names), len(self.names), dtype=torch.int64)

    def loss(self, inputs: Tensor, targets: Tensor, _step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy and Lovász-Softmax.

        Args:
            inputs: ``(N, 3, H, W)`` in [0, 1].
            targets: ``(N, H, W)`` int64 labels.
        """
        logits = self.network(inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            logits = logits.float()
            total = entropy = weighted_entropy(logits, targets, self.weights)
            values = {"entropy": entropy.detach()}
            if self.recipe.lovasz:
                lovasz = lovasz_softmax(logits, targets)
                values["lovasz"] = lovasz.detach()
                total = total + self.recipe.lovasz * lovasz
        return total, values

    def predict(self, images: Tensor) -> Tensor:
        """The class of each pixel, ``(N, 3, H, W)`` to ``(N, H, W)`` int64."""
        return enlarge(self.network(images).float(), *images.shape[-2:]).argmax(dim=1)

    def on_validation_epoch_start(self) -> None:
        """Reset the confusion matrix."""
        self._confusion.zero_()

    def validation_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> None:
        """One whole image."""
        image, labels = batch
        self._confusion += confusion_matrix(self.predict(image), labels, len(self.names)).cpu()

    def on_validation_epoch_end(self) -> None:
        """mIoU and the IoU of each class, over all images."""
        self.log("miou", mean_iou(self._confusion))
        for name, value in zip(self.names, class_iou(self._confusion), strict=True):
            if not value.isnan():
                self.log(f"iou/{name}", value.float())

    def sample(self, batch: Any) -> tuple[Tensor, ...]:
        """Image | prediction | labels."""
        image, labels = batch
        maps = (colored(classes[0].cpu().numpy()) for classes in (self.predict(image), labels))
        return (image, *(to_tensor(to_float(colors))[None] for colors in maps))
