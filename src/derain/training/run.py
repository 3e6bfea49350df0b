"""Run a recipe: trainer, checkpoints, records, and what a run costs beforehand."""

from __future__ import annotations

import json
import logging
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from derain.errors import DerainError, InputError, OutputError, RecipeError
from derain.files import write_text
from derain.models import create_model
from derain.runtime.torch import fast_bf16
from derain.segmentation import create_segmenter
from derain.weights.store import SEGMENTER, save_file

from .base import RecipeModule, laid_out
from .datasets.data_module import TrainingData
from .metrics_log import MetricsLog, write_sheet
from .module import DerainModule
from .recipe import AnyRecipe, Recipe, check_recipe
from .segmenter import SegmenterData, SegmenterModule

_SAMPLES = 4
_FIGURES = ("psnr", "ssim", "miou")
#: Called with the steps done, those of the whole run, and the newest numbers.
OnStep = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class RunEstimate:
    """What a run takes here: seconds a step and steps of each phase, peak memory in bytes, loss terms."""

    seconds: tuple[float, ...]
    steps: tuple[int, ...]
    memory: int
    losses: dict[str, float]
    parameters: int

    @property
    def total_seconds(self) -> float:
        """Of all steps, without validation."""
        return sum(s * n for s, n in zip(self.seconds, self.steps, strict=True))


def train(recipe: AnyRecipe, out: Path, *, resume: bool = False, on_step: OnStep) -> Path:
    """Train by a recipe.

    Args:
        recipe: what to do.
        out: folder of the run: ``recipe.yaml``, ``checkpoints/{last,best}.ckpt``, ``metrics.csv``,
            ``curves.png``, ``samples/``, TensorBoard's events and at last ``weights.safetensors``.
        resume: go on from ``checkpoints/last.ckpt``; the outcome equals that of a run never stopped.
        on_step: see :data:`OnStep`.

    Returns:
        The weights of the best validation, as ``weights.safetensors``.

    Raises:
        RecipeError, InputError: what the recipe asks for cannot be had.
        OutputError: the folder holds another run.
    """
    last = out / "checkpoints" / "last.ckpt"
    if last.exists() and not resume:
        raise OutputError(f"{out}: holds a run already; add --resume to go on with it, or choose another --out")
    if resume and last.exists():
        _same_recipe(recipe, last)
    _quiet_lightning()
    data, module = _parts(recipe)
    out.mkdir(parents=True, exist_ok=True)
    write_text(recipe.as_yaml(), out / "recipe.yaml")
    intervals = math.ceil(recipe.schedule.steps / recipe.validation.every)
    places: dict[str, Any] = {"dirpath": last.parent, "enable_version_counter": False, "save_on_train_epoch_end": True}
    callbacks: list[Callback] = [
        _Records(out, recipe, module, last if resume else None, on_step),
        ModelCheckpoint(filename="best", monitor=module.score, mode="max", **places),
        ModelCheckpoint(filename="last", **places),
    ]
    if recipe.ema is not None:
        callbacks.append(WeightAveraging(avg_fn=_average(recipe.ema)))
    trainer = pl.Trainer(
        accelerator=recipe.trainer.accelerator,
        devices=recipe.trainer.devices,
        num_nodes=recipe.trainer.num_nodes,
        strategy=recipe.trainer.strategy,
        precision=_precision(recipe),
        max_epochs=intervals,  # a limit of steps besides would confuse resuming
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
        trainer.fit(module, data, ckpt_path=str(last) if resume and last.exists() else None, weights_only=True)
    except DerainError as error:
        # An error of a data worker comes with that worker's traceback; its last line is the message.
        raise type(error)(str(error).strip().splitlines()[-1].removeprefix(f"{_name(error)}: ")) from error
    if trainer.interrupted:
        raise KeyboardInterrupt
    weights = out / "weights.safetensors"
    if trainer.is_global_zero:
        pack(last.with_name("best.ckpt"), weights, half=False)
    return weights


def pack(checkpoint: Path, target: Path, *, half: bool = True) -> str:
    """Turn a checkpoint (its moving average, if there is one) into a weight for ``--model``.

    Args:
        checkpoint: from :func:`train`.
        target: a ``.safetensors`` file.
        half: store float16.

    Returns:
        sha256 of the file.

    Raises:
        InputError: not a checkpoint of derain.
    """
    saved = _read(checkpoint)
    recipe = check_recipe(saved["recipe"], str(checkpoint))
    if isinstance(recipe, Recipe):
        name, settings = recipe.model.name, recipe.model.settings
        network = create_model(name, **settings)
    else:
        name, settings = recipe.segmenter.name, {**recipe.segmenter.settings, "classes": len(recipe.data.classes)}
        network = create_segmenter(name, **settings)
    prefix = "network."
    network.load_state_dict({k[len(prefix) :]: v for k, v in saved["state_dict"].items() if k.startswith(prefix)})
    origin = {"recipe": recipe.as_yaml(), "step": str(saved["global_step"])}
    if not isinstance(recipe, Recipe):
        origin |= {"kind": SEGMENTER, "classes": json.dumps(recipe.data.classes)}
    return save_file(network, target, model=name, settings=settings, half=half, origin=origin)


def estimate(recipe: AnyRecipe, repeats: int = 3) -> RunEstimate:
    """One batch of each phase through everything, timed; nothing is written.

    Raises:
        RecipeError, InputError: what the recipe asks for cannot be had.
    """
    data, module = _parts(recipe)
    device = torch.device("cuda" if torch.cuda.is_available() and recipe.trainer.accelerator != "cpu" else "cpu")
    module.to(device)
    module.move_frozen(device)
    low = _precision(recipe) != "32-true"
    last = low or device.type != "cpu"
    layout = torch.channels_last if last else torch.contiguous_format
    module.network.to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = module.configure_optimizers()["optimizer"]
    total = recipe.schedule.steps
    ends = [*(phase.start for phase in recipe.patches[1:]), 1.0]
    seconds, steps, values = [], [], {}
    for phase, end in zip(recipe.patches, ends, strict=True):
        samples = [data.patches[i, phase.size] for i in range(phase.batch)]
        given, wanted = (laid_out(torch.stack([s[i] for s in samples]).to(device), last) for i in (0, 1))
        # The last step of a phase has all terms of the loss that set in during it.
        step = max(0, math.ceil(end * total) - 1)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                loss, terms = module.loss(given, wanted, step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            values = {name: float(value) for name, value in terms.items()}  # waits for the device
            times.append(time.perf_counter() - start)
        seconds.append(statistics.median(times[1:] or times))
        steps.append(round((end - phase.start) * total))
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else _peak_memory()
    parameters = sum(p.numel() for p in module.network.parameters())
    return RunEstimate(tuple(seconds), tuple(steps), memory, values, parameters)


def fit_to(recipe: AnyRecipe, minutes: float) -> AnyRecipe:
    """The recipe with as many steps as take about so many minutes here, validation not counted."""
    cost = estimate(recipe)
    steps = max(1, int(recipe.schedule.steps * minutes * 60 / cost.total_seconds))
    return recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"steps": steps})})


