"""The parts of recipes: model, data, phases, losses, optimizer, schedule, validation, checkpoints, hardware."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from derain.losses import LOSSES
from derain.metrics import PROTOCOLS
from derain.models.registry import MODELS
from derain.rain import PRESETS

Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Fields that never change; unknown ones are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def one_of(*known: str) -> BeforeValidator:
    """A validator that accepts only these values, and lists them in its error."""

    def check(value: Any) -> Any:
        if value not in known:
            raise ValueError(f"unknown {value!r}; choose one of {', '.join(known)}")
        return value

    return BeforeValidator(check)


class Network(Strict):
    """A network by its name in a registry, with its settings."""

    name: str
    settings: dict[str, Any] = {}


class Model(Network):
    """A network that derains.

    Attributes:
        name: key of the model registry.
        settings: constructor arguments of the network.
        start: pretrained model to start from, a name or a file.
        segmenter: checkpoint of the frozen segmenter inside SGINet: a file, or ``random``.
    """

    name: Annotated[str, one_of(*MODELS)]
    start: str | None = None
    segmenter: str | None = None


class Clean(Strict):
    """Clean images; see :class:`derain.training.datasets.sources.CleanPool`."""

    folders: tuple[Path, ...]
    share: Annotated[float, Field(gt=0)] = 1.0
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.9


def _as_pool(value: Any) -> Any:
    return {"folders": [value]} if isinstance(value, (str, Path)) else value


class Data(Strict):
    """Training images: clean ones with live rain, ready-made pairs, or both, mixed by ``pair_share``.

    Attributes:
        clean: folders of photographs.
        rain: presets and their weights; ``none`` adds no rain, ``layers`` adds one of ``layers``.
        rain_scale: the rain's size is drawn log-uniformly from this range.
        streaks: folder of streak images as a further source of rain.
        layers: folder of rain layers, added as they are.
        distractors: share of the clean patches that lines other than rain are drawn into.
        rotate90: share of the clean patches that are rotated by 90 degrees.
        streaks_only: fog, grain and compression of the preset ``real`` stay in the target; only streaks
            are to be removed.
        pairs: folders of pairs.
        layout: where names pair nothing: the clean half of images that hold both.
        range: the first and the last pair of each folder that are used, counted from 1; by default, all.
        stride: cut pairs on a grid of this stride; by default, at random places.
        mirrored_copies: also cut the grid from each pair's mirror image, as SAPNet does with RainTrainL.
        augment: mirror patches at random (except those of a grid), and scale those of clean images.
        pair_share: share of pairs in a batch if there are both clean images and pairs.
    """

    clean: tuple[Annotated[Clean, BeforeValidator(_as_pool)], ...] = ()
    rain: dict[Annotated[str, one_of(*PRESETS, "layers", "none")], Annotated[float, Field(ge=0)]] = {
        "mixed": 0.96,
        "none": 0.04,
    }
    rain_scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.8, 1.6)
    streaks: Path | None = None
    layers: Path | None = None
    distractors: Share = 0.0
    rotate90: Share = 0.0
    streaks_only: bool = False
    pairs: tuple[Path, ...] = ()
    layout: Literal["auto", "clean-left", "clean-right", "rainy-left"] = "auto"
    range: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    stride: Annotated[int, Field(ge=1)] | None = None
    mirrored_copies: bool = False
    augment: bool = True
    pair_share: Share = 0.5

    @model_validator(mode="after")
    def _consistent(self) -> Data:
        if self.range is not None and self.range[0] > self.range[1]:
            raise ValueError(f"range: {self.range[0]} to {self.range[1]} is empty; give the smaller number first")
        if self.mirrored_copies and self.stride is None:
            raise ValueError("mirrored_copies: needs stride; without a grid, patches are mirrored at random anyway")
        return self


class Phase(Strict):
    """The patches of a part of the run.

    Attributes:
        start: share of the run at which the phase begins.
        size: side of the patches.
        batch: patches per step, over all devices.
        iterations: how often a progressive network is unrolled in this phase. Few iterations train faster,
            and all share the same weights.
    """

    start: Share = 0.0
    size: Annotated[int, Field(ge=16)]
    batch: Annotated[int, Field(ge=1)]
    iterations: Annotated[int, Field(ge=1)] | None = None


class Loss(Strict):
    """A term of the loss: a key of :data:`derain.losses.LOSSES`.

    Attributes:
        weight: factor of the term.
        stage: the output it applies to: ``derained``, or one of the network's ``stage_names``.
        start: share of the run at which it sets in.
        options: arguments of the loss.
    """

    name: Annotated[str, one_of(*LOSSES)]
    weight: float = 1.0
    stage: str = "derained"
    start: Share = 0.0
    options: dict[str, Any] = {}


class Optimizer(Strict):
    """``adam``, ``adamw``, or ``muon`` (for parameters of 2 and more dimensions; AdamW for the rest).

    Attributes:
        relative: Muon's step as a share of each kernel's norm, which stays constant; ``lr`` is then only AdamW's.
        clip: largest norm of the gradient.
        skip_threshold: a batch is skipped if its loss exceeds this many times the mean loss of the interval
            between the last two validations.
    """

    name: Annotated[str, one_of("adam", "adamw", "muon")] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    relative: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip: Annotated[float, Field(gt=0)] | None = None
    skip_threshold: Annotated[float, Field(gt=0)] | None = None


class Schedule(Strict):
    """Length and learning rate.

    Attributes:
        steps: length of the run.
        epochs: length of the run in passes over the data, instead of ``steps``. An epoch takes each pair once (with
            ``data.stride``: each patch of the grid), or without pairs each clean image.
        warmup: steps of linear warm-up.
        decay: ``milestones`` (factor ``gamma`` at each), ``cosine`` to ``min_lr_ratio``, or ``constant``.
        milestones: shares of the run.
        gamma: factor of the learning rate at each milestone.
        min_lr_ratio: last learning rate of the cosine, relative to ``optimizer.lr``.
        constant_fraction: share of the run before the cosine begins.
    """

    steps: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    warmup: Annotated[int, Field(ge=0)] = 0
    decay: Annotated[str, one_of("milestones", "cosine", "constant")] = "milestones"
    milestones: tuple[Share, ...] = ()
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.2
    min_lr_ratio: Share = 1e-3
    constant_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _one_length(self) -> Schedule:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give one of steps and epochs")
        return self

    @property
    def length(self) -> int:
        """The steps of the run.

        Raises:
            ValueError: they follow from ``epochs`` and data that have not been read; see
                :meth:`BaseRecipe.with_data`.
        """
        if self.steps is None:
            raise ValueError("the length in steps follows from the data")
        return self.steps

    def factor(self, step: int) -> float:
        """Factor of the learning rate at a step, counted from 0."""
        warmup = min(1.0, (step + 1) / (self.warmup + 1))
        share = min(1.0, step / self.length)
        if self.decay == "cosine":
            progress = max(0.0, (share - self.constant_fraction) / (1 - self.constant_fraction))
            cosine = 0.5 * (1 + math.cos(math.pi * progress))
            return warmup * (self.min_lr_ratio + (1 - self.min_lr_ratio) * cosine)
        if self.decay == "constant":
            return warmup
        return warmup * self.gamma ** sum(share >= point for point in self.milestones)


class Interval(Strict):
    """Validation every ``every`` steps. A run resumes from the last of these points."""

    every: Annotated[int, Field(ge=1)] = 1000


class Validation(Interval):
    """The images that are validated on.

    Attributes:
        pairs: folders of pairs.
        count: the first so many pairs of each folder.
        held_out: if there are no such folders, this many clean images, or pairs, are kept out of the
            training for validation.
        protocol: protocol of PSNR and SSIM.
        crop: side of the largest square cut from the center of an image; by default, the whole image.
    """

    pairs: tuple[Path, ...] = ()
    count: Annotated[int, Field(ge=1)] = 8
    held_out: Annotated[int, Field(ge=1)] = 8
    protocol: Annotated[str, one_of(*PROTOCOLS)] = "y"
    crop: Annotated[int, Field(ge=32)] | None = None


class Checkpoints(Strict):
    """Checkpoints to keep, ``checkpoints/step-N.ckpt``, beside the last and the best one.

    Attributes:
        every: one each so many steps.
        epochs: instead, one each so many epochs; see :class:`Schedule`.
    """

    every: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_interval(self) -> Checkpoints:
        if self.every is not None and self.epochs is not None:
            raise ValueError("give one of every and epochs")
        return self


class Hardware(Strict):
    """Where to run, in Lightning's terms."""

    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: Annotated[int, Field(ge=1)] = 1
    strategy: str = "auto"
    precision: Annotated[str, one_of("auto", "fp32", "bf16")] = "auto"
    workers: Annotated[int, Field(ge=0)] | None = None
