"""A trained network learns the rain of the very picture that it derains (``derain run --adapt``).

Rain2Avoid starts from nothing and needs a prior for where it rains. A trained network knows more: what it
takes away shows this picture's rain, and what it leaves is nearly this picture without it. So

1. the network's result, averaged with that of the mirrored picture, is *lifted*: rain leaves gaps, so in
   every small square some pixels show the bare scene. Where even the smallest difference between picture and
   result is light, the network took too much, and most of that is given back;
2. the light that was taken is laid over the lifted result elsewhere (moved, turned, stronger or weaker, added
   or screened), and a copy of the network learns to take it off again: pairs with a known truth, made of this
   picture's own rain and this picture's own scene;
3. of what the learned copy does otherwise only the fine part is used. How bright a surface is under dense rain
   cannot be learned from pairs whose truth was the network's own guess: there it would drift.

Two checks need no truth. A picture from which hardly any light was taken has nothing to teach. And the copy
must do clearly better than the network on pairs that it has not learned: where it does not, the rain was
known, and learning it again from the network's own guesses does harm; between, a part of what was learned is
used. Refused, the plain result is given back, with the reason. Under rain so dense that the network's guess is
poor everywhere the second and third step are left out.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from derain import tiling
from derain.models import SizeRule

FloatArray = npt.NDArray[np.float32]
OnStep = Callable[[int, int], None]
Apply = Callable[[nn.Module, FloatArray], FloatArray]

# Chosen on the choosing set of benchmarks/adapt.py.
_STEPS = 45
_BATCH = 4
_CROP = 80
_RATE = 3e-4
_DECAY = 0.95  # of the average over the steps
_SQUARE = 17  # pixels; rain leaves a gap in each
_GIVEN_BACK = 0.5  # all of it would be right in thin rain, but dense rain covers some squares
_FINE = 12.0  # standard deviation of the blur that parts fine from coarse, pixels
_LEAST_RAIN, _MOST_RAIN = 1 / 255, 0.2  # mean light taken; outside there is nothing to learn from
# Error that the copy has left on trial pairs, of the network's: from the one on nothing that was learned is used,
# from the other down all of it.
_USELESS, _USEFUL = 0.93, 0.85
_MOST_LEARNED = 0.6  # more gains little where it helps, and costs most where the check was wrong
_TRIALS, _TRIAL_SIDE = 6, 128
_MIRRORED = 1 / 3  # nearly all of the gain of one half, and half of its losses


@dataclass(frozen=True)
class Adapted:
    """A picture derained by a network that learned its rain.

    Attributes:
        planes: ``(3, H, W)`` float32 in [0, 1].
        refused: why the network's plain result was kept; empty if it was not.
        share: of what was learned that went into the result, in [0, 1]; less where the check is unsure, 0 if
            nothing was learned because the rain is too dense.
        steps: optimizer steps that were taken.
        seconds: what all of it took.
    """

    planes: FloatArray
    refused: str
    share: float
    steps: int
    seconds: float


def adapt_network(
    network: nn.Module,
    planes: FloatArray,
    apply: Apply,
    rule: SizeRule,
    *,
    device: str = "cpu",
    seed: int = 0,
    steps: int | None = None,
    on_step: OnStep | None = None,
) -> Adapted:
    """Derain a picture by a copy of a network that learns the picture's own rain.

    Args:
        network: maps ``(N, 3, H, W)`` to the same shape; left as it is.
        planes: ``(3, H, W)`` float32 in [0, 1].
        apply: runs a network on such a picture of any size and clamps; it may change the network's
            mode, never its weights.
        rule: the sizes that the network takes.
        device: where to learn.
        seed: of every draw.
        steps: optimizer steps; ``None`` is the usual number.
        on_step: called with (steps done, steps in all).

    Returns:
        The result. Equal seeds give equal results on one machine with one number of threads.
    """
    start = time.perf_counter()
    steps = _STEPS if steps is None else steps
    plain = apply(network, planes)
    base = restore_light(planes, _with_mirrored(network, planes, apply, plain))
    rain = np.median(np.maximum(planes - base, 0), axis=0)
    light = float(rain.mean())
    if not _LEAST_RAIN <= light <= _MOST_RAIN:
        if on_step is not None:
            on_step(steps, steps)
        kept, why = (base, "") if light > _MOST_RAIN else (plain, "hardly any rain was found")
        return Adapted(kept, why, 0.0, 0, time.perf_counter() - start)
    lessons = _Lessons(base, rain, rule, device)
    copied = _taught(network, lessons, device, np.random.default_rng([seed, 0]), steps, on_step)
    ratio = lessons.error_ratio(copied, network, np.random.default_rng([seed, 1]))
    share = _MOST_LEARNED * float(np.clip((_USELESS - ratio) / (_USELESS - _USEFUL), 0, 1))
    if not share > 0:  # also if it is no number
        known = f"the network knows such rain ({ratio:.0%} of the error is left after learning)"
        return Adapted(plain, known, 0.0, steps, time.perf_counter() - start)
    learned = _with_mirrored(copied, planes, apply, apply(copied, planes))
    result = np.clip(base + np.float32(share) * _fine(learned - base), 0, 1)
    return Adapted(result, "", share, steps, time.perf_counter() - start)


def restore_light(planes: FloatArray, derained: FloatArray) -> FloatArray:
    """Give back what was taken even from the pixels between the streaks.

    Args:
        planes: the rainy picture, ``(3, H, W)`` in [0, 1].
        derained: a network's result for it.

    Returns:
        The result, brighter where the least light that was taken around a pixel is more than none.
    """
    taken = (planes - derained).mean(axis=0)
    least = cv2.erode(taken, np.ones((_SQUARE, _SQUARE), np.uint8))
    smooth = np.asarray(cv2.GaussianBlur(np.maximum(least, 0), (0, 0), _SQUARE / 3), np.float32)
    brighter: FloatArray = np.minimum(derained + np.float32(_GIVEN_BACK) * smooth, 1)
    return brighter


def _with_mirrored(network: nn.Module, planes: FloatArray, apply: Apply, plain: FloatArray) -> FloatArray:
    """A network's result with a share of that for the mirrored picture."""
    mirrored = apply(network, np.ascontiguousarray(planes[:, :, ::-1]))[:, :, ::-1]
    mean: FloatArray = plain + np.float32(_MIRRORED) * (mirrored - plain)
    return mean


