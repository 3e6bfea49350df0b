"""Test-time adaptation: a pretrained network is trained on the rain of the image it derains (``derain run --adapt``).

Rain2Avoid starts from nothing and needs a prior for where it rains. A pretrained network knows more: what it
removes shows this image's rain, and what it leaves is nearly this image without it. So

1. the network's result, averaged with that of the flipped image, gets *light restored*: rain leaves gaps, so in
   every small square some pixels show the bare scene. Where even the smallest difference between image and result
   is positive, the network removed too much, and most of that is given back;
2. the removed light is added to the restored result elsewhere (moved, rotated, stronger or weaker, added or
   screened), and a copy of the network is trained to remove it again: pairs with a known truth, made of this
   image's own rain and this image's own scene;
3. of what the adapted copy does differently only the fine part is used. How bright a surface is under dense rain
   cannot be learned from pairs whose truth was the network's own guess: it would drift.

Two checks need no truth. An image from which hardly any light was removed has nothing to train on. And the copy
must be clearly better than the network on held-out pairs: where it is not, the network knew such rain already, and
training on its own guesses does harm; in between, a part of the change is used. If a check fails, the plain result
is returned with the reason. Under rain so dense that the network's guess is poor everywhere, the second and third
step are left out.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from derain.arrays import FloatArray, pad_reflect
from derain.models import SizeRule

OnStep = Callable[[int, int], None]
Apply = Callable[[nn.Module, FloatArray], FloatArray]

# Chosen on the choosing set of benchmarks/adapt.py.
_STEPS = 45
_BATCH = 4
_CROP = 80
_RATE = 3e-4
_DECAY = 0.95  # of the average over the steps
_SQUARE = 17  # pixels; rain leaves a gap in each
_GIVEN_BACK = 0.5  # 1 would be right in thin rain, but dense rain covers some squares completely
_FINE = 12.0  # standard deviation of the blur that separates fine from coarse, pixels
_MIN_RAIN, _MAX_RAIN = 1 / 255, 0.2  # mean light removed; outside there is nothing to train on
# The copy's error on held-out pairs, relative to the network's: from the first value up nothing of the change is
# used, from the second down all of it.
_USELESS, _USEFUL = 0.93, 0.85
_MAX_SHARE = 0.6  # more gains little where it helps, and costs most where the check was wrong
_TRIALS, _TRIAL_SIDE = 6, 128
_FLIPPED_SHARE = 1 / 3  # nearly all of the gain of one half, and half of its losses


@dataclass(frozen=True)
class Adapted:
    """An image derained by an adapted network.

    Attributes:
        planes: ``(3, H, W)`` float32 in [0, 1].
        refused: why the network's plain result was kept; empty if it was not.
        share: of the change that went into the result, in [0, 1]; smaller where the check is unsure, 0 if
            nothing was trained because the rain is too dense.
        steps: optimizer steps taken.
        seconds: duration.
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
    """Derain an image with a copy of a network that is first trained on the image's own rain.

    Args:
        network: maps ``(N, 3, H, W)`` to the same shape; not changed.
        planes: ``(3, H, W)`` float32 in [0, 1].
        apply: runs a network on such an image of any size and clamps; it may change the network's mode, never
            its weights.
        rule: the image sizes that the network takes.
        device: where to train.
        seed: of all randomness.
        steps: optimizer steps; ``None`` is the default number.
        on_step: called with (steps done, steps in all).

    Returns:
        The result. Equal seeds give equal results on one machine with one number of threads.
    """
    start = time.perf_counter()
    steps = _STEPS if steps is None else steps
    plain = apply(network, planes)
    base = restore_light(planes, _average_with_flipped(network, planes, apply, plain))
    rain = np.median(np.maximum(planes - base, 0), axis=0)
    light = float(rain.mean())
    if not _MIN_RAIN <= light <= _MAX_RAIN:
        if on_step is not None:
            on_step(steps, steps)
        kept, why = (base, "") if light > _MAX_RAIN else (plain, "hardly any rain was found")
        return Adapted(kept, why, 0.0, 0, time.perf_counter() - start)
    pairs = _Pairs(base, rain, rule, device)
    adapted = _train_copy(network, pairs, device, np.random.default_rng([seed, 0]), steps, on_step)
    ratio = pairs.error_ratio(adapted, network, np.random.default_rng([seed, 1]))
    share = _MAX_SHARE * float(np.clip((_USELESS - ratio) / (_USELESS - _USEFUL), 0, 1))
    if not share > 0:  # also for NaN
        known = f"the network knows such rain ({ratio:.0%} of the error is left after training)"
        return Adapted(plain, known, 0.0, steps, time.perf_counter() - start)
    result = _average_with_flipped(adapted, planes, apply, apply(adapted, planes))
    blended = np.clip(base + np.float32(share) * _fine(result - base), 0, 1)
    return Adapted(blended, "", share, steps, time.perf_counter() - start)


