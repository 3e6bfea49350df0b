"""Training: batches that do not depend on how they are fetched, exact resuming, several processes, records."""

from __future__ import annotations

import copy
import csv
import math
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from derain import Derainer, load_model
from derain.errors import InputError, OutputError, RecipeError
from derain.training.datasets.data_module import PhasedBatches, TrainingData
from derain.training.module import DerainModule
from derain.training.muon import Muon, muon_groups, orthogonalized
from derain.training.recipe import Recipe, check_recipe, load_recipe
from derain.training.run import estimate, pack, train


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(skimage.data, name)()).resize((160, 120)).save(folder / f"{name}.png")
    return folder


def small(photos: Path | str, **changes: object) -> Recipe:
    content = {
        "name": "small",
        "model": {"name": "prenet", "settings": {"iterations": 2, "channels": 8}},
        "data": {"clean": [str(photos)]},
        "patches": [{"size": 24, "batch": 2}, {"start": 0.5, "size": 32, "batch": 2}],
        "losses": [{"name": "l1"}, {"name": "ssim", "weight": 0.1}],
        "schedule": {"steps": 6, "warmup": 1, "decay": "cosine"},
        "optimizer": {"name": "adam", "lr": 2e-3},
        "ema": 0.9,
        "validation": {"every": 2, "held_out": 2, "crop": 48},
        "trainer": {"workers": 0},
    }
    return check_recipe({**content, **changes}, "small")


def quiet(*_: object) -> None:
    pass


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@given(
    every=st.integers(1, 7),
    steps=st.integers(1, 40),
    world=st.sampled_from([1, 2, 4]),
    start=st.floats(0.05, 0.95),
    batches=st.tuples(st.sampled_from([4, 8]), st.sampled_from([4, 12])),
)
@settings(max_examples=60)
def test_every_patch_is_asked_for_once_by_whoever_trains(every, steps, world, start, batches):
    recipe = small(
        "unused",
        schedule={"steps": steps},
        validation={"every": every},
        patches=[{"size": 24, "batch": batches[0]}, {"start": start, "size": 32, "batch": batches[1]}],
    )
    asked: list[list[tuple[int, int]]] = [[] for _ in range(steps)]
    for rank in range(world):
        sampler, step = PhasedBatches(recipe, rank, world), 0
        for interval in range(math.ceil(steps / every)):
            sampler.set_epoch(interval)
            for batch in sampler:
                asked[step] += batch
                step += 1
        assert step == steps
    numbers = sorted(n for n, _ in chain(*asked))
    assert numbers == list(range(len(numbers)))
    for step, requests in enumerate(asked):
        late = step / steps >= start
        assert len(requests) == batches[late]
        assert {side for _, side in requests} == {32 if late else 24}


def test_a_stopped_run_goes_on_as_if_never_stopped(photos, tmp_path):
    recipe = small(photos)
    train(recipe, tmp_path / "whole", on_step=quiet)

    def stop(step: int, _total: int, numbers: dict[str, float]) -> None:
        if step == 3 and "psnr" not in numbers:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(recipe, tmp_path / "parts", on_step=stop)
    assert not (tmp_path / "parts" / "weights.safetensors").exists()
    train(recipe, tmp_path / "parts", resume=True, on_step=quiet)
    first, second = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("whole", "parts")
    )
    assert first["global_step"] == second["global_step"] == 6
    for part in ("state_dict", "current_model_state"):
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), key
    for kind in ("exp_avg", "exp_avg_sq"):
        for a, b in zip(*(c["optimizer_states"][0]["state"].values() for c in (first, second)), strict=True):
            assert torch.equal(a[kind], b[kind])
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_a_run_leaves_records_and_a_weight(photos, tmp_path):
    seen: list[int] = []
    weights = train(small(photos), tmp_path / "run", on_step=lambda step, _total, _numbers: seen.append(step))
    assert seen == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    table = rows(tmp_path / "run")
    assert [int(r["step"]) for r in table] == seen
    validations = [r for r in table if r["psnr"]]
    assert len(validations) == 3
    assert all(5 < float(r["held-out/psnr"]) < 60 and 0 < float(r["held-out/ssim"]) < 1 for r in validations)
    losses = [r for r in table if r["loss"]]
    for r in losses:
        assert float(r["loss"]) == pytest.approx(float(r["loss/l1"]) + 0.1 * float(r["loss/ssim"]), abs=1e-5)
    assert Image.open(tmp_path / "run" / "curves.png").size == (1000, 400)
    sheet = Image.open(tmp_path / "run" / "samples" / "step-0000006.png")
    assert sheet.size == (3 * 260, 2 * 260)
    derained = Derainer(str(weights))(np.asarray(Image.open(photos / "coffee.png")))
    assert derained.shape == (120, 160, 3)
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == small(photos)
    with pytest.raises(OutputError, match="--resume"):
        train(small(photos), tmp_path / "run", on_step=quiet)
    with pytest.raises(RecipeError, match="other seed"):
        train(small(photos, seed=2), tmp_path / "run", resume=True, on_step=quiet)


