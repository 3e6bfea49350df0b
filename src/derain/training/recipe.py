"""Recipes: all settings of a training run, as pydantic models.

Lengths are steps (batches), and points in time are shares of the run, so that a recipe keeps its shape when
its length changes. Recipes are read from YAML by :mod:`derain.training.recipe_files`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from derain.data.layouts import Layout
from derain.losses import LOSSES
from derain.metrics import PROTOCOLS
from derain.models.registry import MODELS, model_info
from derain.rain import PRESETS
from derain.segmentation import SEGMENTERS

if TYPE_CHECKING:
    from typing_extensions import Self

Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _one_of(*known: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value not in known:
            raise ValueError(f"unknown {value!r}; choose one of {', '.join(known)}")
        return value

    return BeforeValidator(check)


class Network(_Strict):
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

    name: Annotated[str, _one_of(*MODELS)]
    start: str | None = None
    segmenter: str | None = None


class Clean(_Strict):
    """Clean images; see :class:`derain.training.datasets.sources.CleanPool`."""

    folders: tuple[Path, ...]
    share: Annotated[float, Field(gt=0)] = 1.0
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.9


def _as_pool(value: Any) -> Any:
    return {"folders": [value]} if isinstance(value, (str, Path)) else value


class Data(_Strict):
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
        layout: layout of those folders.
        stride: cut pairs on a grid of this stride; by default, at random places.
        pair_share: share of pairs in a batch if there are both clean images and pairs.
    """

    clean: tuple[Annotated[Clean, BeforeValidator(_as_pool)], ...] = ()
    rain: dict[Annotated[str, _one_of(*PRESETS, "layers", "none")], Annotated[float, Field(ge=0)]] = {
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
    layout: Layout = "auto"
    stride: Annotated[int, Field(ge=1)] | None = None
    pair_share: Share = 0.5


class Phase(_Strict):
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


class Loss(_Strict):
    """A term of the loss: a key of :data:`derain.losses.LOSSES`.

    Attributes:
        weight: factor of the term.
        stage: the output it applies to: ``derained``, or one of the network's ``stage_names``.
        start: share of the run at which it sets in.
        options: arguments of the loss.
    """

    name: Annotated[str, _one_of(*LOSSES)]
    weight: float = 1.0
    stage: str = "derained"
    start: Share = 0.0
    options: dict[str, Any] = {}


class Optimizer(_Strict):
    """``adam``, ``adamw``, or ``muon`` (for parameters of 2 and more dimensions; AdamW for the rest).

    Attributes:
        relative: Muon's step as a share of each kernel's norm, which stays constant; ``lr`` is then only AdamW's.
        clip: largest norm of the gradient.
    """

    name: Annotated[str, _one_of("adam", "adamw", "muon")] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    relative: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip: Annotated[float, Field(gt=0)] | None = None


class Schedule(_Strict):
    """Length and learning rate.

    Attributes:
        steps: length of the run.
        warmup: steps of linear warm-up.
        decay: ``milestones`` (factor ``gamma`` at each), ``cosine`` to ``min_lr_ratio``, or ``constant``.
        milestones: shares of the run.
        gamma: factor of the learning rate at each milestone.
        min_lr_ratio: last learning rate of the cosine, relative to ``optimizer.lr``.
        constant_fraction: share of the run before the cosine begins.
    """

    steps: Annotated[int, Field(ge=1)]
    warmup: Annotated[int, Field(ge=0)] = 0
    decay: Annotated[str, _one_of("milestones", "cosine", "constant")] = "milestones"
    milestones: tuple[Share, ...] = ()
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.2
    min_lr_ratio: Share = 1e-3
    constant_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def factor(self, step: int) -> float:
        """Factor of the learning rate at a step, counted from 0."""
        warmup = min(1.0, (step + 1) / (self.warmup + 1))
        share = min(1.0, step / self.steps)
        if self.decay == "cosine":
            progress = max(0.0, (share - self.constant_fraction) / (1 - self.constant_fraction))
            cosine = 0.5 * (1 + math.cos(math.pi * progress))
            return warmup * (self.min_lr_ratio + (1 - self.min_lr_ratio) * cosine)
        if self.decay == "constant":
            return warmup
        return warmup * self.gamma ** sum(share >= point for point in self.milestones)


class Interval(_Strict):
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
    protocol: Annotated[str, _one_of(*PROTOCOLS)] = "y"
    crop: Annotated[int, Field(ge=32)] | None = None


class Hardware(_Strict):
    """Where to run, in Lightning's terms."""

    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: Annotated[int, Field(ge=1)] = 1
    strategy: str = "auto"
    precision: Annotated[str, _one_of("auto", "fp32", "bf16")] = "auto"
    workers: Annotated[int, Field(ge=0)] | None = None


class BaseRecipe(_Strict, ABC):
    """The fields that all recipes have."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    about: str = ""
    paper: str = ""
    phases: tuple[Phase, ...]
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    validation: Interval = Interval()
    trainer: Hardware = Hardware()
    seed: Annotated[int, Field(ge=0)] = 1

    @field_validator("phases", "losses", check_fields=False)
    @classmethod
    def _not_empty(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("at least one entry is needed")
        return value

    @model_validator(mode="after")
    def _phases_in_order(self) -> Self:
        starts = [phase.start for phase in self.phases]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("phases: must start at 0 and be in order")
        return self

    @property
    @abstractmethod
    def network(self) -> Network:
        """The network to train."""

    def phase(self, step: int) -> Phase:
        """The phase that a step, counted from 0, belongs to."""
        return [p for p in self.phases if p.start <= step / self.schedule.steps][-1]

    def as_yaml(self) -> str:
        """The recipe as YAML that loads as an equal recipe."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
        return text


class Recipe(BaseRecipe):
    """The training of a deraining network; see the classes of its parts."""

    model: Model
    data: Data = Data()
    losses: tuple[Loss, ...]
    features: str | None = None
    validation: Validation = Validation()

    @property
    def network(self) -> Network:
        """The network to train."""
        return self.model

    @model_validator(mode="after")
    def _patches_fit_network(self) -> Recipe:
        minimum = model_info(self.model.name).size.minimum
        if small := [phase.size for phase in self.phases if phase.size < minimum]:
            raise ValueError(f"phases: size {small[0]} is too small for {self.model.name}; at least {minimum}")
        multiple = model_info(self.model.name).size.multiple_of
        if unfit := [phase.size for phase in self.phases if phase.size % multiple]:
            raise ValueError(f"phases: size {unfit[0]} is not a multiple of {multiple}, which {self.model.name} needs")
        return self


class SegmenterModel(Network):
    """A segmenter.

    Attributes:
        name: a key of :data:`derain.segmentation.SEGMENTERS`.
        settings: constructor arguments without ``classes``.
    """

    name: Annotated[str, _one_of(*SEGMENTERS)] = "compact"


class LabeledData(_Strict):
    """Labeled images; see :class:`derain.training.datasets.labeled.LabeledPatches`.

    Attributes:
        folder: folder of the splits ``train`` and ``val``, each with ``images`` and ``labels``.
        classes: names of the classes, in the order of their numbers; other label values are void.
        zoom: range of the shorter side of the scaled image, in sides of the patch.
        jitter: strength of the color changes.
        balance: the weight of a class in the cross entropy is its share to the power of minus this; 0 to 1.
    """

    folder: Path | None = None
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=255)]
    zoom: tuple[Annotated[float, Field(ge=1)], Annotated[float, Field(ge=1)]] = (1.0, 1.8)
    jitter: Annotated[float, Field(ge=0)] = 1.0
    balance: Share = 0.5


class SegmenterRecipe(BaseRecipe):
    """The training of a segmenter: weighted cross entropy plus ``lovasz`` times Lovász-Softmax."""

    segmenter: SegmenterModel
    data: LabeledData
    lovasz: Annotated[float, Field(ge=0)] = 0.5

    @property
    def network(self) -> Network:
        """The network to train."""
        return self.segmenter

    @model_validator(mode="after")
    def _no_iterations(self) -> SegmenterRecipe:
        if any(phase.iterations for phase in self.phases):
            raise ValueError("phases: a segmenter has no iterations to set")
        return self


AnyRecipe = Recipe | SegmenterRecipe
