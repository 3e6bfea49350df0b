"""Data of a recipe: batches that do not depend on who requests them, images that are held out."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from derain.errors import RecipeError
from derain.training.datasets.data_module import PhasedBatches, TrainingData
from support.training import small_recipe


@given(
    every=st.integers(1, 7),
    steps=st.integers(1, 40),
    world=st.sampled_from([1, 2, 4]),
    start=st.floats(0.05, 0.95),
    batches=st.tuples(st.sampled_from([4, 8]), st.sampled_from([4, 12])),
)
@settings(max_examples=60)
def test_every_patch_is_requested_once_by_any_number_of_processes(every, steps, world, start, batches):
    recipe = small_recipe(
        "unused",
        schedule={"steps": steps},
        validation={"every": every},
        phases=[{"size": 24, "batch": batches[0]}, {"start": start, "size": 32, "batch": batches[1]}],
    )
    requests: list[list[tuple[int, int]]] = [[] for _ in range(steps)]
    for rank in range(world):
        sampler, step = PhasedBatches(recipe, rank, world), 0
        for interval in range(math.ceil(steps / every)):
            sampler.set_epoch(interval)
            for batch in sampler:
                requests[step] += batch
                step += 1
        assert step == steps
    numbers = sorted(n for n, _ in chain(*requests))
    assert numbers == list(range(len(numbers)))
    for step, batch in enumerate(requests):
        late = step / steps >= start
        assert len(batch) == batches[late]
        assert {side for _, side in batch} == {32 if late else 24}


def test_validation_images_are_not_trained_on(photos):
    data = TrainingData(small_recipe(photos))
    held_out = {path for _, path in data.validation.clean}
    assert len(held_out) == 2
    assert held_out.isdisjoint(chain(*data.patches.files))
    rainy, again = data.validation[0][1], TrainingData(small_recipe(photos)).validation[0][1]
    assert torch.equal(rainy, again)
    assert rainy.shape == (1, 3, 48, 48)


def test_pairs_are_trained_on_and_held_out(photos, tmp_path):
    for part in ("input", "target"):
        (tmp_path / "set" / part).mkdir(parents=True)
        for number, path in enumerate(sorted(photos.iterdir())):
            image = np.asarray(Image.open(path)) // (1 if part == "target" else 2)
            Image.fromarray(image).save(tmp_path / "set" / part / f"{number}.png")
    recipe = small_recipe(photos, data={"pairs": [str(tmp_path / "set")]}, validation={"every": 2, "held_out": 1})
    data = TrainingData(recipe)
    assert len(data.patches.pairs) == 3
    assert len(data.validation) == 1
    rainy, clean = data.patches[5, 24]
    assert ((clean * 255).round() // 2 - (rainy * 255).round()).abs().max() == 0
    mixed = TrainingData(
        small_recipe(photos, data={"pairs": [str(tmp_path / "set")], "clean": [str(photos)], "pair_share": 0.5})
    )
    halved = [
        torch.equal((c * 255).round() // 2, (r * 255).round()) for r, c in (mixed.patches[n, 24] for n in range(40))
    ]
    assert 8 < sum(halved) < 32


def test_a_recipe_without_data_says_how_to_add_some(photos):
    with pytest.raises(RecipeError, match="add --data DIR"):
        TrainingData(small_recipe(photos, data={}))