def test_pack_takes_the_average(photos, tmp_path):
    train(small(photos), tmp_path / "run", on_step=quiet)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    pack(checkpoint, tmp_path / "half.safetensors")
    saved = torch.load(checkpoint, weights_only=True)
    network = load_model(tmp_path / "half.safetensors")
    for key, value in network.state_dict().items():
        average = saved["state_dict"][f"network.{key}"]
        assert torch.equal(value, average.half().float())
        assert not torch.equal(saved["current_model_state"][f"network.{key}"], average)
    (tmp_path / "rubbish.ckpt").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="not a checkpoint"):
        pack(tmp_path / "rubbish.ckpt", tmp_path / "out.safetensors")


def test_two_processes_learn_as_one_with_their_batches_together(photos, tmp_path):
    changes = {
        "patches": [{"size": 24, "batch": 4}],
        "schedule": {"steps": 3},
        "losses": [{"name": "l1"}],
        "validation": {"every": 3, "held_out": 1, "crop": 48},
    }
    train(small(photos, **changes), tmp_path / "one", on_step=quiet)
    (tmp_path / "two.yaml").write_text(small(photos, **changes).as_yaml())
    overrides = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=ddp"]
    command = ["-m", "derain", "train", str(tmp_path / "two.yaml"), *overrides, "-o", str(tmp_path / "two"), "--debug"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = ([float(r["loss"]) for r in rows(tmp_path / name) if r["loss"]] for name in ("one", "two"))
    assert two == pytest.approx(one, abs=1e-5)
    with pytest.raises(RecipeError, match="cannot be shared by 3"):
        PhasedBatches(small(photos, **changes), 0, 3)


def test_twenty_steps_lower_the_loss(photos):
    recipe = small(photos, patches=[{"size": 32, "batch": 4}], schedule={"steps": 20})
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


SMALL_FORMS = {
    "jdnet": ["model.settings={units: 2, channels: 16}", "patches=[{size: 32, batch: 4}]"],
    "sginet": [
        "model.settings={width: 4, segmenter: compact}",
        "model.segmenter=random",
        "features=random",
        "patches=[{size: 64, batch: 1}]",
    ],
    "sapnet": [
        "model.settings={iterations: 2, channels: 8}",
        "features=random",
        "losses.2={name: segmentation-focal, weight: 0.1, options: {trunk: resnet18, weights: random}}",
        "patches=[{size: 24, batch: 2}]",
    ],
}


@pytest.mark.parametrize("name", SMALL_FORMS)
def test_twenty_steps_of_each_paper_lower_its_loss(name, photos):
    recipe = load_recipe(name, [*SMALL_FORMS[name], f"data={{clean: ['{photos}']}}", "schedule.steps=20"])
    module, data = DerainModule(recipe), TrainingData(recipe)
    optimizer = module.configure_optimizers()["optimizer"]
    side, batch = recipe.patches[0].size, recipe.patches[0].batch
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


def test_sginet_asks_for_its_segmenter(photos, tmp_path):
    small_form = [o for o in SMALL_FORMS["sginet"] if "segmenter=" not in o]
    with pytest.raises(RecipeError, match="segmenter: the network looks through one"):
        DerainModule(load_recipe("sginet", small_form))
    with pytest.raises(RecipeError, match="no such file"):
        DerainModule(load_recipe("sginet", [*small_form, "model.segmenter=none.pth"]))
    from derain.segmentation import create_segmenter

    segmenter = create_segmenter("compact")
    torch.save(segmenter.state_dict(), tmp_path / "segmenter.pth")
    module = DerainModule(load_recipe("sginet", [*small_form, f"model.segmenter={tmp_path / 'segmenter.pth'}"]))
    for key, value in segmenter.state_dict().items():
        assert torch.equal(module.network.segmenter.state_dict()[key], value)


def test_terms_and_iterations_follow_the_schedule(photos):
    recipe = small(
        photos,
        losses=[{"name": "l1"}, {"name": "pcl", "start": 0.5}, {"name": "mse", "weight": 0}],
        features="random",
        patches=[{"size": 24, "batch": 2, "iterations": 1}, {"start": 0.5, "size": 24, "batch": 2}],
    )
    module = DerainModule(recipe)
    rainy, clean = torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)
    assert set(module.loss(rainy, clean, 2)[1]) == {"l1"}
    assert module.network.iterations == 1
    assert set(module.loss(rainy, clean, 3)[1]) == {"l1", "pcl"}
    assert module.network.iterations == 2
    assert not any("pyramid" in key for key in module.state_dict()), "frozen features are not saved"


