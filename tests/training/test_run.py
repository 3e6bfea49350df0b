"""Runs: exact resuming, several processes, records, one-line errors."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from derain import Derainer, load_model
from derain.errors import InputError, OutputError, RecipeError
from derain.training.datasets.data_module import PhasedBatches, TrainingData
from derain.training.recipe_files import check_recipe, load_recipe
from derain.training.run import train
from support.training import ignore, read_metrics, small_recipe


def test_a_resumed_run_equals_one_that_never_stopped(photos, tmp_path):
    recipe = small_recipe(photos)
    train(recipe, tmp_path / "through", on_step=ignore)

    def stop(step: int, _total: int, numbers: dict[str, float]) -> None:
        if step == 3 and "psnr" not in numbers:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(recipe, tmp_path / "resumed", on_step=stop)
    assert not (tmp_path / "resumed" / "weights.safetensors").exists()
    train(recipe, tmp_path / "resumed", resume=True, on_step=ignore)
    first, second = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("through", "resumed")
    )
    assert first["global_step"] == second["global_step"] == 6
    for part in ("state_dict", "current_model_state"):
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), key
    for kind in ("exp_avg", "exp_avg_sq"):
        for a, b in zip(*(c["optimizer_states"][0]["state"].values() for c in (first, second)), strict=True):
            assert torch.equal(a[kind], b[kind])
    assert read_metrics(tmp_path / "through") == read_metrics(tmp_path / "resumed")


def test_a_run_leaves_records_and_a_model(photos, tmp_path):
    steps: list[int] = []
    weights = train(small_recipe(photos), tmp_path / "run", on_step=lambda step, _total, _numbers: steps.append(step))
    assert steps == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    rows = read_metrics(tmp_path / "run")
    assert [int(r["step"]) for r in rows] == steps
    validations = [r for r in rows if r["psnr"]]
    assert len(validations) == 3
    assert all(5 < float(r["held-out/psnr"]) < 60 and 0 < float(r["held-out/ssim"]) < 1 for r in validations)
    losses = [r for r in rows if r["loss"]]
    for r in losses:
        assert float(r["loss"]) == pytest.approx(float(r["loss/l1"]) + 0.1 * float(r["loss/ssim"]), abs=1e-5)
    assert Image.open(tmp_path / "run" / "curves.png").size == (1000, 400)
    sheet = Image.open(tmp_path / "run" / "samples" / "step-0000006.png")
    assert sheet.size == (3 * 260, 2 * 260)
    derained = Derainer(str(weights))(np.asarray(Image.open(photos / "coffee.png")))
    assert derained.shape == (120, 160, 3)
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == small_recipe(photos)
    with pytest.raises(OutputError, match="--resume"):
        train(small_recipe(photos), tmp_path / "run", on_step=ignore)
    with pytest.raises(RecipeError, match="other seed"):
        train(small_recipe(photos, seed=2), tmp_path / "run", resume=True, on_step=ignore)


def test_two_processes_compute_the_loss_of_one(photos, tmp_path):
    changes = {
        "phases": [{"size": 24, "batch": 4}],
        "schedule": {"steps": 3},
        "losses": [{"name": "l1"}],
        "validation": {"every": 3, "held_out": 1, "crop": 48},
    }
    train(small_recipe(photos, **changes), tmp_path / "one", on_step=ignore)
    (tmp_path / "two.yaml").write_text(small_recipe(photos, **changes).as_yaml())
    overrides = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=ddp"]
    command = ["-m", "derain", "train", str(tmp_path / "two.yaml"), *overrides, "-o", str(tmp_path / "two"), "--debug"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = ([float(r["loss"]) for r in read_metrics(tmp_path / name) if r["loss"]] for name in ("one", "two"))
    assert two == pytest.approx(one, abs=1e-5)
    with pytest.raises(RecipeError, match="cannot be shared by 3"):
        PhasedBatches(small_recipe(photos, **changes), 0, 3)


def test_unavailable_features_stop_a_run_before_its_folder_is_made(photos, tmp_path):
    with pytest.raises(RecipeError, match=r"losses.0: .*features=random"):
        train(small_recipe(photos, losses=[{"name": "pcl"}], features="vgg16"), tmp_path / "run", on_step=ignore)
    assert not (tmp_path / "run").exists()


def test_an_error_in_a_data_worker_is_one_line(photos, tmp_path):
    recipe = small_recipe(photos, phases=[{"size": 48, "batch": 2}], data={"pairs": [str(tmp_path / "set")]})
    for part in ("input", "target"):
        (tmp_path / "set" / part).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 40)).save(tmp_path / "set" / part / f"{number}.png")
    recipe = check_recipe({**recipe.model_dump(mode="json"), "trainer": {"workers": 1}}, "small")
    with pytest.raises(InputError, match="smaller than a patch of 48") as caught:
        train(recipe, tmp_path / "run", on_step=ignore)
    assert "\n" not in str(caught.value)


def test_a_diverging_run_stops_with_advice(photos, tmp_path):
    with pytest.raises(RecipeError, match=r"lower optimizer\.lr"):
        train(small_recipe(photos, optimizer={"lr": 1e30}, ema=None), tmp_path / "run", on_step=ignore)


@pytest.mark.slow
def test_three_minutes_from_random_weights_gain_two_decibels(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "coffee", "chelsea", "rocket", "cat", "immunohistochemistry", "retina"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    recipe = load_recipe(
        "sapnet-live",
        [f"data.clean=[{folder}]", "schedule.steps=400", "phases=[{size: 64, batch: 4, iterations: 2}]",
         "model.settings.iterations=2", "validation={every: 400, held_out: 3, crop: 192}"],
    )  # fmt: skip
    data = TrainingData(recipe)
    train(recipe, tmp_path / "run", on_step=ignore)
    trained = load_model(tmp_path / "run" / "weights.safetensors")
    gains = []
    for index in range(len(data.validation)):
        _, rainy, clean = data.validation[index]
        with torch.inference_mode():
            derained = trained(rainy).clamp(0, 1)
        gains.append(10 * math.log10((rainy - clean).square().mean() / (derained - clean).square().mean()))
    assert np.mean(gains) >= 2
