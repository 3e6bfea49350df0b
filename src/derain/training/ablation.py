"""Ablations: variants of one recipe, each trained for the same budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from derain.errors import RecipeError
from derain.files import write_json

from .build import build
from .callbacks import OnStep
from .cost import fit_to
from .metrics_log import scored_sets
from .recipe import AnyRecipe, Recipe
from .recipe_files import load_recipe
from .run import train

_SHIPPED = Path(__file__).parent / "ablations"
_RESULT = "result.json"


@dataclass(frozen=True)
class Row:
    """One row of the table, with PSNR and SSIM as published if the table is from a paper."""

    name: str
    recipe: Recipe
    paper: tuple[float, float] | None


@dataclass(frozen=True)
class Ablation:
    """A table of models to train."""

    name: str
    about: str
    rows: tuple[Row, ...]


def load_ablation(name: str, overrides: Sequence[str] = ()) -> Ablation:
    """A shipped ablation.

    Args:
        name: name of a file in ``ablations/``.
        overrides: for every row, applied after the row's own changes.

    Raises:
        RecipeError: unknown name or invalid overrides.
    """
    path = _SHIPPED / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _SHIPPED.glob("*.yaml")))
        raise RecipeError(f"{name}: no ablation of that name; choose one of {known}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows = []
    for row in content["rows"]:
        changes = [f"{key}={json.dumps(value)}" for key, value in (content.get("set", {}) | row["set"]).items()]
        recipe = load_recipe(content["recipe"], [*changes, *overrides])
        assert isinstance(recipe, Recipe), "ablations are of deraining networks"
        rows.append(Row(row["name"], recipe, (row["psnr"], row["ssim"]) if "psnr" in row else None))
    return Ablation(name, content["about"], tuple(rows))


def prepare_rows(ablation: Ablation, folder: Path, minutes: float | None) -> list[tuple[Row, bool]]:
    """The rows with the length of their run, after all that they need has been loaded once.

    So a missing file ends an ablation before it begins, not before its last row. A row that is complete in the
    folder needs nothing.

    Args:
        ablation: of :func:`load_ablation`.
        folder: folder of the ablation; the run's folder in it has the row's name.
        minutes: budget of each row, from which the steps follow by the speed here; by default, the recipe's steps.

    Returns:
        Each row, and whether it was stopped and is to be resumed.

    Raises:
        RecipeError, InputError: something in a recipe is unusable or not available.
    """
    prepared = []
    for row in ablation.rows:
        out = folder / row.name
        stopped = (out / "checkpoints" / "last.ckpt").exists()
        recipe: AnyRecipe = row.recipe
        if not (out / _RESULT).exists():
            try:
                if stopped:
                    recipe = load_recipe(out / "recipe.yaml")
                elif minutes is not None:
                    recipe = fit_to(recipe, minutes)
                recipe = build(recipe)[0].recipe
            except RecipeError as error:
                raise RecipeError(f"{row.name}: {error}") from None
        assert isinstance(recipe, Recipe)
        prepared.append((replace(row, recipe=recipe), stopped))
    return prepared


def run_row(row: Row, folder: Path, *, resume: bool, on_step: OnStep) -> list[dict[str, Any]]:
    """Train and validate a row.

    A row that is complete in the folder is not trained again.

    Args:
        row: of :func:`prepare_rows`.
        folder: folder of the ablation.
        resume: whether the row was stopped.
        on_step: see :data:`~derain.training.callbacks.OnStep`.

    Returns:
        One result for each validation set: name, set, steps, psnr, ssim, protocol, paper (PSNR and SSIM, or ``None``).

    Raises:
        RecipeError, InputError: something in the recipe is unusable or not available.
    """
    out = folder / row.name
    finished = out / _RESULT
    if finished.exists():
        results: list[dict[str, Any]] = json.loads(finished.read_text(encoding="utf-8"))
        return results
    recipe = row.recipe
    scores: dict[str, float] = {}

    def record(step: int, total: int, numbers: dict[str, float]) -> None:
        if "psnr" in numbers:
            scores.update(numbers)
        on_step(step, total, numbers)

    train(recipe, out, resume=resume, on_step=record)
    results = [
        {
            "name": row.name,
            "set": name,
            "steps": recipe.schedule.length,
            "psnr": scores[key],
            "ssim": scores[key.replace("/psnr", "/ssim")],
            "protocol": recipe.validation.protocol,
            "paper": row.paper,
        }
        for key, name in scored_sets(scores).items()
    ]
    write_json(results, finished)
    return results
