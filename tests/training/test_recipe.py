"""Recipes: schedules, and rules between fields."""

from __future__ import annotations

import pytest

from derain.errors import RecipeError
from derain.training.recipe import Schedule
from derain.training.recipe_files import load_recipe
from support.training import small_recipe


def test_schedules_of_the_papers():
    # 1,254 pairs of 481×321 have 5×3 patches each; 100 epochs of SAPNet's batch 12 and PReNet's 18.
    for name, batch in (("sapnet", 12), ("prenet", 18)):
        recipe = load_recipe(name)
        assert recipe.schedule.steps == 100 * (1254 * 15 // batch)
        epoch = recipe.schedule.steps // 100
        rates = [recipe.optimizer.lr * recipe.schedule.factor(e * epoch) for e in (0, 29, 30, 49, 50, 79, 80, 99)]
        assert rates == pytest.approx([1e-3, 1e-3, 2e-4, 2e-4, 4e-5, 4e-5, 8e-6, 8e-6])


def test_cosine_and_warmup():
    schedule = Schedule(steps=100, warmup=4, decay="cosine", min_lr_ratio=0.1)
    assert [schedule.factor(s) for s in (0, 1)] == pytest.approx([0.2, 0.4], abs=1e-3)
    assert schedule.factor(25) == pytest.approx(0.1 + 0.9 * (1 + 0.5**0.5) / 2)
    assert schedule.factor(50) == pytest.approx(0.55)
    assert schedule.factor(100) == pytest.approx(0.1)
    late = Schedule(steps=100, decay="cosine", constant_fraction=0.8)
    assert [late.factor(s) for s in (0, 80, 90, 100)] == pytest.approx([1, 1, 0.5005, 1e-3])


def test_patches_follow_the_size_rule_of_the_network():
    gated = {"name": "gated-unet"}
    with pytest.raises(RecipeError, match="not a multiple of 16"):
        small_recipe("unused", model=gated, phases=[{"size": 40, "batch": 2}])
    with pytest.raises(RecipeError, match="must start at 0"):
        small_recipe("unused", phases=[{"size": 40, "batch": 1, "start": 0.5}])
