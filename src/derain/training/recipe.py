"""Recipes: everything that decides a training, as YAML that pydantic checks.

Shipped recipes lie in ``recipes/``; a recipe with ``base: NAME`` states only what differs. Lengths are
steps (batches), and points in time are shares of the run, so that a recipe keeps its shape when its
length changes.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from derain.data.layouts import Layout
from derain.errors import RecipeError
from derain.losses import LOSSES
from derain.metrics import PROTOCOLS
from derain.models.registry import MODELS, model_info
from derain.rain import PRESETS
from derain.segmentation import SEGMENTERS

if TYPE_CHECKING:
    from typing_extensions import Self

_SHIPPED = Path(__file__).parent / "recipes"
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
    """What is trained: a name of a table and its own settings."""

    name: str
    settings: dict[str, Any] = {}


class Model(Network):
    """A network that derains.

    Attributes:
        name: key of the registry.
        settings: the network's own.
        start: weights to start from, a name or a file.
        segmenter: weights of the frozen segmenter that SGINet looks through: a file, or ``random``.
    """

    name: Annotated[str, _one_of(*MODELS)]
    start: str | None = None
    segmenter: str | None = None


class Clean(_Strict):
    """Clean photographs; see :class:`derain.training.datasets.patches.CleanPool`."""

    folders: tuple[Path, ...]
    share: Annotated[float, Field(gt=0)] = 1.0
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.9


def _as_pool(value: Any) -> Any:
    return {"folders": [value]} if isinstance(value, (str, Path)) else value


class Data(_Strict):
    """Training pictures: clean ones that are rained on live, ready-made pairs, or both evenly by ``pair_share``.

    Attributes:
        clean: folders of photographs.
        rain: presets and their weights; ``none`` adds no rain, ``layers`` adds one of ``layers``.
        rain_scale: the rain's size is drawn log-uniformly from this range.
        streaks: folder of streak pictures as a further source of rain.
        layers: folder of rain layers, added as they are.
        decoys: share of the clean patches that lines which are no rain are drawn into.
        turned: share of the clean patches that are turned by a quarter.
        streaks_only: fog, grain and compression of the preset ``real`` stay; streaks alone are to go.
        pairs: folders of pairs.
        layout: of those folders.
        stride: cut pairs on a grid of this stride instead of at random places.
        pair_share: share of pairs in a batch when both kinds are given.
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
    """From ``start`` (share of the run) on: side and number of the patches, over all devices.

    ``iterations`` unrolls a progressive network so often in this phase; few are quick, and the weights
    are the same.
    """

    start: Share = 0.0
    size: Annotated[int, Field(ge=16)]
    batch: Annotated[int, Field(ge=1)]
    iterations: Annotated[int, Field(ge=1)] | None = None


class Loss(_Strict):
    """A term of the loss: a key of :data:`derain.losses.LOSSES`.

    Attributes:
        weight: its factor.
        stage: what it judges: ``derained``, or a field that the network's ``stages()`` has.
        start: share of the run at which it sets in.
        options: its own settings.
    """

    name: Annotated[str, _one_of(*LOSSES)]
    weight: float = 1.0
    stage: str = "derained"
    start: Share = 0.0
    options: dict[str, Any] = {}


class Optimizer(_Strict):
    """``adam``, ``adamw``, or ``muon`` (for weights of 2 and more dimensions; AdamW for the rest).

    Attributes:
        relative: Muon's step as a share of each kernel's size, which it keeps (then ``lr`` is AdamW's alone).
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
        steps: of the run.
        warmup: steps of linear rise.
        decay: ``milestones`` (factor ``gamma`` at each share), ``cosine`` to ``floor``, or ``constant``.
        hold: share of the run before the cosine begins.
    """

    steps: Annotated[int, Field(ge=1)]
    warmup: Annotated[int, Field(ge=0)] = 0
    decay: Annotated[str, _one_of("milestones", "cosine", "constant")] = "milestones"
    milestones: tuple[Share, ...] = ()
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.2
    floor: Share = 1e-3
    hold: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied with at a step, counted from 0."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        share = min(1.0, step / self.steps)
        if self.decay == "cosine":
            fallen = max(0.0, (share - self.hold) / (1 - self.hold))
            return rise * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * fallen)))
        if self.decay == "constant":
            return rise
        return rise * self.gamma ** sum(share >= point for point in self.milestones)