def _fine(difference: FloatArray) -> FloatArray:
    coarse = cv2.GaussianBlur(np.ascontiguousarray(difference.transpose(1, 2, 0)), (0, 0), _FINE)
    fine: FloatArray = difference - coarse.transpose(2, 0, 1)
    return fine


class _Lessons:
    """Crops of a picture without rain under the picture's own rain from elsewhere."""

    def __init__(self, base: FloatArray, rain: FloatArray, rule: SizeRule, device: str) -> None:
        self.rule = rule
        self.device = device
        least = max(self._side(_CROP), self._side(_TRIAL_SIDE))
        self.base = tiling.pad_to_rule(base, multiple_of=1, minimum=least)
        self.rain = tiling.pad_to_rule(rain[None], multiple_of=1, minimum=least)

    def batch(self, count: int, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Rainy and clean crops, ``(count, 3, H, W)``, of at least that side."""
        side = self._side(side)
        pairs = [self._pair(side, rng) for _ in range(count)]
        rainy, clean = (torch.from_numpy(np.stack(side)).to(self.device) for side in zip(*pairs, strict=True))
        return rainy, clean

    def error_ratio(self, one: nn.Module, other: nn.Module, rng: np.random.Generator) -> float:
        """The mean error of one network on trial pairs, as a share of another's."""
        rainy, clean = self.batch(_TRIALS, _TRIAL_SIDE, rng)
        with torch.no_grad():
            errors = [float((network(rainy).float().clamp(0, 1) - clean).abs().mean()) for network in (one, other)]
        return errors[0] / max(errors[1], 1e-9)

    def _side(self, side: int) -> int:
        return max(-(-side // self.rule.multiple_of) * self.rule.multiple_of, self.rule.minimum)

    def _pair(self, side: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        clean = _cut(self.base, side, rng)
        zoom = np.exp(rng.uniform(np.log(0.75), np.log(1.35)))
        layer = _cut(self.rain, min(round(side * zoom), *self.rain.shape[1:]), rng)[0]
        scaled = cv2.resize(layer, (side, side), interpolation=cv2.INTER_LINEAR)
        layer = np.asarray(scaled, np.float32) * np.float32(rng.uniform(0.6, 1.4))
        if rng.random() < 0.5:
            layer = layer[::-1, ::-1]  # half a turn keeps the direction
        # The two ways in which rain adds light; which one a picture has is not known.
        rainy = clean + layer if rng.random() < 0.5 else 1 - (1 - clean) * (1 - np.minimum(layer, 1))
        rainy = np.minimum(rainy, 1)
        return (rainy[:, :, ::-1], clean[:, :, ::-1]) if rng.random() < 0.5 else (rainy, clean)


def _cut(picture: FloatArray, side: int, rng: np.random.Generator) -> FloatArray:
    top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def _taught(
    network: nn.Module,
    lessons: _Lessons,
    device: str,
    rng: np.random.Generator,
    steps: int,
    on_step: OnStep | None,
) -> nn.Module:
    """A copy of the network after the lessons: the average of its weights over the steps."""
    # In ``eval`` mode throughout: statistics of batch normalization stay those of the training.
    student = copy.deepcopy(network).to(device).float().eval().requires_grad_(True)
    average = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), _RATE, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / 10)
        rainy, clean = lessons.batch(_BATCH, _CROP, rng)
        loss = F.l1_loss(student(rainy), clean)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for kept, now in zip(average.parameters(), student.parameters(), strict=True):
                kept.lerp_(now, 1 - min(_DECAY, (step + 1) / (step + 10)))
        if on_step is not None:
            on_step(step + 1, steps)
    return average
