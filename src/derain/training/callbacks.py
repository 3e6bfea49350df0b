"""Lightning callbacks of a run: its records, and the moving average of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor

from derain.arrays import FloatArray, to_hwc
from derain.errors import RecipeError

from .base import RecipeModule
from .metrics_log import MetricsLog, write_sheet
from .recipe import AnyRecipe

_SAMPLES = 4  # rows of a sample sheet
_SCORES = ("psnr", "ssim", "miou")
#: Called with the finished steps, the steps of the whole run, and the latest numbers.
OnStep = Callable[[int, int, dict[str, float]], None]


class RunRecorder(Callback):
    """Reports each step, and writes metrics, their plot and samples at each validation.

    Args:
        out: folder of the run.
        recipe: of the run.
        module: the module that is trained.
        resume_at: step that the run resumes from; 0 for a new run.
        on_step: see :data:`OnStep`.
    """

    def __init__(self, out: Path, recipe: AnyRecipe, module: RecipeModule, resume_at: int, on_step: OnStep) -> None:
        self.out, self.recipe, self.module, self.on_step = out, recipe, module, on_step
        self.metrics = MetricsLog(out / "metrics.csv", resume_at)
        self.samples: list[tuple[Tensor, ...]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate after the last interval too, which may be shorter than the others."""
        loader = trainer.train_dataloader
        assert loader is not None, "training has begun"
        trainer.val_check_batch = len(loader.batch_sampler)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss and its terms; stop the run if it diverges."""
        step = trainer.global_step
        numbers = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(("loss", "skipped"))}
        if not math.isfinite(numbers["loss"]) and not numbers.get("skipped"):
            raise RecipeError(
                f"{self.recipe.name}: the loss is {numbers['loss']} at step {step}; "
                "lower optimizer.lr, or set optimizer.clip or schedule.warmup"
            )
        if trainer.is_global_zero:
            self.metrics.add(step, lr=trainer.optimizers[0].param_groups[0]["lr"], **numbers)
            self.on_step(step, self.recipe.schedule.length, numbers)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first images for the sample sheet."""
        if trainer.is_global_zero and len(self.samples) < _SAMPLES:
            with torch.inference_mode():
                self.samples.append(self.module.sample(batch))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the scores and write all files."""
        if not trainer.is_global_zero:
            return
        scores = {
            k: float(v) for k, v in trainer.callback_metrics.items() if k.endswith(_SCORES) or k.startswith("iou/")
        }
        step = trainer.global_step
        self.metrics.add(step, **scores)
        self.metrics.write()
        self.metrics.plot(self.out / "curves.png")
        rows = [tuple(_to_image(part) for part in row) for row in self.samples]
        write_sheet(rows, self.out / "samples" / f"step-{step:07d}.png")
        self.samples = []
        self.on_step(step, self.recipe.schedule.length, scores)


def moving_average(decay: float) -> WeightAveraging:
    """The callback for an exponential moving average of the weights.

    The update is not torch's ``get_ema_avg_fn``: its constant decay would keep the random initial weights in
    the average for thousands of steps. Here the decay rises with the number of updates, up to ``decay``.
    """

    def average(mean: Tensor, value: Tensor, updates: Tensor | int) -> Tensor:
        warm_up = (1 + float(updates)) / (20 + float(updates))
        return mean + (value - mean) * (1 - min(decay, warm_up))

    return WeightAveraging(avg_fn=average)


def _to_image(batch: Tensor) -> FloatArray:
    """The first image of a batch as ``(H, W, 3)``."""
    return to_hwc(batch[0].float().cpu().numpy())