class Interval(_Strict):
    """Validation every ``every`` steps, which are also the points from which a run resumes."""

    every: Annotated[int, Field(ge=1)] = 1000


class Validation(Interval):
    """What is measured then.

    Attributes:
        pairs: folders of pairs; the first ``count`` of each.
        held_out: when there are no such folders: this many clean photographs, or pairs, are kept out
            of the training for it.
        protocol: of PSNR and SSIM.
        crop: side of the largest square cut from the middle of a picture; ``None`` takes it whole.
    """

    pairs: tuple[Path, ...] = ()
    count: Annotated[int, Field(ge=1)] = 8
    held_out: Annotated[int, Field(ge=1)] = 8
    protocol: Annotated[str, _one_of(*PROTOCOLS)] = "y"
    crop: Annotated[int, Field(ge=32)] | None = None


class Hardware(_Strict):
    """Lightning's own words for where to run."""

    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: Annotated[int, Field(ge=1)] = 1
    strategy: str = "auto"
    precision: Annotated[str, _one_of("auto", "fp32", "bf16")] = "auto"
    workers: Annotated[int, Field(ge=0)] | None = None


class BaseRecipe(_Strict, ABC):
    """What every training states, whatever it trains."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    about: str = ""
    paper: str = ""
    patches: tuple[Phase, ...]
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    validation: Interval = Interval()
    trainer: Hardware = Hardware()
    seed: Annotated[int, Field(ge=0)] = 1

    @field_validator("patches", "losses", check_fields=False)
    @classmethod
    def _some(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("at least one entry is needed")
        return value

    @model_validator(mode="after")
    def _rises(self) -> Self:
        starts = [phase.start for phase in self.patches]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("patches: phases must start at 0 and rise")
        return self

    @property
    @abstractmethod
    def network(self) -> Network:
        """What is trained."""

    def phase(self, step: int) -> Phase:
        """The phase that a step, counted from 0, belongs to."""
        return [p for p in self.patches if p.start <= step / self.schedule.steps][-1]

    def as_yaml(self) -> str:
        """The recipe as a file that gives it again."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
        return text


class Recipe(BaseRecipe):
    """The training of a network that derains; see the classes of its parts."""

    model: Model
    data: Data = Data()
    losses: tuple[Loss, ...]
    features: str | None = None
    validation: Validation = Validation()

    @property
    def network(self) -> Network:
        """What is trained."""
        return self.model

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        least = model_info(self.model.name).size.minimum
        if small := [phase.size for phase in self.patches if phase.size < least]:
            raise ValueError(f"patches: {small[0]} is smaller than {self.model.name} takes; at least {least}")
        multiple = model_info(self.model.name).size.multiple_of
        if odd := [phase.size for phase in self.patches if phase.size % multiple]:
            raise ValueError(f"patches: {odd[0]} is no multiple of {multiple}, which {self.model.name} needs")
        return self


class SegmenterModel(Network):
    """The segmenter.

    Attributes:
        name: a key of :data:`derain.segmentation.SEGMENTERS`.
        settings: its own, without ``classes``.
    """

    name: Annotated[str, _one_of(*SEGMENTERS)] = "compact"


class LabeledData(_Strict):
    """Labeled pictures; see :class:`derain.data.labels.LabeledPatches`.

    Attributes:
        folder: holds the splits ``train`` and ``val``, each with ``images`` and ``labels``.
        classes: names of the classes, in the order of their numbers; other label values are void.
        zoom: shorter side of the scaled picture in sides of the patch, from and to.
        jitter: strength of the changes of light.
        balance: power of a class's share that its weight in the cross entropy falls with; 0 to 1.
    """

    folder: Path | None = None
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=255)]
    zoom: tuple[Annotated[float, Field(ge=1)], Annotated[float, Field(ge=1)]] = (1.0, 1.8)
    jitter: Annotated[float, Field(ge=0)] = 1.0
    balance: Share = 0.5


