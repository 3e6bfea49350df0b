"""Recipe files: shipped ones load, errors name the field, overrides change what they name."""

from __future__ import annotations

import pytest

from derain.errors import RecipeError
from derain.training.recipe_files import load_recipe, shipped

MINIMAL = "model: {name: prenet}\nphases: [{size: 32, batch: 2}]\nlosses: [{name: l1}]\nschedule: {steps: 10}\n"


@pytest.fixture
def own(tmp_path):
    def write(text: str = MINIMAL) -> str:
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_load_and_round_trip(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert len(recipe.about) > 20
    (tmp_path / "again.yaml").write_text(recipe.as_yaml())
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_base_states_only_what_differs():
    plain, gru = load_recipe("prenet"), load_recipe("prenet-gru")
    assert gru.model.settings == {"recurrence": "gru", "residual": False}
    differing = {"model", "name", "about"}
    assert gru.model_dump(exclude=differing) == plain.model_dump(exclude=differing)
    authors = load_recipe("sapnet-authors")
    assert [t.weight for t in authors.losses] == [1.0, 0.4, 0.1, 1.0]


def test_recipes_of_the_authors_compute_in_full_precision():
    authors = [name for name in shipped() if name.endswith("-authors")]
    assert len(authors) >= 2
    assert all(load_recipe(name).trainer.precision == "fp32" for name in authors)


def test_the_learning_rate_of_sapnet_is_the_slides_and_of_its_variants_the_codes():
    rates = {name: load_recipe(name).optimizer.lr for name in ("sapnet", "sapnet-lr-1e-3", "sapnet-authors")}
    assert rates == {"sapnet": 1e-4, "sapnet-lr-1e-3": 1e-3, "sapnet-authors": 1e-3}


def test_steps_and_epochs_replace_each_other(own, tmp_path):
    def lengths(*arguments):
        schedule = load_recipe(*arguments).schedule
        return schedule.steps, schedule.epochs

    assert lengths(own()) == (10, None)
    assert lengths(own(), ["schedule.epochs=4"]) == (None, 4)
    assert lengths(own(), ["schedule.epochs=4", "schedule.steps=7"]) == (7, None)
    (tmp_path / "child.yaml").write_text(f"base: {tmp_path / 'own.yaml'}\nschedule: {{epochs: 3}}\n")
    assert lengths(tmp_path / "child.yaml") == (None, 3)
    (tmp_path / "shown.yaml").write_text(load_recipe(tmp_path / "child.yaml").as_yaml())
    assert lengths(tmp_path / "shown.yaml", ["schedule.steps=9"]) == (9, None)
    checkpoint = load_recipe(own(), ["checkpoint.epochs=1", "checkpoint.every=5"]).checkpoint
    assert (checkpoint.every, checkpoint.epochs) == (5, None)


def test_overrides(own):
    recipe = load_recipe(
        own(), ["optimizer.lr=5e-4", "losses.0.weight=2", "data.clean=[a, b]", "phases=[{size: 48, batch: 4}]"]
    )
    assert recipe.optimizer.lr == 5e-4
    assert recipe.losses[0].weight == 2
    assert [str(p.folders[0]) for p in recipe.data.clean] == ["a", "b"]
    assert recipe.phases[0].size == 48
    assert load_recipe(own(), ["trainer.devices=4"]).trainer.devices == 4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.name=sgd", ["optimizer.name", "adamw"]),
        ("optimizer.speed=3", ["optimizer.speed", "unknown field"]),
        ("optimizer.lr=-1", ["optimizer.lr", "greater than 0"]),
        ("model.name=resnet51", ["model.name", "prenet"]),
        ("losses.0.name=l7", ["losses.0.name", "charbonnier"]),
        ("losses=[]", ["losses", "at least one"]),
        ("phases=[{size: 40, batch: 1, start: 0.5}]", ["start at 0"]),
        ("data.rain={frogs: 1}", ["data.rain", "heavy"]),
        ("data.layout=real", ["data.layout", "clean-right"]),
        ("data.range=[5, 2]", ["data", "5 to 2 is empty"]),
        ("data.mirrored_copies=true", ["data", "needs stride"]),
        ("schedule={steps: 3, epochs: 2}", ["schedule", "one of steps and epochs"]),
        ("schedule={decay: cosine}", ["schedule", "one of steps and epochs"]),
        ("checkpoint={every: 3, epochs: 2}", ["checkpoint", "one of every and epochs"]),
        ("schedule.decay=fast", ["schedule.decay", "cosine"]),
        ("losses.5.weight=1", ["there is no losses.5.weight"]),
        ("nonsense", ["field=value"]),
        ("seed=[", ["not YAML"]),
    ],
)
def test_errors_name_the_field_and_its_choices(own, override, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe(own(), [override])
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_files_that_are_not_recipes(own, tmp_path):
    with pytest.raises(RecipeError, match=r"unknown recipe; choose one of .*sapnet"):
        load_recipe("sapnett")
    with pytest.raises(RecipeError, match="no such recipe file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(own("a: [1"))
    with pytest.raises(RecipeError, match="not a recipe"):
        load_recipe(own("just words"))
    with pytest.raises(RecipeError, match="base: is the recipe itself"):
        load_recipe(own(f"base: {tmp_path / 'own.yaml'}"))
    with pytest.raises(RecipeError, match="schedule: is missing"):
        load_recipe(own(MINIMAL.replace("schedule: {steps: 10}\n", "")))