def test_validation_pictures_are_not_trained_on(photos):
    data = TrainingData(small(photos))
    kept_out = {path for _, path in data.validation.rained}
    assert len(kept_out) == 2
    assert kept_out.isdisjoint(chain(*data.patches.files))
    rainy, again = data.validation[0][1], TrainingData(small(photos)).validation[0][1]
    assert torch.equal(rainy, again)
    assert rainy.shape == (1, 3, 48, 48)


def test_pairs_are_trained_on_and_held_out(photos, tmp_path):
    for part in ("input", "target"):
        (tmp_path / "set" / part).mkdir(parents=True)
        for number, path in enumerate(sorted(photos.iterdir())):
            picture = np.asarray(Image.open(path)) // (1 if part == "target" else 2)
            Image.fromarray(picture).save(tmp_path / "set" / part / f"{number}.png")
    recipe = small(photos, data={"pairs": [str(tmp_path / "set")]}, validation={"every": 2, "held_out": 1})
    data = TrainingData(recipe)
    assert len(data.patches.pairs) == 3
    assert len(data.validation) == 1
    rainy, clean = data.patches[5, 24]
    assert ((clean * 255).round() // 2 - (rainy * 255).round()).abs().max() == 0
    mixed = TrainingData(
        small(photos, data={"pairs": [str(tmp_path / "set")], "clean": [str(photos)], "pair_share": 0.5})
    )
    halved = [
        torch.equal((c * 255).round() // 2, (r * 255).round()) for r, c in (mixed.patches[n, 24] for n in range(40))
    ]
    assert 8 < sum(halved) < 32


def test_probe_counts_the_steps_of_each_phase(photos):
    cost = estimate(small(photos, schedule={"steps": 100}), repeats=2)
    assert cost.steps == (50, 50)
    assert cost.total_seconds == pytest.approx(50 * sum(cost.seconds))
    assert set(cost.losses) == {"l1", "ssim"}
    assert cost.parameters == sum(p.numel() for p in load_small().parameters())


def load_small() -> nn.Module:
    from derain import create_model

    return create_model("prenet", iterations=2, channels=8)


def test_what_cannot_be_had_is_told_before_any_step(photos, tmp_path):
    with pytest.raises(RecipeError, match="add --data DIR"):
        TrainingData(small(photos, data={}))
    with pytest.raises(RecipeError, match=r"losses.0: .*cannot fetch.*features=random"):
        train(small(photos, losses=[{"name": "pcl"}], features="vgg16"), tmp_path / "run", on_step=quiet)
    with pytest.raises(RecipeError, match=r"losses.0.stage: no stage 'coarse'"):
        DerainModule(small(photos, losses=[{"name": "l1", "stage": "coarse"}]))
    with pytest.raises(RecipeError, match="does not fit"):
        DerainModule(small(photos, model={"name": "prenet", "settings": {"channels": 4}, "start": "default"}))
    assert not (tmp_path / "run").exists()


def test_an_error_in_a_data_worker_is_one_line(photos, tmp_path):
    recipe = small(photos, patches=[{"size": 48, "batch": 2}], data={"pairs": [str(tmp_path / "set")]})
    for part in ("input", "target"):
        (tmp_path / "set" / part).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 40)).save(tmp_path / "set" / part / f"{number}.png")
    recipe = check_recipe({**recipe.model_dump(mode="json"), "trainer": {"workers": 1}}, "small")
    with pytest.raises(InputError, match="smaller than a patch of 48") as caught:
        train(recipe, tmp_path / "run", on_step=quiet)
    assert "\n" not in str(caught.value)


def test_a_diverging_run_stops_with_advice(photos, tmp_path):
    with pytest.raises(RecipeError, match=r"lower optimizer\.lr"):
        train(small(photos, optimizer={"lr": 1e30}, ema=None), tmp_path / "run", on_step=quiet)


