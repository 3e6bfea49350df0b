"""Recipes: schedules, and rules between fields."""

from __future__ import annotations

import math

import pytest

from derain.errors import RecipeError
from derain.training.recipe_files import load_recipe
from derain.training.recipe_parts import Schedule
from support.training import small_recipe


@pytest.mark.parametrize(
    ("name", "patches", "steps"),
    [
        # Pairs of 481×321 have 5×3 patches each: 1,254 of RainTrainH; 200 of RainTrainL and their mirror images.
        ("sapnet", 1254 * 15, 100 * 1254 * 15 / 12),
        ("sapnet", 2 * 200 * 15, 50_000),
        ("prenet", 1254 * 15, 104_500),
        # The authors' total: epochs times pairs over the batch.
        ("jdnet", 1800, 150_000),
        ("jdnet-light-rain", 200, 6_250),
        ("jdnet-r2", 1800, 75_000),
        ("sginet", 2975, 148_750),
    ],
)
def test_epochs_of_the_papers(name, patches, steps):
    recipe = load_recipe(name, ["checkpoint.epochs=10"]).with_data(lambda _side: patches)
    assert (recipe.schedule.steps, recipe.schedule.epochs) == (steps, None)
    assert recipe.checkpoint.every == pytest.approx(10 * steps / load_recipe(name).schedule.epochs, abs=0.5)
    assert recipe.with_data(lambda _side: 1) == recipe


def test_milestones_of_the_papers():
    for name, rate in (("sapnet", 1e-4), ("sapnet-authors", 1e-3), ("prenet", 1e-3)):
        recipe = load_recipe(name).with_data(lambda _side: 1254 * 15)
        epoch = recipe.schedule.steps / 100
        factors = [recipe.schedule.factor(math.ceil(e * epoch)) for e in (0, 29, 30, 49, 50, 79, 80, 99)]
        assert recipe.optimizer.lr == rate
        assert factors == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008])


def test_epochs_of_several_phases():
    """Half of the steps take 2 of 8 patches, half 4 of 4: on average 5/8 of an epoch each."""
    phases = [{"size": 24, "batch": 2}, {"start": 0.5, "size": 32, "batch": 4}]
    recipe = small_recipe("unused", phases=phases, schedule={"epochs": 50})
    assert recipe.with_data({24: 8, 32: 4}.__getitem__).schedule.steps == 80
    with pytest.raises(ValueError, match="follows from the data"):
        recipe.phase(0)


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


def test_the_long_training_of_the_default_anneals_once_at_its_end():
    recipe = load_recipe("gated-unet-5")
    factors = [recipe.schedule.factor(round(share * 33_000)) for share in (0.01, 0.5, 0.85, 0.925, 1)]
    assert factors == pytest.approx([1, 1, 1, 0.5005, 1e-3], abs=1e-4)
    assert sum(recipe.data.rain.values()) == pytest.approx(1)
    assert (recipe.data.clean, recipe.data.pairs, recipe.data.layers) == ((), (), None), "given on the command line"
