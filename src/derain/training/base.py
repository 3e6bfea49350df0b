"""Base class of the LightningModules: training step, optimizer, checkpoint content."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from derain.errors import RecipeError

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
        self._losses: list[float] = []
        self._mean_loss: float | None = None  # of the last interval, for optimizer.skip_threshold
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

    def on_train_start(self) -> None:
        """Set the learning rate of the first step by the recipe: a prolonged run has another schedule than before."""
        for config in self.trainer.lr_scheduler_configs:
            schedule = config.scheduler
            assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
            for group, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
                group["lr"] = rate * self.recipe.schedule.factor(schedule.last_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> Tensor | None:
        """One batch; ``None`` if it is skipped."""
        step = self.global_step
        # Randomness inside a network is a function of the step, so that a resumed run draws the same numbers.
        torch.manual_seed((self.recipe.seed << 32) + step)
        channels_last = self.trainer.precision != "32-true" or self.device.type != "cpu"
        inputs, targets = (set_memory_format(part, channels_last) for part in batch)
        total, values = self.loss(inputs, targets, step)
        self.log("loss", total.detach(), sync_dist=True)
        for name, value in values.items():
            self.log(f"loss/{name}", value, sync_dist=True)
        return None if self._skips(total.detach()) else total

    def _skips(self, loss: Tensor) -> bool:
        """Whether a batch is skipped by ``optimizer.skip_threshold``."""
        if (threshold := self.recipe.optimizer.skip_threshold) is None:
            return False
        if self.trainer.world_size > 1:  # all processes must decide alike
            loss = self.all_gather(loss).mean()  # type: ignore[union-attr]
        value = float(loss)
        limit = math.inf if self._mean_loss is None else threshold * abs(self._mean_loss)
        if not value < limit:
            self.log("skipped", 1.0)
            return True
        self._losses.append(value)
        self.log("skipped", 0.0)
        return False

    def on_train_epoch_end(self) -> None:
        """Take the mean loss of the interval for the next one.

        Raises:
            RecipeError: all its batches were skipped.
        """
        if self.recipe.optimizer.skip_threshold is None:
            return
        if not self._losses:
            raise RecipeError(
                f"{self.recipe.name}: all batches since the last validation were skipped by optimizer.skip_threshold; "
                "lower optimizer.lr, or raise the threshold"
            )
        self._mean_loss = sum(self._losses) / len(self._losses)
        self._losses = []

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
        """Store the recipe, and what ``optimizer.skip_threshold`` needs, in the checkpoint."""
        checkpoint["recipe"] = self.recipe.model_dump(mode="json")
        checkpoint["mean_loss"] = self._mean_loss

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue with the mean loss before the checkpoint."""
        self._mean_loss = checkpoint.get("mean_loss")


def set_memory_format(part: Tensor, channels_last: bool) -> Tensor:
    """A batch of images in the given memory format; labels, which have no channels, are returned unchanged."""
    if part.ndim != 4:
        return part
    return part.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