def test_muon_orthogonalizes_and_learns():
    matrix = torch.randn(24, 60, generator=torch.Generator().manual_seed(0))
    for shaped in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonalized(shaped))
        assert values.min() > 0.6
        assert values.max() < 1.3
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 3, 1))
    groups = muon_groups(network)
    assert [p.shape for p in groups[0]["params"]] == [(16, 16, 3, 3)]
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(p.numel() for p in network.parameters())
    optimizer = Muon(groups, lr=3e-3)
    x = torch.rand(2, 3, 8, 8)
    losses = []
    for _ in range(60):
        loss = (network(x) - x.flip(3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_relative_muon_turns_kernels_without_growth():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 400, 3), nn.Conv2d(400, 16, 1))
    with torch.no_grad():
        network[2].weight.mul_(1e-3)
    before = copy.deepcopy(network)
    optimizer = Muon(muon_groups(network), lr=1e-2, relative=0.05)
    network(torch.rand(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    for old, new in zip(before[1:], network[1:], strict=True):
        assert new.weight.norm().item() == pytest.approx(old.weight.norm().item(), rel=1e-5)
        assert (new.weight - old.weight).norm().item() == pytest.approx(0.05 * old.weight.norm().item(), rel=0.05)
    assert (network[0].weight - before[0].weight).abs().max().item() == pytest.approx(1e-2, rel=0.05)  # AdamW


def test_commands(photos, tmp_path, command):
    recipe = tmp_path / "own.yaml"
    recipe.write_text(small(photos, data={}).as_yaml())
    code, out, _ = command("train", recipe, "--data", photos, "--dry-run")
    assert code == 0
    assert "peak memory" in out
    code, out, err = command("train", recipe, "--data", photos, "--steps", "2", "-o", tmp_path / "run")
    assert code == 0, err
    assert "held-out" in out
    code, out, _ = command(
        "models", "pack", tmp_path / "run" / "checkpoints" / "best.ckpt", "-o", tmp_path / "w.safetensors"
    )
    assert code == 0
    assert "sha256" in out
    code, _, err = command("train", recipe, "--data", photos, "-o", tmp_path / "run")
    assert (code, "--resume" in err) == (1, True)
    code, out, _ = command("train", "sapnet", "optimizer.lr=5e-4", "--show")
    assert "lr: 0.0005" in out
    code, out, _ = command("train", "--list")
    assert "prenet-gru" in out
    for arguments, word in (
        (["train"], "which recipe"),
        (["train", "sapnet", "--data", tmp_path / "no"], "no such folder"),
    ):
        code, _, err = command(*arguments)
        assert (code, word in err) == (1, True)


def test_ablation_prints_its_table(photos, tmp_path, command):
    small_run = ["patches=[{size: 24, batch: 2}]", "model.settings.iterations=1", "model.settings.channels=8",
                 "validation={every: 5000, held_out: 1, crop: 48}", "features=random", "losses.2.weight=0",
                 "trainer.workers=0"]  # fmt: skip
    # A loss of the name of a score is not taken for a validation set.
    losses = ["losses.0={name: psnr, weight: 0.01}"]
    arguments = [
        "ablate",
        "sapnet",
        *small_run,
        *losses,
        "--data",
        photos,
        "--minutes",
        "0.01",
        "-o",
        tmp_path / "ablation",
    ]
    code, out, err = command(*arguments)
    assert code == 0, err
    assert [line for line in out.splitlines() if "M6-LPISL" in line and "29.46" in line]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "ablation").rglob("last.ckpt")}
    assert len(before) == 6
    assert command(*arguments)[0] == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}, "finished rows are not trained again"


@pytest.mark.slow
def test_three_minutes_from_scratch_gain_two_decibels(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "coffee", "chelsea", "rocket", "cat", "immunohistochemistry", "retina"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    recipe = load_recipe(
        "sapnet-live",
        [f"data.clean=[{folder}]", "schedule.steps=400", "patches=[{size: 64, batch: 4, iterations: 2}]",
         "model.settings.iterations=2", "validation={every: 400, held_out: 3, crop: 192}"],
    )  # fmt: skip
    data = TrainingData(recipe)
    module = DerainModule(recipe)
    train(recipe, tmp_path / "run", on_step=quiet)
    trained = load_model(tmp_path / "run" / "weights.safetensors")
    gains = []
    for place in range(len(data.validation)):
        _, rainy, clean = data.validation[place]
        with torch.inference_mode():
            derained = trained(rainy).clamp(0, 1)
        gains.append(10 * math.log10((rainy - clean).square().mean() / (derained - clean).square().mean()))
    assert module.recipe.model.name == "sapnet"
    assert np.mean(gains) >= 2
