"""Recipes: all settings of a training run, as pydantic models.

Lengths are steps (batches) or epochs, and points in time are shares of the run, so that a recipe keeps its shape when
its length changes. Recipes are read from YAML by :mod:`derain.training.recipe_files`; their parts are in
:mod:`derain.training.recipe_parts`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import Field, field_validator, model_validator

from derain.models.registry import model_info
from derain.segmentation import SEGMENTERS

from .recipe_parts import (
    Checkpoints,
    Data,
    Hardware,
    Interval,
    Loss,
    Model,
    Network,
    Optimizer,
    Phase,
    Schedule,
    Share,
    Strict,
    Validation,
    one_of,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class BaseRecipe(Strict, ABC):
    """The fields that all recipes have."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    about: str = ""
    paper: str = ""
    phases: tuple[Phase, ...]
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    validation: Interval = Interval()
    checkpoint: Checkpoints = Checkpoints()
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
        return [p for p in self.phases if p.start <= step / self.schedule.length][-1]

    def with_data(self, patches: Callable[[int], float]) -> Self:
        """The recipe with steps in place of epochs.

        Args:
            patches: of an epoch, by the size of a patch.
        """
        if self.schedule.epochs is None and self.checkpoint.epochs is None:
            return self
        ends = [*(phase.start for phase in self.phases[1:]), 1.0]
        shares = [(p.batch / patches(p.size)) * (end - p.start) for p, end in zip(self.phases, ends, strict=True)]
        steps_per_epoch = 1 / sum(shares)
        schedule, checkpoint = self.schedule, self.checkpoint
        if schedule.epochs is not None:
            # Rounded up, as a loader's last batch is; the tolerance is for the division above.
            steps = max(1, math.ceil(schedule.epochs * steps_per_epoch - 1e-6))
            schedule = schedule.model_copy(update={"steps": steps, "epochs": None})
        if checkpoint.epochs is not None:
            every = max(1, round(checkpoint.epochs * steps_per_epoch))
            checkpoint = checkpoint.model_copy(update={"every": every, "epochs": None})
        return self.model_copy(update={"schedule": schedule, "checkpoint": checkpoint})

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

    name: Annotated[str, one_of(*SEGMENTERS)] = "compact"


class LabeledData(Strict):
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
