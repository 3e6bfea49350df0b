"""Estimates of a run: steps of each phase, and a length that fits a time."""

from __future__ import annotations

import pytest

from derain import create_model
from derain.training.cost import estimate, fit_to
from support.training import small_recipe


def test_estimate_counts_the_steps_of_each_phase(photos):
    cost = estimate(small_recipe(photos, schedule={"steps": 100}), repeats=2)
    assert cost.steps == (50, 50)
    assert cost.total_seconds == pytest.approx(50 * sum(cost.seconds))
    assert set(cost.losses) == {"l1", "ssim"}
    network = create_model("prenet", iterations=2, channels=8)
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    assert cost.memory > 50e6


def test_steps_are_fitted_to_minutes(photos, monkeypatch):
    recipe = small_recipe(photos, schedule={"steps": 100})
    cost = estimate(recipe, repeats=1)
    monkeypatch.setattr("derain.training.cost.estimate", lambda _: cost)
    assert fit_to(recipe, 2.5 * cost.total_seconds / 60).schedule.steps in (249, 250)
    assert fit_to(recipe, 1e-9).schedule.steps == 1
