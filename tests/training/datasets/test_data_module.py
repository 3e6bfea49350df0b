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

from derain.errors import InputError, RecipeError
from derain.training.datasets.data_module import PhasedBatches, TrainingData
from support.scenes import clean_scene, write_halves, write_image, write_pairs
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


def test_epochs_follow_from_the_data(photos, tmp_path):
    write_pairs(tmp_path / "set", 6)
    base = {"phases": [{"size": 24, "batch": 2}], "schedule": {"epochs": 10}, "checkpoint": {"epochs": 1}}
    validation = {"pairs": [str(write_pairs(tmp_path / "val", 1))]}

    def resolved(**data):
        recipe = TrainingData(small_recipe(photos, data=data, validation=validation, **base)).recipe
        return recipe.schedule.steps, recipe.checkpoint.every

    pairs = [str(tmp_path / "set")]
    assert resolved(pairs=pairs) == (30, 3)
    assert resolved(pairs=pairs, stride=24) == (10 * 6 * 4 * 2 // 2, 24)  # 96×64 has 4×2 patches
    assert resolved(pairs=pairs, stride=24, mirrored_copies=True) == (480, 48)
    assert resolved(pairs=pairs, range=[2, 5]) == (20, 2)
    assert resolved(clean=[str(photos)]) == (20, 2)
    assert resolved(clean=[str(photos)], pairs=pairs, pair_share=0.5) == (60, 6), "half of a batch is pairs"
    held_out = TrainingData(small_recipe(photos, data={"pairs": pairs}, validation={"held_out": 2}, **base))
    assert held_out.recipe.schedule.steps == 20, "those validated on are not trained on"


def test_a_range_of_the_pairs(tmp_path):
    write_pairs(tmp_path, 6)
    data = {"pairs": [str(tmp_path)], "range": [2, 4]}
    patches = TrainingData(small_recipe("", data=data, validation={"held_out": 1})).patches
    assert {p.name for p in patches.pairs} < {"2", "3", "4"}
    with pytest.raises(InputError, match="ends at 7, but there are 6 pairs"):
        TrainingData(small_recipe("", data={**data, "range": [2, 7]}))


def test_small_pairs_are_counted_in_one_line(tmp_path, capfd):
    write_pairs(tmp_path, 5)
    for part in ("input", "target"):
        write_image(tmp_path / part / "2.png", clean_scene(1, (40, 28)))
    data = TrainingData(small_recipe("", data={"pairs": [str(tmp_path)]}, validation={"held_out": 1}))
    assert len(data.patches.corners(24)) == 4
    assert len(data.patches.corners(32)) == 3
    lines = [line for line in capfd.readouterr().err.splitlines() if "smaller" in line]
    assert lines == ["warning: 1 of 4 pairs are smaller than a patch of 32 and left out of such patches"]
    with pytest.raises(InputError, match="like all pairs"):
        TrainingData(small_recipe("", data={"pairs": [str(tmp_path)]}, phases=[{"size": 80, "batch": 1}]))


def test_layers_without_a_folder_are_an_error(photos):
    with pytest.raises(RecipeError, match=r"give data\.layers=DIR"):
        TrainingData(small_recipe(photos, data={"clean": [str(photos)], "rain": {"layers": 1}}))


def test_validation_pairs_may_be_laid_out_unlike_those_for_training(tmp_path):
    write_halves(tmp_path / "train")
    write_pairs(tmp_path / "val", 1)
    data = {"pairs": [str(tmp_path / "train")], "layout": "clean-left"}
    recipe = small_recipe("", data=data, validation={"pairs": [str(tmp_path / "val")], "crop": 48})
    _, rainy, clean = TrainingData(recipe).validation[0]
    assert torch.equal((clean[0] * 255).round().byte().permute(1, 2, 0)[0, 0], torch.tensor(clean_scene(0)[8, 24]))
    assert not torch.equal(rainy, clean)


def test_a_recipe_without_data_says_how_to_add_some(photos):
    with pytest.raises(RecipeError, match="add --data DIR"):
        TrainingData(small_recipe(photos, data={}))