class SegmenterRecipe(BaseRecipe):
    """The training of a segmenter: weighted cross entropy and, ``lovasz`` times, Lovász-Softmax."""

    segmenter: SegmenterModel
    data: LabeledData
    lovasz: Annotated[float, Field(ge=0)] = 0.5

    @property
    def network(self) -> Network:
        """What is trained."""
        return self.segmenter

    @model_validator(mode="after")
    def _plain(self) -> SegmenterRecipe:
        if any(phase.iterations for phase in self.patches):
            raise ValueError("patches: a segmenter has no iterations to set")
        return self


AnyRecipe = Recipe | SegmenterRecipe


def shipped() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> AnyRecipe:
    """A recipe by name or path, with changes.

    Args:
        name_or_path: a name of :func:`shipped`, or a YAML file.
        overrides: such as ``optimizer.lr=5e-4``, ``losses.1.weight=0``, ``data.clean=[photos]``; values
            are YAML.

    Raises:
        RecipeError: no such recipe, not YAML, or a field that is unknown or impossible; the message
            names the field and what it may be.
    """
    content = _read(str(name_or_path))
    for override in overrides:
        _override(content, override)
    return check_recipe(content, str(name_or_path))


def _read(text: str) -> dict[str, Any]:
    """A recipe file as plain data, with what it takes from its ``base``."""
    is_path = text.endswith((".yaml", ".yml")) or "/" in text
    path = Path(text) if is_path else _SHIPPED / f"{text}.yaml"
    if not path.is_file():
        known = ", ".join(shipped())
        what = "no such recipe file; check the name" if is_path else f"unknown recipe; choose one of {known}, or a file"
        raise RecipeError(f"{text}: {what}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML ({str(error).splitlines()[0]}); mend the file") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: not a recipe; it must be fields with values")
    content.setdefault("name", path.stem)
    base = content.pop("base", None)
    if base == text:
        raise RecipeError(f"{path}: base: is the recipe itself; name another")
    return content if base is None else _merged(_read(str(base)), content)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Fields of ``changes`` over those of ``base``; lists are replaced whole."""
    both = dict(base)
    for key, value in changes.items():
        inner = both.get(key)
        both[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both


def check_recipe(content: dict[str, Any], where: str) -> AnyRecipe:
    """A recipe from plain data, of a segmenter if it names one; raises as :func:`load_recipe`, with ``where``."""
    kind: type[AnyRecipe] = SegmenterRecipe if "segmenter" in content else Recipe
    try:
        return kind.model_validate(_mend_numbers(content))
    except ValidationError as error:
        raise RecipeError(f"{where}: {_explain(error)}") from None


def _override(content: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"{text}: an override is field=value, such as optimizer.lr=5e-4")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"{text}: its value is not YAML; quote it") from None
    *way, last = key.split(".")
    place: Any = content
    for word in way:
        if isinstance(place, list) and word.isdigit() and int(word) < len(place):
            place = place[int(word)]
        elif isinstance(place, dict):
            place = place.setdefault(word, {})
        else:
            raise RecipeError(f"{text}: there is no {key}")
    if isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = parsed
    elif isinstance(place, dict):
        place[last] = parsed
    else:
        raise RecipeError(f"{text}: there is no {key}")


def _mend_numbers(value: Any) -> Any:
    """YAML 1.1 reads ``1e-3`` as text; people mean a number."""
    if isinstance(value, dict):
        return {key: _mend_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mend_numbers(inner) for inner in value]
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _explain(error: ValidationError) -> str:
    """One line for the first fault, and how many more there are."""
    faults = error.errors()
    first = faults[0]
    place = ".".join(str(part) for part in first["loc"] if part != "function-before")
    if first["type"] == "extra_forbidden":
        message = "unknown field; see `derain train NAME --show` for those there are"
    elif first["type"] == "missing":
        message = "is missing"
    else:
        message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{place}: {message}{more}" if place else f"{message}{more}"
