"""SDRL: a network learns to derain one picture, or a set, from its stochastic references alone.

Rain2Avoid (Peng et al., ICASSP 2023, section 2.3; IEEE TMM 2025). Each reference gives a pixel with rain
another color of its clean surroundings; what a network can learn from all of them is what they agree on.

Schedule ``authors`` is their training: full pictures, one reference a step in the order of their
file names, Adam at 1e-3, mean squared error, 100 rounds of 50 references (``single``), 100 steps
(``online``) or 2,000 rounds of 64-pixel crops in batches of 64 (``multiple``).

Schedule ``fast`` reaches more in a small part of the time. The gradient of a squared error toward random
targets is, in expectation, that toward their mean, so the exact expected reference replaces the draws.
Crops replace pictures, an average over the steps replaces a falling step size, and half of each
batch is the reference with fresh streaks drawn in the picture's own direction, whose truth is known.
Learning stops once the averaged network's picture stands still. Where the map says rain, the result takes
a share of the reference, whose errors are others; and a streak adds light, so it is nowhere brighter than
the input.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from derain import tiling
from derain.errors import InputError
from derain.models import create_model, model_info
from derain.rain import StreakParams, render_streaks
from derain.runtime.torch import pick_device, pick_precision

from .ldgp import Map, Mode, ldgp, rain_angles
from .nss import Sampler

if TYPE_CHECKING:
    from derain.models.registry import SizeRule

FloatArray = npt.NDArray[np.float32]
Method = Literal["single", "online"]
Schedule = Literal["fast", "authors"]
OnStep = Callable[[int, int], None]

#: Backbone -> network and settings. ``small`` is derain's gated U-Net with 229,436 parameters.
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "small": ("gated-unet", {"channels": (16, 32, 64), "blocks": (1, 1, 2)}),
    **{name: (name, {}) for name in ("unet", "resnet", "dncnn", "restormer", "drsformer")},
}

_CROP = 64
_TILE, _OVERLAP = 512, 64
# The fast schedule; chosen on Rain100L's slice.
_STEPS = 300
_BATCH = 8
_CHECK = 50  # steps between looks at the averaged picture
_STILL = 0.8 / 255  # mean change in the rain between two looks under which learning stops
_REFERENCE_SHARE = 0.4
_PATCH = 40
_UNEVEN = 0.5  # share of what is taken that a fifth of the patches may hold
_LAYERS = 8  # pictures of fresh streaks to crop from
_MULTIPLE_STEPS = 2000


@dataclass(frozen=True)
class Settings:
    """How to learn.

    Attributes:
        schedule: ``fast`` or ``authors``.
        backbone: a key of :data:`BACKBONES`; ``None`` is ``small``, or ``unet`` in the authors' schedule.
        map_mode: the rain map, see :func:`derain.rain2avoid.ldgp`; ``None`` is ``streaks``, or
            ``authors`` in the authors' schedule.
        directions: how many directions of rain the map looks for.
        references: how many are drawn where they are drawn (the authors' N).
        steps: optimizer steps at most; ``None`` is the schedule's own number.
        seed: of every draw and of the network's first weights.
        device, precision: as for :class:`derain.Derainer`.
    """

    schedule: Schedule = "fast"
    backbone: str | None = None
    map_mode: Mode | None = None
    directions: int = 1
    references: int = 50
    steps: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.schedule not in ("fast", "authors"):
            raise InputError(f"unknown schedule {self.schedule!r}; choose fast or authors")
        if self.backbone is not None and self.backbone not in BACKBONES:
            raise InputError(f"unknown backbone {self.backbone!r}; choose one of {', '.join(BACKBONES)}")
        if self.references < 1 or (self.steps is not None and self.steps < 1):
            raise InputError("references and steps must be at least 1")

    @property
    def network(self) -> tuple[str, dict[str, Any]]:
        """The backbone's network and its settings."""
        return BACKBONES[self.backbone or ("small" if self.schedule == "fast" else "unet")]

    def rain_map(self, image: npt.NDArray[Any]) -> Map:
        """The rain map that these settings ask for."""
        mode = self.map_mode or ("streaks" if self.schedule == "fast" else "authors")
        return ldgp(image, mode=mode, directions=self.directions)


@dataclass(frozen=True)
class Adapted:
    """What was learned from one picture.

    Attributes:
        pixels: ``(H, W, 3)`` float32 in [0, 1], derained.
        rain_map: ``(H, W)`` uint8, from LDGP.
        reference: ``(H, W, 3)`` float32 in [0, 1], the fused reference.
        steps: optimizer steps that were taken.
        seconds: what all of it took.
        refused: why the picture was left as it was; empty if it was not.
    """

    pixels: FloatArray
    rain_map: Map
    reference: FloatArray
    steps: int
    seconds: float
    refused: str = ""


def adapt(
    image: npt.NDArray[Any],
    *,
    method: Method = "single",
    settings: Settings | None = None,
    rain_map: Map | None = None,
    references: Sequence[npt.NDArray[Any]] | None = None,
    on_step: OnStep | None = None,
) -> Adapted:
    """Derain a picture by a network that learns from this picture alone.

    Args:
        image: ``(H, W, 3)`` RGB, uint8 or float in [0, 1]; any size.
        method: ``single`` learns from references made once; ``online`` draws new ones while it learns.
        settings: how; :class:`Settings` at its defaults if ``None``.
        rain_map: instead of LDGP's own.
        references: instead of NSS's own, in the order in which they are to be learned; the fast schedule
            learns from their mean.
        on_step: called with (steps done, steps at most) after each step.

    Returns:
        The derained picture and what led to it. Equal seeds give equal results on one machine with one
        number of threads.

    Raises:
        InputError: another shape or unknown method, or references that do not fit.
        DeviceError: the device or precision is not available.
    """
    if method not in ("single", "online"):
        raise InputError(f"unknown method {method!r}; choose single or online")
    settings = settings or Settings()
    start = time.perf_counter()
    own = rain_map is None and references is None  # a map that is given is believed
    rain_map = settings.rain_map(image) if rain_map is None else rain_map
    lesson = Targets(image, rain_map, settings, online=method == "online", references=references)
    reference = lesson.fused()
    learner = Learner(settings)
    refused = ""
    if not lesson.rains:  # nothing to learn, and the network's copy would only blur
        refused = "no rain seen"
    elif settings.schedule == "fast" and own and is_localized(lesson.planes, reference):
        refused = "what looks like rain stands in few places, so it is the scene's"
    if refused:
        if on_step is not None:
            on_step(1, 1)
        return Adapted(_last(lesson.planes), rain_map, reference, 0, time.perf_counter() - start, refused)
    fit = learner.fit_fast if settings.schedule == "fast" else learner.fit_pictures
    steps = fit([lesson], on_step)
    pixels = _last(learner.derain(lesson.planes))
    if settings.schedule == "fast":
        # Reference and network err differently: together they are nearer to the truth in the rain.
        pixels[rain_map > 0] += _REFERENCE_SHARE * (reference - pixels)[rain_map > 0]
        np.minimum(pixels, _last(lesson.planes), out=pixels)  # a streak adds light: nothing gets brighter
    return Adapted(pixels, rain_map, reference, steps, time.perf_counter() - start)


def is_localized(planes: FloatArray, reference: FloatArray) -> bool:
    """Whether what a reference takes away lies in few places; rain falls everywhere, fences and grass do not.

    Args:
        planes: the rainy picture, ``(3, H, W)``.
        reference: ``(H, W, 3)``.
    """
    taken = np.abs(planes - reference.transpose(2, 0, 1)).mean(axis=0)
    height, width = (max(1, side // _PATCH) for side in taken.shape)
    patches = np.sort(cv2.resize(taken, (width, height), interpolation=cv2.INTER_AREA), axis=None)[::-1]
    few = len(patches) // 5
    # Of ten patches and less, two may hold half by chance.
    return len(patches) > 10 and float(patches[:few].sum()) > _UNEVEN * float(patches.sum())


def train_set(
    pictures: Sequence[tuple[npt.NDArray[Any], Map | None, Sequence[npt.NDArray[Any]] | None]],
    settings: Settings | None = None,
    on_step: OnStep | None = None,
) -> nn.Module:
    """One network for a set of rainy pictures (``multiple``).

    Args:
        pictures: (picture, rain map, references) of each; what is ``None`` is made.
        settings: how; :class:`Settings` at its defaults if ``None``.
        on_step: called with (steps done, steps in all) after each step.

    Returns:
        The network in ``eval`` mode on the CPU; ``settings.network`` says what it is.

    Raises:
        InputError: no pictures, or some that do not fit.
    """
    settings = settings or Settings()
    if not pictures:
        raise InputError("no pictures to learn from; give at least one")
    lessons = [
        Targets(image, settings.rain_map(image) if found is None else found, settings, online=False, references=drawn)
        for image, found, drawn in pictures
    ]
    learner = Learner(settings)
    if settings.schedule == "fast":
        learner.fit_fast(lessons, on_step, settings.steps or _MULTIPLE_STEPS)
    else:
        learner.fit_crops(lessons, on_step)
    return learner.network.cpu().eval()


class Targets:
    """A picture, where it rains, and what to learn there."""

    def __init__(
        self,
        image: npt.NDArray[Any],
        rain_map: Map,
        settings: Settings,
        *,
        online: bool,
        references: Sequence[npt.NDArray[Any]] | None,
    ) -> None:
        self.settings = settings
        self.online = online
        self.sampler = Sampler(image, rain_map)
        self.planes = _planes(image)
        self.rain_map = rain_map
        self.given = [_planes(r) for r in references] if references is not None else None
        if self.given is not None and (not self.given or any(g.shape != self.planes.shape for g in self.given)):
            raise InputError("references of other sizes than the picture, or none; make them anew")
        self.rains = len(self.sampler.rain) > 0 or self.given is not None
        self._expected: FloatArray | None = None
        self._drawn: list[FloatArray] | None = None

    def fused(self) -> FloatArray:
        """``(H, W, 3)``: the mean of the references; their expectation in the fast schedule."""
        settings = self.settings
        if self.given is None and settings.schedule == "authors":
            return self.sampler.fused(settings.references, seed=settings.seed)
        return np.ascontiguousarray(self.expected().transpose(1, 2, 0))

    def expected(self) -> FloatArray:
        """``(3, H, W)``."""
        if self._expected is None:
            if self.given is not None:
                self._expected = np.mean(self.given, axis=0, dtype=np.float32)
            else:
                self._expected = _planes(self.sampler.expected())
        return self._expected

    def target(self, step: int) -> FloatArray:
        """What the fast schedule learns at a step, ``(3, H, W)``."""
        if not self.online or self.given is not None:
            return self.expected()
        seed = self.settings.seed * 1_000_003 + step
        return _planes(next(self.sampler.references(1, seed=seed, independent=True)))

    def drawn(self) -> list[FloatArray]:
        """The authors' references, in the order in which they learn them: that of their file names."""
        if self._drawn is None:
            count = self.settings.references
            made = self.given or [_planes(r) for r in self.sampler.references(count, seed=self.settings.seed)]
            self._drawn = [made[i] for i in sorted(range(len(made)), key=str)] if self.given is None else made
        return self._drawn

    def streaks(self, rng: np.random.Generator) -> FloatArray:
        """``(n, H, W)``: fresh streaks in the picture's direction, as they would be added."""
        height, width = self.rain_map.shape
        angle = float(np.clip(rain_angles(_last(self.planes))[0], -70, 70))
        layers = []
        for _ in range(_LAYERS):
            family = StreakParams(
                density=float(np.exp(rng.uniform(np.log(6), np.log(40)))),
                length=(8, 45),
                width=(0.9, 2.4),
                angle=float(np.clip(rng.normal(-angle, 2), -75, 75)),  # the engine counts to the other side
                angle_jitter=3,
                brightness=(0.03, float(rng.uniform(0.25, 0.7))),
                flicker=0.4,
                clumping=float(rng.uniform(0, 0.8)),
                blur=float(rng.uniform(0, 0.7)),
                depth_layers=2,
            )
            layers.append(render_streaks((height, width), family, rng))
        return np.minimum(np.stack(layers), 1)


class Learner:
    """A backbone, its optimizer and the three ways of teaching it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        self.low = pick_precision(settings.precision, self.device) == "bf16"
        name, options = settings.network
        self.rule: SizeRule = model_info(name).size
        with torch.random.fork_rng(devices=[]):  # first weights depend on the seed, and leave no trace
            torch.manual_seed(settings.seed)
            self.network = create_model(name, **options).to(self.device)
        self.rate = 2e-3 if name == "gated-unet" and settings.schedule == "fast" else 1e-3
        self.rng = np.random.default_rng(settings.seed)

    # --- the authors' schedules --------------------------------------------------------------

    def fit_pictures(self, lessons: list[Targets], on_step: OnStep | None) -> int:
        """Whole pictures, one reference a step."""
        (lesson,) = lessons
        targets = [] if lesson.online else lesson.drawn()
        steps = self.settings.steps or (100 if lesson.online else 100 * len(targets))
        # Online: their power of 1, and the references one after another, drawn as they are needed.
        fresh = _endless(lesson, self.settings) if lesson.online else None
        rainy = self._padded(lesson.planes)
        optimizer = torch.optim.Adam(self.network.parameters(), self.rate)
        self.network.train()
        for step in range(steps):
            target = next(fresh) if fresh is not None else targets[step % len(targets)]
            self._step(optimizer, rainy, self._padded(target))
            if on_step is not None:
                on_step(step + 1, steps)
        return steps

    def fit_crops(self, lessons: list[Targets], on_step: OnStep | None) -> int:
        """Batches of 64 crops, each with one of its picture's references, in the pictures' order."""
        batches = [lessons[i : i + 64] for i in range(0, len(lessons), 64)]
        steps = self.settings.steps or 2000 * len(batches)
        optimizer = torch.optim.Adam(self.network.parameters(), self.rate)
        self.network.train()
        for step in range(steps):
            rainy, target = [], []
            for lesson in batches[step % len(batches)]:
                drawn = lesson.drawn()
                pair = self._crop(lesson, lesson.planes, drawn[self.rng.integers(len(drawn))])
                rainy.append(pair[0])
                target.append(pair[1])
            self._step(optimizer, self._tensor(np.stack(rainy)), self._tensor(np.stack(target)))
            if on_step is not None:
                on_step(step + 1, steps)
        return steps

    # --- the fast schedule -------------------------------------------------------------------

    def fit_fast(self, lessons: list[Targets], on_step: OnStep | None, steps: int | None = None) -> int:
        """Crops toward the expected reference and crops of it under fresh streaks; stops when still."""
        steps = steps or self.settings.steps or _STEPS
        streaks = [lesson.streaks(self.rng) for lesson in lessons]
        optimizer = torch.optim.Adam(self.network.parameters(), self.rate, betas=(0.9, 0.99))
        average = {key: value.detach().clone() for key, value in self.network.state_dict().items()}
        before: FloatArray | None = None
        self.network.train()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = self.rate * min(1, (step + 1) / 20)
            rainy, target = [], []
            for number in range(_BATCH):
                chosen = int(self.rng.integers(len(lessons)))
                lesson = lessons[chosen]
                goal = lesson.target(step)
                if number % 2:
                    layers = streaks[chosen]
                    pair = self._rained(goal, layers[self.rng.integers(len(layers))])
                else:
                    pair = self._crop(lesson, lesson.planes, goal)
                rainy.append(pair[0])
                target.append(pair[1])
            self._step(optimizer, self._tensor(np.stack(rainy)), self._tensor(np.stack(target)))
            decay = min(0.98, (step + 1) / (step + 10))
            with torch.no_grad():
                for key, value in self.network.state_dict().items():
                    if value.is_floating_point():
                        average[key].lerp_(value, 1 - decay)
            if on_step is not None:
                on_step(step + 1, steps)
            if len(lessons) == 1 and (step + 1) % _CHECK == 0 and step + 1 < steps:
                now = self._with(average, lessons[0].planes)
                moved = np.inf if before is None else float(np.abs(now - before)[:, lessons[0].rain_map > 0].mean())
                before = now
                if moved < _STILL:
                    if on_step is not None:
                        on_step(steps, steps)
                    break
        self.network.load_state_dict(average)
        return step + 1

    def _with(self, state: dict[str, Tensor], planes: FloatArray) -> FloatArray:
        """The picture derained by other weights than those that are learning."""
        current = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(state)
        derained = self.derain(planes)
        self.network.load_state_dict(current)
        self.network.train()
        return derained

    def _crop(self, lesson: Targets, *pictures: FloatArray) -> list[FloatArray]:
        """One place and one flip for all."""
        height, width = lesson.rain_map.shape
        top = int(self.rng.integers(max(0, height - _CROP) + 1))
        left = int(self.rng.integers(max(0, width - _CROP) + 1))
        flip = self.rng.random() < 0.5
        return [_cut(p, top, left, flip) for p in pictures]

    def _rained(self, goal: FloatArray, layer: FloatArray) -> list[FloatArray]:
        """A crop of the goal under streaks from elsewhere, and the crop."""
        height, width = layer.shape
        places = [(int(self.rng.integers(max(0, height - _CROP) + 1)),
                   int(self.rng.integers(max(0, width - _CROP) + 1))) for _ in range(2)]  # fmt: skip
        flip = self.rng.random() < 0.5
        clean = _cut(goal, *places[0], flip)
        return [np.minimum(clean + _cut(layer[None], *places[1], flip), 1), clean]

    # --- shared ------------------------------------------------------------------------------

    def _step(self, optimizer: torch.optim.Optimizer, rainy: Tensor, target: Tensor) -> None:
        kind = self.device.split(":")[0]
        with torch.autocast(kind, torch.bfloat16) if self.low else contextlib.nullcontext():
            derained = self.network(rainy)
        loss = F.mse_loss(derained.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _tensor(self, values: FloatArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def _padded(self, planes: FloatArray) -> Tensor:
        padded = tiling.pad_to_rule(planes, multiple_of=self.rule.multiple_of, minimum=self.rule.minimum)
        return self._tensor(padded[None])

    def derain(self, planes: FloatArray) -> FloatArray:
        """``(3, H, W)`` in [0, 1] to the same by the network as it stands, clamped."""
        return _derain(self.network, planes, self.rule, self.device)


def derain_with(network: nn.Module, image: npt.NDArray[Any], settings: Settings) -> FloatArray:
    """Derain a picture by a network of :func:`train_set`.

    Args:
        network: moved to ``settings.device``.
        image: ``(H, W, 3)`` RGB, uint8 or float in [0, 1]; any size.
        settings: those it was trained with.

    Returns:
        ``(H, W, 3)`` float32 in [0, 1].
    """
    device = pick_device(settings.device)
    return _last(_derain(network.to(device), _planes(image), model_info(settings.network[0]).size, device))


def _derain(network: nn.Module, planes: FloatArray, rule: SizeRule, device: str) -> FloatArray:
    network.eval()

    def run(part: FloatArray) -> FloatArray:
        padded = tiling.pad_to_rule(part, multiple_of=rule.multiple_of, minimum=rule.minimum)
        with torch.inference_mode():
            whole: FloatArray = network(torch.from_numpy(padded[None]).to(device))[0].float().cpu().numpy()
        return whole[:, : part.shape[1], : part.shape[2]]

    if planes[0].size <= 4 * _TILE**2:
        return np.clip(run(planes), 0, 1)
    tiled = tiling.run_tiled(run, planes, tile=_TILE, overlap=_OVERLAP, align=rule.multiple_of)
    return np.clip(tiled, 0, 1)


def _endless(lesson: Targets, settings: Settings) -> Iterator[FloatArray]:
    sampler = Sampler(lesson.sampler.image, lesson.rain_map, power=1)
    while True:
        yield from (_planes(r) for r in sampler.references(settings.references, seed=settings.seed))


def _cut(picture: FloatArray, top: int, left: int, flip: bool) -> FloatArray:
    """A crop of ``(C, H, W)``, mirrored outward where the picture is smaller."""
    part = picture[:, top : top + _CROP, left : left + _CROP]
    if part.shape[1:] != (_CROP, _CROP):
        part = tiling.pad_to_rule(part, multiple_of=_CROP, minimum=_CROP)
    return part[:, :, ::-1] if flip else part


def _planes(image: npt.NDArray[Any]) -> FloatArray:
    """``(H, W, 3)`` to ``(3, H, W)`` float32 in [0, 1]."""
    values = image.astype(np.float32)
    if image.dtype == np.uint8:
        values /= 255
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _last(planes: FloatArray) -> FloatArray:
    return np.ascontiguousarray(planes.transpose(1, 2, 0))
