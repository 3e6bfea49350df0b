"""The LightningModule of networks that derain: any of them, any losses, as a recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from derain.errors import ModelError, RecipeError
from derain.losses import create_loss
from derain.metrics import psnr, ssim
from derain.models import create_model
from derain.models.gated_unet import GatedUNet
from derain.models.registry import model_info
from derain.tiling import pad_to_rule
from derain.weights.official import read_checkpoint

from .base import RecipeModule
from .recipe import Loss, Recipe

# Losses that look at features; the recipe's `features` is theirs unless their own options say otherwise.
_WITH_FEATURES = {"pcl", "perceptual", "lpisl"}


class Objective:
    """The weighted terms of a recipe's loss; frozen networks inside are neither trained, copied nor saved."""

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
        """Give the network to the losses that look through parts of it."""
        for term, loss in self.terms:
            if hasattr(loss, "bind"):
                try:
                    loss.bind(network)  # type: ignore[operator]
                except ValueError as error:
                    raise RecipeError(f"{self.recipe.name}: losses: {term.name}: {error}") from None

    def to(self, device: torch.device) -> None:
        """Move the frozen networks."""
        for _, loss in self.terms:
            loss.to(device)

    def active(self, step: int) -> list[tuple[Loss, nn.Module]]:
        """The terms that count at a step."""
        share = step / self.recipe.schedule.steps
        return [(term, loss) for term, loss in self.terms if share >= term.start]


class DerainModule(RecipeModule):
    """Trains a network by a recipe.

    Args:
        recipe: see :class:`derain.training.recipe.Recipe`.

    Raises:
        RecipeError: settings, losses or starting weights that cannot be used.
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
        self._iterations = getattr(self.network, "iterations", None)
        self.rule = model_info(recipe.model.name).size
        self.objective = Objective(recipe)
        self.objective.bind(self.network)
        self._check_stages()

    def _check_stages(self) -> None:
        known = ("derained", *getattr(self.network, "stage_names", ()))
        for number, term in enumerate(self.recipe.losses):
            if term.stage not in known:
                raise RecipeError(
                    f"{self.recipe.name}: losses.{number}.stage: no stage {term.stage!r}; one of {', '.join(known)}"
                )
        if any(p.iterations for p in self.recipe.patches) and not hasattr(self.network, "iterations"):
            raise RecipeError(f"{self.recipe.name}: patches: {self.recipe.model.name} has no iterations to set")

    def move_frozen(self, device: torch.device) -> None:
        """Losses follow the network to its device."""
        self.objective.to(device)

    def loss(self, given: Tensor, wanted: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole loss at a step, and each term before its weight.

        Args:
            given, wanted: rainy and clean, ``(N, 3, H, W)`` in [0, 1].
            step: counted from 0; it decides which terms count and how the network unrolls.
        """
        rainy, clean = given, wanted
        terms = self.objective.active(step)
        self._unroll(self.recipe.phase(step).iterations)
        pictures: dict[str, Tensor] = {}
        if any(term.stage != "derained" for term, _ in terms):
            stages = self.network.stages(rainy)  # type: ignore[operator]
            pictures = {name: getattr(stages, name) for name in self.network.stage_names}  # type: ignore[union-attr]
            pictures["derained"] = stages[-1]
        else:
            pictures["derained"] = self.network(rainy)
        values: dict[str, Tensor] = {}
        total = rainy.new_zeros(())
        with torch.autocast(rainy.device.type, enabled=False):
            for term, loss in terms:
                value = loss(pictures[term.stage].float(), clean, rainy)
                label = term.name if term.name not in values else f"{term.name}-{term.stage}"
                values[label] = value.detach()
                total = total + term.weight * value
        return total, values

    def validation_step(self, batch: tuple[str, Tensor, Tensor], _batch_index: int) -> None:
        """One pair, whole: PSNR and SSIM of its set."""
        name, rainy, clean = batch
        derained = self.derain(rainy)
        protocol = self.recipe.validation.protocol
        self.log(f"{name}/psnr", psnr(derained, clean, protocol).mean().float(), on_epoch=True, batch_size=1)
        self.log(f"{name}/ssim", ssim(derained, clean, protocol).mean().float(), on_epoch=True, batch_size=1)
        self.log("psnr", psnr(derained, clean, protocol).mean().float(), on_epoch=True, batch_size=1)

    def derain(self, rainy: Tensor) -> Tensor:
        """``(N, 3, H, W)`` of any size, padded by the network's rule and cut again; clamped."""
        planes = rainy.cpu().numpy()
        padded = np.stack(
            [pad_to_rule(p, multiple_of=self.rule.multiple_of, minimum=self.rule.minimum) for p in planes]
        )
        derained: Tensor = self.network(torch.from_numpy(padded).to(rainy.device))
        return derained[..., : rainy.shape[-2], : rainy.shape[-1]].float().clamp(0, 1)

    def on_validation_epoch_start(self) -> None:
        """What is measured is the network as it will be used, with all its iterations."""
        self._unroll(None)

    def _unroll(self, iterations: int | None) -> None:
        """Set a progressive network's iterations; ``None`` for its own number."""
        if self._iterations is not None:
            self.network.iterations = iterations or self._iterations  # type: ignore[assignment]

    def sample(self, batch: Any) -> tuple[Tensor, ...]:
        """Rainy | derained | clean."""
        _, rainy, clean = batch
        return rainy, self.derain(rainy), clean


def _fill_segmenter(network: nn.Module, weights: str | None) -> None:
    """Fill the frozen segmenter that some networks look through."""
    load = getattr(network, "load_segmenter", None)
    if load is None:
        return
    if weights is None:
        raise ModelError("segmenter: the network looks through one; give its weights (a file), or random to try it out")
    if weights != "random":
        try:
            load(read_checkpoint(Path(weights)))
        except RuntimeError as error:
            raise ModelError(f"segmenter: {weights} does not fit ({str(error).splitlines()[-1].strip()})") from None


def _start_from(network: nn.Module, name_or_path: str) -> None:
    from derain.weights import load_model

    trained = load_model(name_or_path)
    try:
        if isinstance(network, GatedUNet) and isinstance(trained, GatedUNet):
            network.start_from(trained)
        else:
            network.load_state_dict(trained.state_dict())
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"start: {name_or_path} does not fit ({str(error).splitlines()[-1].strip()})") from None
