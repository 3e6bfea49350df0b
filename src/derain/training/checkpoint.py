"""Training checkpoints: reading them, comparing their recipe, turning them into pretrained models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from derain.errors import InputError, RecipeError
from derain.models import create_model
from derain.segmentation import create_segmenter
from derain.weights.store import SEGMENTER, save_file

from .recipe import AnyRecipe, Recipe
from .recipe_files import check_recipe


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of :func:`derain.training.run.train`, on the CPU.

    Raises:
        InputError: not such a checkpoint.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if "recipe" in checkpoint:
            return checkpoint
    except Exception as error:
        reason = str(error).splitlines()[0]
    else:
        reason = "no recipe in it"
    raise InputError(f"{path}: not a checkpoint of `derain train` ({reason}); give one from RUN/checkpoints")


def check_same_recipe(recipe: AnyRecipe, checkpoint: Path) -> None:
    """Check that a run is resumed with its own recipe.

    Only ``trainer``, ``checkpoint``, the descriptions, and more steps than before are not taken for a difference.

    Raises:
        RecipeError: other fields differ.
    """
    before = check_recipe(load_checkpoint(checkpoint)["recipe"], str(checkpoint))
    free = {"trainer", "checkpoint", "about", "paper"}
    now, then = (r.model_dump(mode="json", exclude=free) for r in (recipe, before))
    if recipe.schedule.length > before.schedule.length:
        then["schedule"]["steps"] = recipe.schedule.length
    elif recipe.schedule.length < before.schedule.length:
        run = checkpoint.parent.parent
        raise RecipeError(f"{run}: its run has {before.schedule.length} steps; it may be prolonged, but not shortened")
    changed = [key for key in now if now[key] != then[key]]
    if changed:
        run = checkpoint.parent.parent
        raise RecipeError(
            f"{run}: its run has other {', '.join(changed)}; resume it with its own recipe, "
            f"{run / 'recipe.yaml'}, or start a new one with --out"
        )


def pack(checkpoint: Path, output: Path, *, half: bool = True) -> str:
    """Turn a checkpoint (its moving average, if there is one) into a model file for ``--model``.

    Args:
        checkpoint: from :func:`derain.training.run.train`.
        output: a ``.safetensors`` file.
        half: store float16.

    Returns:
        sha256 of the file.

    Raises:
        InputError: not a checkpoint of derain.
    """
    saved = load_checkpoint(checkpoint)
    recipe = check_recipe(saved["recipe"], str(checkpoint))
    if isinstance(recipe, Recipe):
        name, settings = recipe.model.name, recipe.model.settings
        network = create_model(name, **settings)
    else:
        name, settings = recipe.segmenter.name, {**recipe.segmenter.settings, "classes": len(recipe.data.classes)}
        network = create_segmenter(name, **settings)
    prefix = "network."
    network.load_state_dict({k[len(prefix) :]: v for k, v in saved["state_dict"].items() if k.startswith(prefix)})
    origin = {"recipe": recipe.as_yaml(), "step": str(saved["global_step"])}
    if not isinstance(recipe, Recipe):
        origin |= {"kind": SEGMENTER, "classes": json.dumps(recipe.data.classes)}
    return save_file(network, output, model=name, settings=settings, half=half, origin=origin)
