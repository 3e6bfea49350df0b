"""Training of segmenters from labels: the data and the module of a :class:`~.recipe.SegmenterRecipe`."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from derain.data.labels import Labeled, LabeledPatches, balanced_weights, count_classes, find_labeled
from derain.errors import ModelError, RecipeError
from derain.losses.labeled import lovasz_softmax, weighted_entropy
from derain.metrics import class_iou, confusion_matrix, mean_iou
from derain.segmentation import create_segmenter, enlarge
from derain.segmentation.colors import colored

from .base import RecipeModule
from .datasets.data_module import patch_loader
from .recipe import SegmenterRecipe


class WholePictures(Dataset[tuple[Tensor, Tensor]]):
    """Labeled pictures whole: ``(1, 3, H, W)`` in [0, 1] and ``(1, H, W)`` int64 labels."""

    def __init__(self, pairs: list[Labeled], classes: int) -> None:
        self.pairs, self.classes = pairs, classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        picture, labels = self.pairs[place].read(self.classes)
        planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 255
        return planes[None], torch.from_numpy(labels.astype(np.int64))[None]


class SegmenterData(pl.LightningDataModule):
    """Training patches and whole validation pictures.

    Attributes:
        weights: of the classes, ``(classes,)``.

    Raises:
        RecipeError: no folder given.
        InputError: a split that is not laid out as CamVid's.
    """

    def __init__(self, recipe: SegmenterRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        data = recipe.data
        if data.folder is None:
            raise RecipeError(f"{recipe.name}: data.folder: nothing to train on; add --data DIR (with train and val)")
        count = len(data.classes)
        pairs = find_labeled(data.folder / "train")
        self.validation = WholePictures(find_labeled(data.folder / "val"), count)
        self.weights = torch.from_numpy(balanced_weights(count_classes(pairs, count), data.balance))
        self.patches = LabeledPatches(pairs, count, zoom=data.zoom, jitter=data.jitter, seed=recipe.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Patches of this process."""
        return patch_loader(self.patches, self.recipe, self.trainer)

    def val_dataloader(self) -> DataLoader[Any]:
        """Whole pictures, one at a time."""
        return DataLoader(self.validation, batch_size=None)


class SegmenterModule(RecipeModule):
    """Trains a segmenter by a recipe.

    Args:
        recipe: see :class:`derain.training.recipe.SegmenterRecipe`.
        weights: of the classes in the cross entropy; all alike if ``None``.

    Raises:
        RecipeError: settings that cannot be used.
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

    def loss(self, given: Tensor, wanted: Tensor, _step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy and Lovász-Softmax.

        Args:
            given: ``(N, 3, H, W)`` in [0, 1].
            wanted: ``(N, H, W)`` int64 labels.
        """
        logits = self.network(given)
        with torch.autocast(given.device.type, enabled=False):
            logits = logits.float()
            total = entropy = weighted_entropy(logits, wanted, self.weights)
            values = {"entropy": entropy.detach()}
            if self.recipe.lovasz:
                lovasz = lovasz_softmax(logits, wanted)
                values["lovasz"] = lovasz.detach()
                total = total + self.recipe.lovasz * lovasz
        return total, values

    def predict(self, picture: Tensor) -> Tensor:
        """The class of each pixel, ``(N, H, W)`` int64, of ``(N, 3, H, W)``."""
        return enlarge(self.network(picture).float(), *picture.shape[-2:]).argmax(dim=1)

    def on_validation_epoch_start(self) -> None:
        """Counting starts anew."""
        self._confusion.zero_()

    def validation_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> None:
        """One picture, whole."""
        picture, labels = batch
        self._confusion += confusion_matrix(self.predict(picture), labels, len(self.names)).cpu()

    def on_validation_epoch_end(self) -> None:
        """mIoU and the IoU of each class, over all pictures."""
        self.log("miou", mean_iou(self._confusion))
        for name, value in zip(self.names, class_iou(self._confusion), strict=True):
            if not value.isnan():
                self.log(f"iou/{name}", value.float())

    def sample(self, batch: Any) -> tuple[Tensor, ...]:
        """Picture | prediction | labels."""
        picture, labels = batch
        shown = (colored(classes[0].cpu().numpy()) for classes in (self.predict(picture), labels))
        planes = (torch.from_numpy(c).permute(2, 0, 1)[None].float() / 255 for c in shown)
        return (picture, *planes)