class _Records(Callback):
    """Calls back for the progress bar; writes the course, its plot, and samples at each validation."""

    def __init__(
        self, out: Path, recipe: AnyRecipe, module: RecipeModule, resumed: Path | None, on_step: OnStep
    ) -> None:
        self.out, self.recipe, self.module, self.on_step = out, recipe, module, on_step
        resume_at = int(_read(resumed)["global_step"]) if resumed is not None and resumed.exists() else 0
        self.course = MetricsLog(out / "metrics.csv", resume_at)
        self.samples: list[tuple[Tensor, ...]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        numbers = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("loss")}
        if not math.isfinite(numbers["loss"]):
            raise RecipeError(
                f"{self.recipe.name}: the loss is {numbers['loss']} at step {step}; "
                "lower optimizer.lr, or set optimizer.clip or schedule.warmup"
            )
        if trainer.is_global_zero:
            self.course.add(step, lr=trainer.optimizers[0].param_groups[0]["lr"], **numbers)
            self.on_step(step, self.recipe.schedule.steps, numbers)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.is_global_zero and len(self.samples) < _SAMPLES:
            with torch.inference_mode():
                self.samples.append(self.module.sample(batch))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        found = {
            k: float(v) for k, v in trainer.callback_metrics.items() if k.endswith(_FIGURES) or k.startswith("iou/")
        }
        step = trainer.global_step
        self.course.add(step, **found)
        self.course.write()
        self.course.plot(self.out / "curves.png")
        rows = [tuple(_picture(p) for p in row) for row in self.samples]
        write_sheet(rows, self.out / "samples" / f"step-{step:07d}.png")
        self.samples = []
        self.on_step(step, self.recipe.schedule.steps, found)


def _parts(recipe: AnyRecipe) -> tuple[TrainingData | SegmenterData, RecipeModule]:
    """Data and module of a recipe."""
    if isinstance(recipe, Recipe):
        return TrainingData(recipe), DerainModule(recipe)
    data = SegmenterData(recipe)
    return data, SegmenterModule(recipe, data.weights)


def _name(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__name__}"


def _picture(planes: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ascontiguousarray(planes[0].float().cpu().numpy().transpose(1, 2, 0))


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An exponential moving average that forgets faster at first."""

    def average(mean: Tensor, value: Tensor, seen: Tensor | int) -> Tensor:
        keep = min(decay, (1 + float(seen)) / (20 + float(seen)))
        return mean + (value - mean) * (1 - keep)

    return average


def _precision(recipe: AnyRecipe) -> Any:
    """Lightning's word for the recipe's precision."""
    wanted, accelerator = recipe.trainer.precision, recipe.trainer.accelerator
    on_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    low = fast_bf16("cuda" if on_gpu else "cpu") if wanted == "auto" else wanted == "bf16"
    return "bf16-mixed" if low else "32-true"


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if "recipe" in saved:
            found: dict[str, Any] = saved
            return found
    except Exception as error:
        reason = str(error).splitlines()[0]
    else:
        reason = "no recipe in it"
    raise InputError(f"{checkpoint}: not a checkpoint of `derain train` ({reason}); give one from RUN/checkpoints")


def _same_recipe(recipe: AnyRecipe, checkpoint: Path) -> None:
    """A run goes on with the recipe it began with, but for where it runs and how long."""
    before = check_recipe(_read(checkpoint)["recipe"], str(checkpoint))
    now, then = (r.model_dump(mode="json", exclude={"trainer", "about", "paper"}) for r in (recipe, before))
    changed = [key for key in now if now[key] != then[key]]
    if changed:
        raise RecipeError(
            f"{checkpoint.parent.parent}: its run has other {', '.join(changed)}; resume it with its own recipe, "
            f"{checkpoint.parent.parent / 'recipe.yaml'}, or start a new one with --out"
        )


def _peak_memory() -> int:
    """Of this process, bytes; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _quiet_lightning() -> None:
    """Lightning's hints concern its own users; ours see derain's lines."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
