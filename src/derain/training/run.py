"""Train by a recipe."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from derain.errors import DerainError, OutputError
from derain.files import write_text

from .build import build, pick_precision
from .callbacks import OnStep, RunRecorder, moving_average
from .checkpoint import check_same_recipe, load_checkpoint, pack
from .recipe import AnyRecipe


def train(recipe: AnyRecipe, out: Path, *, resume: bool = False, on_step: OnStep) -> Path:
    """Train by a recipe.

    Args:
        recipe: what to train, on what, how long.
        out: folder of the run: ``recipe.yaml``, ``checkpoints/{last,best}.ckpt``, ``metrics.csv``,
            ``curves.png``, ``samples/``, TensorBoard's events and at the end ``weights.safetensors``.
        resume: continue from ``checkpoints/last.ckpt``; the result equals that of a run that never stopped. With
            more steps than before, the run is prolonged.
        on_step: see :data:`~derain.training.callbacks.OnStep`.

    Returns:
        The model of the best validation, ``weights.safetensors``.

    Raises:
        RecipeError, InputError: something in the recipe is unusable or not available.
        OutputError: the folder holds another run.
    """
    last = out / "checkpoints" / "last.ckpt"
    if last.exists() and not resume:
        raise OutputError(f"{out}: holds a run already; add --resume to continue it, or choose another --out")
    resumed = resume and last.exists()
    _silence_lightning()
    data, module = build(recipe)
    recipe = data.recipe
    done = 0
    if resumed:
        check_same_recipe(recipe, last)
        saved = load_checkpoint(last)
        done = int(saved["global_step"])
        data.start = (done, int(saved["epoch"]) + 1)
    out.mkdir(parents=True, exist_ok=True)
    write_text(recipe.as_yaml(), out / "recipe.yaml")
    options: dict[str, Any] = {"dirpath": last.parent, "enable_version_counter": False, "save_on_train_epoch_end": True}
    callbacks: list[Callback] = [
        RunRecorder(out, recipe, module, done, on_step),
        ModelCheckpoint(filename="best", monitor=module.score, mode="max", **options),
        ModelCheckpoint(filename="last", **options),
    ]
    if recipe.checkpoint.every is not None:
        kept: dict[str, Any] = {"every_n_train_steps": recipe.checkpoint.every, "save_top_k": -1}
        name = {"filename": "step-{step:07d}", "auto_insert_metric_name": False}
        callbacks.append(ModelCheckpoint(**(options | kept | name | {"save_on_train_epoch_end": False})))
    if recipe.ema is not None:
        callbacks.append(moving_average(recipe.ema))
    trainer = pl.Trainer(
        accelerator=recipe.trainer.accelerator,
        devices=recipe.trainer.devices,
        num_nodes=recipe.trainer.num_nodes,
        strategy=recipe.trainer.strategy,
        precision=pick_precision(recipe),
        # An epoch is an interval between validations. Not max_steps as well: it would break resuming.
        max_epochs=data.start[1] + math.ceil((recipe.schedule.length - done) / recipe.validation.every),
        gradient_clip_val=recipe.optimizer.clip,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        callbacks=callbacks,
        default_root_dir=out,
    )
    if trainer.precision != "32-true":
        module.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        trainer.fit(module, data, ckpt_path=str(last) if resumed else None, weights_only=True)
    except DerainError as error:
        # An error of a data worker includes that worker's traceback; its last line is the message.
        message = str(error).strip().splitlines()[-1]
        raise type(error)(message.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")) from error
    if trainer.interrupted:
        raise KeyboardInterrupt
    weights = out / "weights.safetensors"
    if trainer.is_global_zero:
        pack(last.with_name("best.ckpt"), weights, half=False)
    return weights


def _silence_lightning() -> None:
    """Hide Lightning's hints, which address users of Lightning."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