def restore_light(planes: FloatArray, derained: FloatArray) -> FloatArray:
    """Give back what was removed even from the pixels between the streaks.

    Args:
        planes: the rainy image, ``(3, H, W)`` in [0, 1].
        derained: a network's result for it.

    Returns:
        The result, brighter wherever the smallest amount removed around a pixel is positive.
    """
    removed = (planes - derained).mean(axis=0)
    smallest = cv2.erode(removed, np.ones((_SQUARE, _SQUARE), np.uint8))
    smooth = np.asarray(cv2.GaussianBlur(np.maximum(smallest, 0), (0, 0), _SQUARE / 3), np.float32)
    brighter: FloatArray = np.minimum(derained + np.float32(_GIVEN_BACK) * smooth, 1)
    return brighter


def _average_with_flipped(network: nn.Module, planes: FloatArray, apply: Apply, plain: FloatArray) -> FloatArray:
    """A network's result, averaged with that of the flipped image."""
    flipped = apply(network, np.ascontiguousarray(planes[:, :, ::-1]))[:, :, ::-1]
    mean: FloatArray = plain + np.float32(_FLIPPED_SHARE) * (flipped - plain)
    return mean


def _fine(difference: FloatArray) -> FloatArray:
    coarse = cv2.GaussianBlur(np.ascontiguousarray(difference.transpose(1, 2, 0)), (0, 0), _FINE)
    fine: FloatArray = difference - coarse.transpose(2, 0, 1)
    return fine


class _Pairs:
    """Crops of an image without rain, and the same under the image's own rain from another position."""

    def __init__(self, base: FloatArray, rain: FloatArray, rule: SizeRule, device: str) -> None:
        self.rule = rule
        self.device = device
        minimum = max(rule.fit(_CROP), rule.fit(_TRIAL_SIDE))
        self.base = pad_reflect(base, minimum, minimum)
        self.rain = pad_reflect(rain[None], minimum, minimum)

    def batch(self, count: int, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Rainy and clean crops, ``(count, 3, H, W)``, of at least that side."""
        side = self.rule.fit(side)
        crops = [self._pair(side, rng) for _ in range(count)]
        rainy, clean = (torch.from_numpy(np.stack(side)).to(self.device) for side in zip(*crops, strict=True))
        return rainy, clean

    def error_ratio(self, one: nn.Module, other: nn.Module, rng: np.random.Generator) -> float:
        """The mean error of one network on held-out pairs, relative to another's."""
        rainy, clean = self.batch(_TRIALS, _TRIAL_SIDE, rng)
        with torch.no_grad():
            errors = [float((network(rainy).float().clamp(0, 1) - clean).abs().mean()) for network in (one, other)]
        return errors[0] / max(errors[1], 1e-9)

    def _pair(self, side: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        clean = _crop(self.base, side, rng)
        zoom = np.exp(rng.uniform(np.log(0.75), np.log(1.35)))
        layer = _crop(self.rain, min(round(side * zoom), *self.rain.shape[1:]), rng)[0]
        scaled = cv2.resize(layer, (side, side), interpolation=cv2.INTER_LINEAR)
        layer = np.asarray(scaled, np.float32) * np.float32(rng.uniform(0.6, 1.4))
        if rng.random() < 0.5:
            layer = layer[::-1, ::-1]  # a rotation by 180 degrees keeps the direction
        # The two models of how rain adds light; which one applies to the image is unknown.
        rainy = clean + layer if rng.random() < 0.5 else 1 - (1 - clean) * (1 - np.minimum(layer, 1))
        rainy = np.minimum(rainy, 1)
        return (rainy[:, :, ::-1], clean[:, :, ::-1]) if rng.random() < 0.5 else (rainy, clean)


def _crop(image: FloatArray, side: int, rng: np.random.Generator) -> FloatArray:
    top, left = (int(rng.integers(length - side + 1)) for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def _train_copy(
    network: nn.Module,
    pairs: _Pairs,
    device: str,
    rng: np.random.Generator,
    steps: int,
    on_step: OnStep | None,
) -> nn.Module:
    """A trained copy of the network: the moving average of its weights."""
    # In ``eval`` mode throughout: batch normalization keeps its statistics.
    copied = copy.deepcopy(network).to(device).float().eval().requires_grad_(True)
    average = copy.deepcopy(copied).requires_grad_(False)
    optimizer = torch.optim.Adam(copied.parameters(), _RATE, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / 10)
        rainy, clean = pairs.batch(_BATCH, _CROP, rng)
        loss = F.l1_loss(copied(rainy), clean)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for kept, now in zip(average.parameters(), copied.parameters(), strict=True):
                kept.lerp_(now, 1 - min(_DECAY, (step + 1) / (step + 10)))
        if on_step is not None:
            on_step(step + 1, steps)
    return average
