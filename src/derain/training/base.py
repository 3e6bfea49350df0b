"""What every LightningModule of a recipe shares: one step, the optimizer, what travels in a checkpoint."""

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
        score: the validation figure by which the best checkpoint is chosen, the higher the better.
    """

    score: ClassVar[str]
    network: nn.Module

    def __init__(self, recipe: BaseRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)

    @abstractmethod
    def loss(self, given: Tensor, wanted: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole loss at a step, counted from 0, and each term before its weight."""

    @abstractmethod
    def sample(self, batch: Any) -> tuple[Tensor, ...]:
        """What a validation batch shows: ``(1, 3, H, W)`` pictures in [0, 1], side by side in the samples."""

    def move_frozen(self, device: torch.device) -> None:
        """Move what is used but not part of the module."""

    def on_fit_start(self) -> None:
        """Frozen networks follow to the device."""
        self.move_frozen(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> Tensor:
        """One batch."""
        step = self.global_step
        # Whatever is random inside a network is a function of the step, so a resumed run draws the same.
        torch.manual_seed((self.recipe.seed << 32) + step)
        low = self.trainer.precision != "32-true" or self.device.type != "cpu"
        given, wanted = (laid_out(part, low) for part in batch)
        total, values = self.loss(given, wanted, step)
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
        """The recipe travels with the weights."""
        checkpoint["recipe"] = self.recipe.model_dump(mode="json")


def laid_out(part: Tensor, channels_last: bool) -> Tensor:
    """A batch of pictures in the layout that the device is quick with; labels stay."""
    if part.ndim != 4:
        return part
    return part.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
