"""The LightningModule of deraining networks: any network and any losses, as set by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from derain.errors import ModelError, RecipeError
from derain.losses import create_loss
from derain.losses.segmentation import NeedsNetwork
from derain.metrics import psnr, ssim
from derain.models import create_model
from derain.models.base import HasIterations, HasSegmenter, HasStages, InitializesFromOther
from derain.models.registry import model_info
from derain.weights.official import read_checkpoint

from .base import RecipeModule
from .recipe import Recipe
from .recipe_parts import Loss

# Losses on features; the recipe's `features` is the default of their option `features`.
_WITH_FEATURES = {"pcl", "perceptual", "lpisl"}


class Objective:
    """The weighted terms of a recipe's loss. Frozen networks inside are neither trained, copied nor saved."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.terms: list[tuple[Loss, nn.Module]] = []
        for number, term in enumerate(recipe.losses):
            if term.weight == 0:
                continue
            options = dict(term.options)
            if term.name in _WITH_FEATURES and recipe.features is not None:
                options.setdefault("features", recipe.features)
            try:
                self.terms.append((term, create_loss(term.name, **options)))
            except ModelError as error:
                hint = ""
                if term.name in _WITH_FEATURES:
                    hint = f"; or choose features=vgg19-partial:PATH or features=random, or losses.{number}.weight=0"
                raise RecipeError(f"{recipe.name}: losses.{number}: {error}{hint}") from None

    def __deepcopy__(self, _memo: dict[int, Any]) -> Objective:
        return self  # the moving average copies the module; these networks never change

    def bind(self, network: nn.Module) -> None:
        """Pass the network to the losses that use parts of it."""
        for term, loss in self.terms:
            if isinstance(loss, NeedsNetwork):
                try:
                    loss.bind(network)
                except ValueError as error:
                    raise RecipeError(f"{self.recipe.name}: losses: {term.name}: {error}") from None

    def to(self, device: torch.device) -> None:
        """Move the frozen networks."""
        for _, loss in self.terms:
            loss.to(device)

    def active(self, step: int) -> list[tuple[Loss, nn.Module]]:
        """The terms that apply at a step."""
        share = step / self.recipe.schedule.length
        return [(term, loss) for term, loss in self.terms if share >= term.start]


class DerainModule(RecipeModule):
    """Trains a network by a recipe.

    Args:
        recipe: see :class:`derain.training.recipe.Recipe`.

    Raises:
        RecipeError: unusable settings, losses or pretrained model.
    """

    score = "psnr"
    recipe: Recipe

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        try:
            self.network = create_model(recipe.model.name, **recipe.model.settings)
            if recipe.model.start is not None:
                _start_from(self.network, recipe.model.start)
            _fill_segmenter(self.network, recipe.model.segmenter)
        except ModelError as error:
            raise RecipeError(f"{recipe.name}: model: {error}") from None
        self._iterations = self.network.iterations if isinstance(self.network, HasIterations) else None
        self.rule = model_info(recipe.model.name).size
        self.objective = Objective(recipe)
        self.objective.bind(self.network)
        self._check_stages()

    def _check_stages(self) -> None:
        known = ("derained", *(self.network.stage_names if isinstance(self.network, HasStages) else ()))
        for number, term in enumerate(self.recipe.losses):
            if term.stage not in known:
                raise RecipeError(
                    f"{self.recipe.name}: losses.{number}.stage: no stage {term.stage!r}; one of {', '.join(known)}"
                )
        if any(p.iterations for p in self.recipe.phases) and not isinstance(self.network, HasIterations):
            raise RecipeError(f"{self.recipe.name}: phases: {self.recipe.model.name} has no iterations to set")

    def move_frozen(self, device: torch.device) -> None:
        """Move the losses' frozen networks to the device."""
        self.objective.to(device)

    def loss(self, inputs: Tensor, targets: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss at a step, and each term before its weight.

        Args:
            inputs: rainy images, ``(N, 3, H, W)`` in [0, 1].
            targets: clean images, likewise.
            step: counted from 0; it decides which terms apply and how often the network is unrolled.
        """
        terms = self.objective.active(step)
        self._unroll(self.recipe.phase(step).iterations)
        outputs: dict[str, Tensor] = {}
        if any(term.stage != "derained" for term, _ in terms):
            assert isinstance(self.network, HasStages), "checked in _check_stages"
            stages = self.network.stages(inputs)
            outputs = {**stages, "derained": stages[self.network.stage_names[-1]]}
        else:
            outputs["derained"] = self.network(inputs)
        values: dict[str, Tensor] = {}
        total = inputs.new_zeros(())
        with torch.autocast(inputs.device.type, enabled=False):
            for term, loss in terms:
                value = loss(outputs[term.stage].float(), targets, inputs)
                label = term.name if term.name not in values else f"{term.name}-{term.stage}"
                values[label] = value.detach()
                total = total + term.weight * value
        return total, values

    def validation_step(self, batch: tuple[str, Tensor, Tensor], _batch_index: int) -> None:
        """One pair of whole images: PSNR and SSIM of its set."""
        name, rainy, clean = batch
        derained = self.derain(rainy)
        protocol = self.recipe.validation.protocol
        self.log(f"{name}/psnr", psnr(derained, clean, protocol).mean().float(), on_epoch=True, batch_size=1)
        self.log(f"{name}/ssim", ssim(derained, clean, protocol).mean().float(), on_epoch=True, batch_size=1)
        self.log("psnr", psnr(derained, clean, protocol).mean().float(), on_epoch=True, batch_size=1)

    def derain(self, rainy: Tensor) -> Tensor:
        """Derain ``(N, 3, H, W)`` of any size, padded to the network's size rule and cropped; clamped."""
        padded = np.ascontiguousarray(self.rule.pad(rainy.cpu().numpy()))
        derained: Tensor = self.network(torch.from_numpy(padded).to(rainy.device))
        cropped: Tensor = self.rule.crop(derained, rainy)
        return cropped.float().clamp(0, 1)

    def on_validation_epoch_start(self) -> None:
        """Validate the network as it will be used, with all its iterations."""
        self._unroll(None)

    def _unroll(self, iterations: int | None) -> None:
        """Set a progressive network's iterations; ``None`` for its default."""
        if isinstance(self.network, HasIterations) and self._iterations is not None:
            self.network.iterations = iterations or self._iterations

    def sample(self, batch: Any) -> tuple[Tensor, ...]:
        """Rainy | derained | clean."""
        _, rainy, clean = batch
        return rainy, self.derain(rainy), clean


def _fill_segmenter(network: nn.Module, checkpoint: str | None) -> None:
    """Load the frozen segmenter that some networks contain."""
    if not isinstance(network, HasSegmenter):
        return
    if checkpoint is None:
        raise ModelError("segmenter: the network needs one; give its checkpoint (a file), or random to try it out")
    if checkpoint != "random":
        try:
            network.load_segmenter(read_checkpoint(Path(checkpoint)))
        except RuntimeError as error:
            raise ModelError(f"segmenter: {checkpoint} does not fit ({str(error).splitlines()[-1].strip()})") from None


def _start_from(network: nn.Module, name_or_path: str) -> None:
    from derain.weights import load_model

    pretrained = load_model(name_or_path)
    try:
        if isinstance(network, InitializesFromOther):
            network.init_from(pretrained)
        else:
            network.load_state_dict(pretrained.state_dict())
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"start: {name_or_path} does not fit ({str(error).splitlines()[-1].strip()})") from None
