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
from derain.training.checkpoint import pack
from derain.training.datasets.data_module import PhasedBatches, TrainingData
from derain.training.recipe_files import check_recipe, load_recipe
from derain.training.run import train
from support.scenes import clean_scene, write_image
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


def weights_of(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_prolonged_run_equals_one_that_was_longer_from_the_start(photos, tmp_path):
    """It ended within an interval of validations. The rate is constant, so that it does not depend on the length."""
    same = {"phases": [{"size": 24, "batch": 2}]}
    short, long = ({**same, "schedule": {"steps": n, "decay": "constant", "warmup": 1}} for n in (5, 9))
    train(small_recipe(photos, **long), tmp_path / "long", on_step=ignore)
    train(small_recipe(photos, **short), tmp_path / "short", on_step=ignore)

    def stop(step: int, _total: int, numbers: dict[str, float]) -> None:
        if step == 8 and "psnr" not in numbers:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(small_recipe(photos, **long), tmp_path / "short", resume=True, on_step=stop)
    train(small_recipe(photos, **long), tmp_path / "short", resume=True, on_step=ignore)
    for key, value in weights_of(tmp_path / "long").items():
        assert torch.equal(value, weights_of(tmp_path / "short")[key]), key
    rows = [read_metrics(tmp_path / name) for name in ("long", "short")]
    losses = [[(r["step"], r["loss"], r["lr"]) for r in part if r["loss"]] for part in rows]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 9
    assert [[int(r["step"]) for r in part if r["psnr"]] for part in rows] == [[2, 4, 6, 8, 9], [2, 4, 5, 7, 9]]
    assert load_recipe(tmp_path / "short" / "recipe.yaml").schedule.steps == 9
    with pytest.raises(RecipeError, match="has 9 steps; it may be prolonged, but not shortened"):
        train(small_recipe(photos, **short), tmp_path / "short", resume=True, on_step=ignore)


def test_a_prolonged_run_follows_its_new_schedule(photos, tmp_path):
    changes = {"phases": [{"size": 24, "batch": 2}], "validation": {"every": 2, "held_out": 1, "crop": 48}}
    for steps in (4, 8):
        recipe = small_recipe(photos, schedule={"steps": steps, "decay": "cosine"}, **changes)
        train(recipe, tmp_path, resume=True, on_step=ignore)
    rates = [float(r["lr"]) for r in read_metrics(tmp_path) if r["lr"]]
    old, new = (small_recipe(photos, schedule={"steps": steps, "decay": "cosine"}).schedule for steps in (4, 8))
    expected = [2e-3 * (old if step <= 4 else new).factor(step) for step in range(1, 9)]
    assert rates == pytest.approx(expected, rel=1e-5)


def test_checkpoints_are_kept_at_intervals(photos, tmp_path):
    recipe = small_recipe(photos, phases=[{"size": 24, "batch": 2}], checkpoint={"epochs": 3}, schedule={"epochs": 7})
    train(recipe, tmp_path, on_step=ignore)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    # Two of four photographs are held out: an epoch is one step.
    assert names == ["best.ckpt", "last.ckpt", "step-0000003.ckpt", "step-0000006.ckpt"]
    pack(tmp_path / "checkpoints" / "step-0000003.ckpt", tmp_path / "three.safetensors")
    assert load_model(tmp_path / "three.safetensors") is not None
    assert load_recipe(tmp_path / "recipe.yaml").schedule.steps == 7


def test_batches_with_an_unusual_loss_are_skipped(photos, tmp_path):
    """Each batch is compared with the mean of the interval before; a resumed run does the same."""
    recipe = small_recipe(
        photos,
        phases=[{"size": 24, "batch": 2}],
        optimizer={"lr": 1e-4, "skip_threshold": 0.8},
        schedule={"steps": 12, "decay": "constant"},
        validation={"every": 4, "held_out": 1, "crop": 48},
    )
    train(recipe, tmp_path / "through", on_step=ignore)

    def stop(step: int, _total: int, numbers: dict[str, float]) -> None:
        if step == 6:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(recipe, tmp_path / "resumed", on_step=stop)
    train(recipe, tmp_path / "resumed", resume=True, on_step=ignore)
    assert read_metrics(tmp_path / "through") == read_metrics(tmp_path / "resumed")
    rows = [(float(r["loss"]), float(r["skipped"])) for r in read_metrics(tmp_path / "through") if r["loss"]]
    limit, expected = math.inf, []
    for start in (0, 4, 8):
        interval = [loss for loss, _ in rows[start : start + 4]]
        expected += [loss >= limit for loss in interval]
        counted = [loss for loss in interval if loss < limit]
        limit = 0.8 * abs(sum(counted) / len(counted))
    assert [bool(skipped) for _, skipped in rows] == expected
    assert 0 < sum(expected) < 8
    saved = torch.load(tmp_path / "through" / "checkpoints" / "last.ckpt", weights_only=True)
    updates = {int(state["step"]) for state in saved["optimizer_states"][0]["state"].values()}
    assert updates == {12 - sum(expected)}, "a skipped batch is no update"


def test_a_run_that_skips_everything_stops(photos, tmp_path):
    recipe = small_recipe(photos, optimizer={"skip_threshold": 1e-6})
    with pytest.raises(RecipeError, match=r"all batches .* skipped by optimizer\.skip_threshold"):
        train(recipe, tmp_path, on_step=ignore)


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
            path = write_image(tmp_path / "set" / part / f"{number}.png", clean_scene(number))
            path.write_bytes(path.read_bytes()[:3000])  # its header is whole
    recipe = check_recipe({**recipe.model_dump(mode="json"), "trainer": {"workers": 1}}, "small")
    with pytest.raises(InputError, match="1 images cannot be read") as caught:
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
