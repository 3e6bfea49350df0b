"""A small training run."""

from __future__ import annotations

import csv
from pathlib import Path

from derain.training.recipe import Recipe
from derain.training.recipe_files import check_recipe


def small_recipe(photos: Path | str, **changes: object) -> Recipe:
    """Six steps of a small PReNet on the CPU, with a validation every two steps."""
    content = {
        "name": "small",
        "model": {"name": "prenet", "settings": {"iterations": 2, "channels": 8}},
        "data": {"clean": [str(photos)]},
        "phases": [{"size": 24, "batch": 2}, {"start": 0.5, "size": 32, "batch": 2}],
        "losses": [{"name": "l1"}, {"name": "ssim", "weight": 0.1}],
        "schedule": {"steps": 6, "warmup": 1, "decay": "cosine"},
        "optimizer": {"name": "adam", "lr": 2e-3},
        "ema": 0.9,
        "validation": {"every": 2, "held_out": 2, "crop": 48},
        "trainer": {"workers": 0},
    }
    recipe = check_recipe({**content, **changes}, "small")
    assert isinstance(recipe, Recipe)
    return recipe


def ignore(*_: object) -> None:
    """An ``on_step`` that does nothing."""


def read_metrics(run: Path) -> list[dict[str, str]]:
    """The rows of a run's ``metrics.csv``."""
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))
