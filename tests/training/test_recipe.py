"""Recipes: what is shipped loads, faults name the field, changes go where they are meant."""

from __future__ import annotations

import pytest

from derain.errors import RecipeError
from derain.training.ablation import load_ablation
from derain.training.recipe import Schedule, load_recipe, shipped

LEAST = "model: {name: prenet}\npatches: [{size: 32, batch: 2}]\nlosses: [{name: l1}]\nschedule: {steps: 10}\n"


@pytest.fixture
def own(tmp_path):
    def write(text: str = LEAST) -> str:
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_load_and_give_themselves_again(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert len(recipe.about) > 20
    (tmp_path / "again.yaml").write_text(recipe.as_yaml())
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_papers_schedules():
    # 1,254 pairs of 481×321 give 5×3 patches each; 100 epochs of SAPNet's batch 12 and PReNet's 18.
    for name, batch in (("sapnet", 12), ("prenet", 18)):
        recipe = load_recipe(name)
        assert recipe.schedule.steps == 100 * (1254 * 15 // batch)
        epoch = recipe.schedule.steps // 100
        rates = [recipe.optimizer.lr * recipe.schedule.factor(e * epoch) for e in (0, 29, 30, 49, 50, 79, 80, 99)]
        assert rates == pytest.approx([1e-3, 1e-3, 2e-4, 2e-4, 4e-5, 4e-5, 8e-6, 8e-6])


def test_base_states_only_what_differs():
    plain, gru = load_recipe("prenet"), load_recipe("prenet-gru")
    assert gru.model.settings == {"recurrence": "gru", "residual": False}
    same = {"model", "name", "about"}
    assert gru.model_dump(exclude=same) == plain.model_dump(exclude=same)
    authors = load_recipe("sapnet-authors")
    assert [t.weight for t in authors.losses] == [1.0, 0.4, 0.1, 1.0]


def test_overrides(own):
    recipe = load_recipe(
        own(), ["optimizer.lr=5e-4", "losses.0.weight=2", "data.clean=[a, b]", "patches=[{size: 48, batch: 4}]"]
    )
    assert recipe.optimizer.lr == 5e-4
    assert recipe.losses[0].weight == 2
    assert [str(p.folders[0]) for p in recipe.data.clean] == ["a", "b"]
    assert recipe.patches[0].size == 48
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
        ("patches=[{size: 40, batch: 1, start: 0.5}]", ["start at 0"]),
        ("data.rain={frogs: 1}", ["data.rain", "heavy"]),
        ("schedule.decay=fast", ["schedule.decay", "cosine"]),
        ("losses.5.weight=1", ["there is no losses.5.weight"]),
        ("nonsense", ["field=value"]),
        ("seed=[", ["not YAML"]),
    ],
)
def test_faults_name_the_field_and_what_it_may_be(own, override, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe(own(), [override])
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_files_that_are_no_recipes(own, tmp_path):
    with pytest.raises(RecipeError, match=r"unknown recipe; choose one of .*sapnet"):
        load_recipe("sapnett")
    with pytest.raises(RecipeError, match="no such recipe file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(own("a: [1"))
    with pytest.raises(RecipeError, match="not a recipe"):
        load_recipe(own("just words"))
    with pytest.raises(RecipeError, match="schedule: is missing"):
        load_recipe(own("model: {name: prenet}\npatches: [{size: 32, batch: 2}]\nlosses: [{name: l1}]\n"))


def test_a_networks_size_rule_holds_for_patches(own):
    with pytest.raises(RecipeError, match="no multiple of 16"):
        load_recipe(own(LEAST.replace("prenet", "gated-unet").replace("32", "40")))


def test_cosine_and_warmup():
    schedule = Schedule(steps=100, warmup=4, decay="cosine", floor=0.1)
    assert [schedule.factor(s) for s in (0, 1)] == pytest.approx([0.2, 0.4], abs=1e-3)
    assert schedule.factor(25) == pytest.approx(0.1 + 0.9 * (1 + 0.5**0.5) / 2)
    assert schedule.factor(50) == pytest.approx(0.55)
    assert schedule.factor(100) == pytest.approx(0.1)
    held = Schedule(steps=100, decay="cosine", hold=0.8)
    assert [held.factor(s) for s in (0, 80, 90, 100)] == pytest.approx([1, 1, 0.5005, 1e-3])


def test_ablation_rows_add_one_thing_each():
    rows = load_ablation("sapnet").rows
    assert [r.name[:2] for r in rows] == ["M1", "M2", "M3", "M4", "M5", "M6"]
    active = [{t.name for t in r.recipe.losses if t.weight} for r in rows]
    assert [len(a) for a in active] == [1, 2, 3, 3, 3, 4]
    assert [r.recipe.model.settings.get("dilation", True) for r in rows] == [False] * 3 + [True] * 3
    assert [r.recipe.schedule.decay for r in rows] == ["constant"] * 4 + ["milestones"] * 2
    losses = load_ablation("losses").rows
    assert all(row.recipe.model == losses[0].recipe.model for row in losses)
    assert len({row.recipe.as_yaml() for row in losses}) == len(losses)
    with pytest.raises(RecipeError, match="choose one of losses, sapnet"):
        load_ablation("frogs")
