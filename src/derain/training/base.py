"""Base class of the LightningModules: training step, optimizer, checkpoint content."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from .muon import Muon, muon_groups
from .recipe import BaseRecipe


class RecipeModule(pl.LightningModule, ABC):
    """Trains ``network`` by a recipe.

    Attributes:
        score: the validation metric that chooses the best checkpoint; higher is better.
    """

    score: ClassVar[str]
    network: nn.Module

    def __init__(self, recipe: BaseRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)

    @abstractmethod
    def loss(self, inputs: Tensor, targets: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss at a step, counted from 0, and each term before its weight."""

    @abstractmethod
    def sample(self, batch: Any) -> tuple[Tensor, ...]:
        """Images of a validation batch, ``(1, 3, H, W)`` in [0, 1], that a sample sheet shows side by side."""

    def move_frozen(self, device: torch.device) -> None:
        """Move frozen networks that are not part of the module."""

    def on_fit_start(self) -> None:
        """Move frozen networks to the module's device."""
        self.move_frozen(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> Tensor:
        """One batch."""
        step = self.global_step
        # Randomness inside a network is a function of the step, so that a resumed run draws the same numbers.
        torch.manual_seed((self.recipe.seed << 32) + step)
        channels_last = self.trainer.precision != "32-true" or self.device.type != "cpu"
        inputs, targets = (set_memory_format(part, channels_last) for part in batch)
        total, values = self.loss(inputs, targets, step)
        self.log("loss", total.detach(), sync_dist=True)
        for name, value in values.items():
            self.log(f"loss/{name}", value, sync_dist=True)
        return total

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule of the recipe."""
        chosen = self.recipe.optimizer
        options: dict[str, Any] = {"lr": chosen.lr, "betas": chosen.betas, "weight_decay": chosen.weight_decay}
        optimizer: torch.optim.Optimizer
        if chosen.name == "muon":
            optimizer = Muon(muon_groups(self.network), relative=chosen.relative, **options)
        else:
            kind = torch.optim.Adam if chosen.name == "adam" else torch.optim.AdamW
            optimizer = kind([p for p in self.network.parameters() if p.requires_grad], **options)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.recipe.schedule.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the recipe in the checkpoint."""
        checkpoint["recipe"] = self.recipe.model_dump(mode="json")


def set_memory_format(part: Tensor, channels_last: bool) -> Tensor:
    """A batch of images in the given memory format; labels, which have no channels, are returned unchanged."""
    if part.ndim != 4:
        return part
    return part.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
