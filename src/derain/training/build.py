"""From a recipe to what a run or an estimate needs: data, module, precision."""

from __future__ import annotations

from typing import Literal

import torch

from derain.runtime.torch import fast_bf16

from .base import RecipeModule
from .datasets.data_module import TrainingData
from .module import DerainModule
from .recipe import AnyRecipe, Recipe
from .segmenter import SegmenterData, SegmenterModule


def build(recipe: AnyRecipe) -> tuple[TrainingData | SegmenterData, RecipeModule]:
    """Data and module of a recipe; both have it with its length in steps.

    Raises:
        RecipeError, InputError: something in the recipe is unusable or not available.
    """
    if isinstance(recipe, Recipe):
        images = TrainingData(recipe)
        return images, DerainModule(images.recipe)
    labeled = SegmenterData(recipe)
    return labeled, SegmenterModule(labeled.recipe, labeled.weights)


def pick_precision(recipe: AnyRecipe) -> Literal["bf16-mixed", "32-true"]:
    """The recipe's precision in Lightning's terms."""
    precision, accelerator = recipe.trainer.precision, recipe.trainer.accelerator
    on_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    low = fast_bf16("cuda" if on_gpu else "cpu") if precision == "auto" else precision == "bf16"
    return "bf16-mixed" if low else "32-true"
