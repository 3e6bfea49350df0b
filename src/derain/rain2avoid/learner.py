"""SDRL: trains a network on one image, or a set, from stochastic references alone.

Rain2Avoid (Peng et al., ICASSP 2023, section 2.3; IEEE TMM 2025). Each reference gives a rain pixel another
color from its clean surroundings; what a network can learn from all of them is what they agree on.

Schedule ``authors`` is their training: whole images, one reference a step in the order of their file names,
Adam at 1e-3, mean squared error, 100 epochs of 50 references (``single``), 100 steps (``online``) or 2,000
epochs of 64-pixel crops in batches of 64 (``multiple``).

Schedule ``fast`` reaches more in a small part of the time. The gradient of a squared error toward random
targets is, in expectation, that toward their mean, so the exact expected reference replaces the samples. Crops
replace whole images, a moving average of the weights replaces a decaying learning rate, and half of each batch
is the reference under new streaks in the image's own direction, whose truth is known. Training stops when the
averaged network's result has converged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from derain import tiling
from derain.arrays import FloatArray, pad_reflect, to_float
from derain.models import SizeRule, create_model, model_info
from derain.runtime.torch import pick_device, pick_precision

from .settings import Settings
from .targets import Targets

OnStep = Callable[[int, int], None]

_CROP = 64
_TILE, _OVERLAP = 512, 64
# The fast schedule; chosen on Rain100L's slice.
_STEPS = 300
_BATCH = 8
_CHECK = 50  # steps between two checks for convergence
_CONVERGED = 0.8 / 255  # mean change in the rain between two checks below which training stops


class Learner:
    """A backbone and the three ways of training it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        self.low = pick_precision(settings.precision, self.device) == "bf16"
        name, options = settings.network
        self.rule: SizeRule = model_info(name).size
        with torch.random.fork_rng(devices=[]):  # initial weights depend on the seed alone
            torch.manual_seed(settings.seed)
            self.network = create_model(name, **options).to(self.device)
        self.rate = 2e-3 if name == "gated-unet" and settings.schedule == "fast" else 1e-3
        self.rng = np.random.default_rng(settings.seed)

    # --- the authors' schedules --------------------------------------------------------------

    def fit_images(self, targets: list[Targets], on_step: OnStep | None) -> int:
        """Whole images, one reference a step."""
        (image,) = targets
        references = [] if image.online else image.sampled()
        steps = self.settings.steps or (self.settings.epochs or 100) * (1 if image.online else len(references))
        stream = image.endless() if image.online else None
        rainy = self._padded(image.planes)
        optimizer = torch.optim.Adam(self.network.parameters(), self.rate)
        self.network.train()
        for step in range(steps):
            target = next(stream) if stream is not None else to_float(references[step % len(references)])
            self._step(optimizer, rainy, self._padded(target))
            if on_step is not None:
                on_step(step + 1, steps)
        return steps

    def fit_crops(self, targets: list[Targets], on_step: OnStep | None) -> int:
        """Batches of 64 crops, each with one of its image's references, in the order of the images."""
        batches = [targets[i : i + 64] for i in range(0, len(targets), 64)]
        steps = self.settings.steps or (self.settings.epochs or 2000) * len(batches)
        optimizer = torch.optim.Adam(self.network.parameters(), self.rate)
        self.network.train()
        for step in range(steps):
            rainy, target = [], []
            for image in batches[step % len(batches)]:
                references = image.sampled()
                pair = self._crop(image, image.planes, references[self.rng.integers(len(references))])
                rainy.append(pair[0])
                target.append(to_float(pair[1]))
            self._step(optimizer, self._tensor(np.stack(rainy)), self._tensor(np.stack(target)))
            if on_step is not None:
                on_step(step + 1, steps)
        return steps

    # --- the fast schedule -------------------------------------------------------------------

    def fit_fast(self, targets: list[Targets], on_step: OnStep | None, steps: int | None = None) -> int:
        """Crops toward the expected reference, and crops of it under new streaks; stops when converged."""
        steps = steps or self.settings.steps or _STEPS
        streaks = [image.streaks(self.rng) for image in targets]
        optimizer = torch.optim.Adam(self.network.parameters(), self.rate, betas=(0.9, 0.99))
        average = {key: value.detach().clone() for key, value in self.network.state_dict().items()}
        previous: FloatArray | None = None
        self.network.train()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = self.rate * min(1, (step + 1) / 20)
            rainy, target = [], []
            for number in range(_BATCH):
                index = int(self.rng.integers(len(targets)))
                image = targets[index]
                reference = image.target(step)
                if number % 2:
                    layers = streaks[index]
                    pair = self._add_streaks(reference, layers[self.rng.integers(len(layers))])
                else:
                    pair = self._crop(image, image.planes, reference)
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
            if len(targets) == 1 and (step + 1) % _CHECK == 0 and step + 1 < steps:
                current = self._derain_with(average, targets[0].planes)
                change = np.inf
                if previous is not None:
                    change = float(np.abs(current - previous)[:, targets[0].rain_map > 0].mean())
                previous = current
                if change < _CONVERGED:
                    if on_step is not None:
                        on_step(steps, steps)
                    break
        self.network.load_state_dict(average)
        return step + 1

    def _derain_with(self, state: dict[str, Tensor], planes: FloatArray) -> FloatArray:
        """An image derained with other weights than those in training."""
        current = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(state)
        derained = self.derain(planes)
        self.network.load_state_dict(current)
        self.network.train()
        return derained

    def _crop(self, targets: Targets, *images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """The same random crop and flip of all images."""
        height, width = targets.rain_map.shape
        top = int(self.rng.integers(max(0, height - _CROP) + 1))
        left = int(self.rng.integers(max(0, width - _CROP) + 1))
        flip = self.rng.random() < 0.5
        return [_cut(image, top, left, flip) for image in images]

    def _add_streaks(self, reference: FloatArray, layer: FloatArray) -> list[npt.NDArray[Any]]:
        """A crop of the reference under streaks from another position, and the crop itself."""
        height, width = layer.shape
        places = [(int(self.rng.integers(max(0, height - _CROP) + 1)),
                   int(self.rng.integers(max(0, width - _CROP) + 1))) for _ in range(2)]  # fmt: skip
        flip = self.rng.random() < 0.5
        clean = _cut(reference, *places[0], flip)
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
        return self._tensor(self.rule.pad(planes)[None])

    def derain(self, planes: FloatArray) -> FloatArray:
        """``(3, H, W)`` in [0, 1] to the same with the current weights, clamped."""
        return derain_planes(self.network, planes, self.rule, self.device)


def derain_planes(
    network: nn.Module, planes: FloatArray, rule: SizeRule, device: str, *, batch_statistics: bool = False
) -> FloatArray:
    """Derain ``(3, H, W)`` in [0, 1] of any size; large images in tiles; clamped.

    Args:
        network: on ``device``.
        planes: the rainy image.
        rule: the network's size rule; the image is padded and cropped by it.
        device: where the network is.
        batch_statistics: leave the network in training mode, so that batch normalization takes the statistics of
            this image instead of the averages of training; never in tiles. The averages change, the result of the
            next image does not.
    """
    network.train(batch_statistics)

    def run(part: FloatArray) -> FloatArray:
        padded = torch.from_numpy(np.ascontiguousarray(rule.pad(part))[None])
        with torch.inference_mode():
            derained = network(padded.to(device))[0].float().cpu().numpy()
        cropped: FloatArray = rule.crop(derained, part)
        return cropped

    if batch_statistics or planes[0].size <= 4 * _TILE**2:
        return np.clip(run(planes), 0, 1)
    tiled = tiling.run_tiled(run, planes, tile=_TILE, overlap=_OVERLAP, align=rule.multiple_of)
    return np.clip(tiled, 0, 1)


def _cut(image: npt.NDArray[Any], top: int, left: int, flip: bool) -> npt.NDArray[Any]:
    """A crop of ``(C, H, W)``, padded by reflection where the image is smaller."""
    part = image[:, top : top + _CROP, left : left + _CROP]
    if part.shape[1:] != (_CROP, _CROP):
        part = pad_reflect(part, _CROP, _CROP)
    return part[:, :, ::-1] if flip else part
