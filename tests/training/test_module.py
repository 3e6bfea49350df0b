"""The module of deraining networks: losses go down, terms follow the schedule, errors come before any step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from derain.errors import RecipeError
from derain.segmentation import create_segmenter
from derain.training.datasets.data_module import TrainingData
from derain.training.module import DerainModule
from derain.training.recipe_files import load_recipe
from support.training import small_recipe

SMALL_OVERRIDES = {
    "jdnet": ["model.settings={units: 2, channels: 16}", "phases=[{size: 32, batch: 4}]"],
    "sginet": [
        "model.settings={width: 4, segmenter: compact}",
        "model.segmenter=random",
        "features=random",
        "phases=[{size: 64, batch: 1}]",
    ],
    "sapnet": [
        "model.settings={iterations: 2, channels: 8}",
        "features=random",
        "losses.2={name: segmentation-focal, weight: 0.1, options: {trunk: resnet18, weights: random}}",
        "phases=[{size: 24, batch: 2}]",
    ],
}


def test_twenty_steps_lower_the_loss(photos):
    recipe = small_recipe(photos, phases=[{"size": 32, "batch": 4}], schedule={"steps": 20})
    module, data = DerainModule(recipe), TrainingData(recipe)
    optimizer = module.configure_optimizers()["optimizer"]
    rainy, clean = (torch.stack([data.patches[n, 32][i] for n in range(8)]) for i in (0, 1))
    before = module.loss(rainy, clean, 0)[0].item()
    for step in range(20):
        loss, _ = module.loss(rainy, clean, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert module.loss(rainy, clean, 19)[0].item() < 0.8 * before


@pytest.mark.parametrize("name", SMALL_OVERRIDES)
def test_twenty_steps_of_each_paper_lower_its_loss(name, photos):
    recipe = load_recipe(name, [*SMALL_OVERRIDES[name], f"data={{clean: ['{photos}']}}", "schedule.steps=20"])
    module, data = DerainModule(recipe), TrainingData(recipe)
    optimizer = module.configure_optimizers()["optimizer"]
    side, batch = recipe.phases[0].size, recipe.phases[0].batch
    rainy, clean = (torch.stack([data.patches[n, side][i] for n in range(batch)]) for i in (0, 1))
    losses = []
    for _ in range(20):
        loss, terms = module.loss(rainy, clean, 19)
        assert set(terms) == {t.name for t in recipe.losses}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < losses[0] - 0.02 * abs(losses[0])


def test_sginet_needs_a_segmenter(photos, tmp_path):
    overrides = [o for o in SMALL_OVERRIDES["sginet"] if "segmenter=" not in o]
    with pytest.raises(RecipeError, match="segmenter: the network needs one"):
        DerainModule(load_recipe("sginet", overrides))
    with pytest.raises(RecipeError, match="no such file"):
        DerainModule(load_recipe("sginet", [*overrides, "model.segmenter=none.pth"]))
    segmenter = create_segmenter("compact")
    torch.save(segmenter.state_dict(), tmp_path / "segmenter.pth")
    module = DerainModule(load_recipe("sginet", [*overrides, f"model.segmenter={tmp_path / 'segmenter.pth'}"]))
    for key, value in segmenter.state_dict().items():
        assert torch.equal(module.network.segmenter.state_dict()[key], value)


def test_terms_and_iterations_follow_the_schedule(photos):
    recipe = small_recipe(
        photos,
        losses=[{"name": "l1"}, {"name": "pcl", "start": 0.5}, {"name": "mse", "weight": 0}],
        features="random",
        phases=[{"size": 24, "batch": 2, "iterations": 1}, {"start": 0.5, "size": 24, "batch": 2}],
    )
    module = DerainModule(recipe)
    rainy, clean = torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)
    assert set(module.loss(rainy, clean, 2)[1]) == {"l1"}
    assert module.network.iterations == 1
    assert set(module.loss(rainy, clean, 3)[1]) == {"l1", "pcl"}
    assert module.network.iterations == 2
    assert not any("pyramid" in key for key in module.state_dict()), "frozen features are not saved"


def test_unusable_recipes_fail_before_any_step(photos):
    with pytest.raises(RecipeError, match=r"losses.0.stage: no stage 'coarse'"):
        DerainModule(small_recipe(photos, losses=[{"name": "l1", "stage": "coarse"}]))
    with pytest.raises(RecipeError, match="does not fit"):
        DerainModule(small_recipe(photos, model={"name": "prenet", "settings": {"channels": 4}, "start": "default"}))
    jdnet = {"name": "jdnet", "settings": {"units": 2, "channels": 16}}
    with pytest.raises(RecipeError, match="phases: jdnet has no iterations"):
        DerainModule(small_recipe(photos, model=jdnet, phases=[{"size": 32, "batch": 1, "iterations": 2}]))
