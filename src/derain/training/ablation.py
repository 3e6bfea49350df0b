"""Ablations: rows of changes to one recipe, each trained for the same budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from derain.errors import RecipeError
from derain.files import write_json

from .metrics_log import scored_sets
from .recipe import AnyRecipe, Recipe, load_recipe
from .run import OnStep, fit_to, train

_SHIPPED = Path(__file__).parent / "ablations"


@dataclass(frozen=True)
class Row:
    """One model of the table, with the PSNR and SSIM of the paper, if the table is of one."""

    name: str
    recipe: Recipe
    paper: tuple[float, float] | None


@dataclass(frozen=True)
class Ablation:
    """A table to be trained."""

    name: str
    about: str
    rows: tuple[Row, ...]


def load_ablation(name: str, overrides: Sequence[str] = ()) -> Ablation:
    """A shipped ablation.

    Args:
        name: file name below ``ablations/``.
        overrides: for every row, after the row's own changes.

    Raises:
        RecipeError: unknown name, or overrides that do not fit.
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
        assert isinstance(recipe, Recipe), "ablations are of networks that derain"
        rows.append(Row(row["name"], recipe, (row["psnr"], row["ssim"]) if "psnr" in row else None))
    return Ablation(name, content["about"], tuple(rows))


def run_row(row: Row, folder: Path, minutes: float | None, on_step: OnStep) -> list[dict[str, Any]]:
    """Train a row for so many minutes (its steps follow from its speed here), or its steps, and validate it.

    A row that is complete in the folder is not trained again; one that was stopped goes on.

    Returns:
        One result a validation set: name, set, steps, psnr, ssim, protocol, paper (PSNR and SSIM, or ``None``).

    Raises:
        RecipeError, InputError: what the recipe asks for cannot be had.
    """
    out = folder / row.name
    finished = out / "result.json"
    if finished.exists():
        found: list[dict[str, Any]] = json.loads(finished.read_text(encoding="utf-8"))
        return found
    stopped = (out / "checkpoints" / "last.ckpt").exists()
    recipe: AnyRecipe = row.recipe
    if stopped:
        recipe = load_recipe(out / "recipe.yaml")
    elif minutes is not None:
        recipe = fit_to(row.recipe, minutes)
    assert isinstance(recipe, Recipe)
    last: dict[str, float] = {}

    def watch(step: int, total: int, numbers: dict[str, float]) -> None:
        if "psnr" in numbers:
            last.update(numbers)
        on_step(step, total, numbers)

    train(recipe, out, resume=stopped, on_step=watch)
    results = [
        {
            "name": row.name,
            "set": name,
            "steps": recipe.schedule.steps,
            "psnr": last[key],
            "ssim": last[key.replace("/psnr", "/ssim")],
            "protocol": recipe.validation.protocol,
            "paper": row.paper,
        }
        for key, name in scored_sets(last).items()
    ]
    write_json(results, finished)
    return results
