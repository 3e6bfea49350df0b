"""Ablations: rows that differ in one thing each."""

from __future__ import annotations

import pytest

from derain.errors import RecipeError
from derain.training.ablation import load_ablation, prepare_rows


def test_rows_of_the_paper_add_one_thing_each():
    rows = load_ablation("sapnet").rows
    assert [r.name[:2] for r in rows] == ["M1", "M2", "M3", "M4", "M5", "M6"]
    active = [{t.name for t in r.recipe.losses if t.weight} for r in rows]
    assert [len(a) for a in active] == [1, 2, 3, 3, 3, 4]
    assert [r.recipe.model.settings.get("dilation", True) for r in rows] == [False] * 3 + [True] * 3
    assert [r.recipe.schedule.decay for r in rows] == ["constant"] * 4 + ["milestones"] * 2


def test_losses_are_compared_on_one_network():
    rows = load_ablation("losses").rows
    assert all(row.recipe.model == rows[0].recipe.model for row in rows)
    assert len({row.recipe.as_yaml() for row in rows}) == len(rows)


def test_what_the_last_row_lacks_is_reported_before_the_first_is_trained(photos, tmp_path):
    """Only the last of SAPNet's rows uses LPISL."""
    small = ["phases=[{size: 24, batch: 2}]", "model.settings={iterations: 1, channels: 8}", "losses.1.weight=0"]
    data = [f"data.clean=['{photos}']", "schedule.steps=2", "losses.2.weight=0", "trainer.workers=0"]
    ablation = load_ablation("sapnet", [*small, *data, "features=vgg19-partial:none.pth"])
    with pytest.raises(RecipeError, match=r"M6-LPISL: sapnet: losses\.3: .*none\.pth"):
        prepare_rows(ablation, tmp_path / "out", None)
    assert not (tmp_path / "out").exists()
    complete = load_ablation("sapnet", [*small, *data, "features=random"])
    rows = prepare_rows(complete, tmp_path / "out", None)
    assert [row.recipe.schedule.steps for row, _ in rows] == [2] * 6
    assert not any(stopped for _, stopped in rows)


def test_an_unknown_ablation_lists_the_known_ones():
    with pytest.raises(RecipeError, match="choose one of losses, sapnet"):
        load_ablation("frogs")
