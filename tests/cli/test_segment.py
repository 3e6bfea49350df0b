"""A segmenter from its recipe to the judgment of derained pictures, on pictures of colored blocks."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from derain.cli.options import PRESETS
from derain.data.labels import find_labeled
from derain.errors import ModelError, RecipeError
from derain.evaluation.segmentation import evenly, judge
from derain.metrics import mean_iou
from derain.models import create_model
from derain.rain import PRESETS as RAINS
from derain.training.recipe import SegmenterRecipe, check_recipe, load_recipe
from derain.training.run import estimate, pack, train
from derain.training.segmenter import SegmenterData, SegmenterModule
from derain.weights import load_model
from derain.weights.official import read_checkpoint
from derain.weights.segmenters import TrainedSegmenter, load_segmenter
from support.labels import COLORS, blocks, write_split


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    """A folder laid out as CamVid, of three classes."""
    root = tmp_path_factory.mktemp("camvid")
    write_split(root / "train", {f"p{i}": blocks(i, side=16) for i in range(6)})
    write_split(root / "val", {f"v{i}": blocks(10 + i, side=16) for i in range(3)})
    return root


def small(camvid, **changes):
    content = {
        "name": "small",
        "segmenter": {"name": "compact"},
        "data": {"folder": str(camvid), "classes": ["red", "green", "blue"], "zoom": [1.0, 1.5], "jitter": 0.3},
        "patches": [{"size": 32, "batch": 4}, {"start": 0.5, "size": 48, "batch": 2}],
        "optimizer": {"name": "muon", "lr": 5e-3},
        "schedule": {"steps": 6, "warmup": 1, "decay": "cosine"},
        "ema": 0.5,
        "validation": {"every": 2},
        "trainer": {"workers": 0, "precision": "fp32"},
    }
    recipe = check_recipe({**content, **changes}, "small")
    assert isinstance(recipe, SegmenterRecipe)
    return recipe


@pytest.fixture(scope="module")
def trained(camvid, tmp_path_factory):
    """A whole run, stopped at the third of 6 steps and resumed from the second, and its later validations."""
    run = tmp_path_factory.mktemp("run")
    seen = []

    def stop(step, _total, numbers):
        if step == 3 and "miou" not in numbers:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(small(camvid), run, on_step=stop)
    weights = train(
        small(camvid), run, resume=True, on_step=lambda s, _t, n: seen.append((s, n)) if "miou" in n else None
    )
    return run, weights, seen


class Nearest(torch.nn.Module):
    """Sees a class where its color is nearest."""

    def forward(self, x):
        return -(x[:, None] * 255 - torch.from_numpy(COLORS).float()[None, :, :, None, None]).norm(dim=2)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(trained, camvid, tmp_path):
    run, weights, seen = trained
    assert [step for step, _ in seen] == [4, 6]
    assert set(seen[-1][1]) == {"miou", "iou/red", "iou/green", "iou/blue"}
    through = train(small(camvid), tmp_path / "through", on_step=lambda *_: None)
    ours, theirs = read_checkpoint(weights), read_checkpoint(through)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert {"loss", "loss/entropy", "loss/lovasz", "miou", "iou/green"} <= set(header.split(","))
    assert (run / "curves.png").stat().st_size > 5000
    sheet = np.asarray(Image.open(run / "samples" / "step-0000006.png"))
    assert sheet.shape[0] == 3 * 260  # the three validation pictures


def test_a_step_learns(camvid):
    recipe = small(camvid, schedule={"steps": 1000})
    data = SegmenterData(recipe)
    module = SegmenterModule(recipe, data.weights)
    optimizer = module.configure_optimizers()["optimizer"]
    losses = []
    for step in range(12):
        batch = [torch.stack(part) for part in zip(*(data.patches[4 * step + i, 32] for i in range(4)), strict=True)]
        loss, values = module.loss(*batch, step)
        assert set(values) == {"entropy", "lovasz"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_validation_counts_all_pictures_at_once(camvid, monkeypatch):
    module = SegmenterModule(small(camvid))
    module.network = Nearest()
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value: logged.update({name: float(value)}))
    module.on_validation_epoch_start()
    for batch in SegmenterData(small(camvid)).val_dataloader():
        module.validation_step(batch, 0)
        assert [part.shape for part in module.sample(batch)] == [(1, 3, 96, 128)] * 3
    module.on_validation_epoch_end()
    assert logged == {"miou": 1.0, "iou/red": 1.0, "iou/green": 1.0, "iou/blue": 1.0}


def test_weights_describe_themselves_and_fit_sginet(trained, tmp_path):
    run, weights, _ = trained
    segmenter = load_segmenter(weights)
    assert segmenter.classes == ("red", "green", "blue")
    assert not segmenter.network.training
    pack(run / "checkpoints" / "best.ckpt", tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * weights.stat().st_size
    halved = load_segmenter(tmp_path / "half.safetensors").network
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(halved(x), segmenter.network(x), rtol=0.05, atol=0.05)
    network = create_model("sginet", width=4, classes=3).load_segmenter(read_checkpoint(weights))
    assert torch.equal(network.eval().segmenter(x), segmenter.network(x))
    with pytest.raises(ModelError, match="which does not derain"):
        load_model(tmp_path / "half.safetensors")
    with pytest.raises(ModelError, match="not a segmenter's weights"):
        load_segmenter(_other(tmp_path))
    with pytest.raises(ModelError, match="no such weight file"):
        load_segmenter(tmp_path / "none.safetensors")


def _other(folder):
    from derain.weights import save_file

    save_file(torch.nn.Conv2d(1, 1, 1), folder / "other.safetensors", model="prenet", settings={})
    return folder / "other.safetensors"


def test_recipes_of_segmenters(camvid):
    recipe = load_recipe("camvid-segmenter", [f"data.folder={camvid}"])
    assert isinstance(recipe, SegmenterRecipe)
    assert len(recipe.data.classes) == 11
    assert estimate(small(camvid), repeats=1).steps == (3, 3)
    with pytest.raises(RecipeError, match=r"data\.folder: nothing to train on"):
        SegmenterData(load_recipe("camvid-segmenter"))
    with pytest.raises(RecipeError, match="losses: unknown field"):
        load_recipe("camvid-segmenter", ["losses=[{name: l1}]"])
    with pytest.raises(RecipeError, match="no iterations"):
        load_recipe("camvid-segmenter", ["patches=[{size: 32, batch: 2, iterations: 3}]"])
    with pytest.raises(RecipeError, match="unknown 'pspnet'; choose one of compact"):
        load_recipe("camvid-segmenter", ["segmenter.name=pspnet"])
    with pytest.raises(RecipeError, match=r"small: segmenter: compact: .*color"):
        SegmenterModule(small(camvid, segmenter={"name": "compact", "settings": {"color": 1}}))


def test_judge_compares_conditions_on_the_same_rain(camvid):
    segmenter = TrainedSegmenter(Nearest(), ("red", "green", "blue"))
    pairs = find_labeled(camvid / "val")
    shown = {}

    def perfect(rainy):
        """Knows the truth: finds the picture that this rain fell on."""
        return min(
            (p.read(3)[0].astype(np.float32) / 255 for p in pairs), key=lambda clean: float(np.abs(clean - rainy).sum())
        )

    def keep(name, number, labels, views):
        shown[number] = views

    whole = judge(segmenter, evenly(pairs, None), {"perfect": perfect, "same": lambda x: x}, seed=4, on_picture=keep)
    figures = whole.figures()
    assert whole.pictures == 3
    assert figures["clean"]["miou"] == figures["perfect"]["miou"] == figures["clean"]["accuracy"] == 1
    assert figures["rainy"]["miou"] < 0.995
    assert torch.equal(whole.confusions["rainy"], whole.confusions["same"])
    assert figures["rainy"]["miou"] == mean_iou(whole.confusions["rainy"])
    part = {}
    judge(
        segmenter, evenly(pairs, 2), {}, seed=4, on_picture=lambda _n, number, _l, views: part.update({number: views})
    )
    assert sorted(part) == [0, 1]
    assert all(np.array_equal(part[n]["rainy"][0], shown[n]["rainy"][0]) for n in part), "a part is rained on alike"
    other = judge(segmenter, evenly(pairs, None), {}, seed=5)
    assert not torch.equal(other.confusions["rainy"], whole.confusions["rainy"])
    assert [number for number, _ in evenly(list(range(10)), 4)] == [0, 2, 5, 7]


def test_commands(command, camvid, trained, small_weight, tmp_path):
    weights = trained[1]
    split = tmp_path / "val"
    shutil.copytree(camvid / "val", split)
    (split / "images" / "v1.png").write_bytes(b"no picture")
    arguments = ("semantics", split, "--segmenter", weights, "--model", small_weight, "--preset", "light")
    record, sheet = tmp_path / "all.json", tmp_path / "sheet.png"
    code, out, err = command(*arguments, "--json", record, "--sheet", sheet)
    assert code == 1
    assert "v1.png" in err
    assert "mean (mIoU)" in out
    found = json.loads(record.read_text())
    assert found["pictures"] == 2
    assert list(found["conditions"]) == ["clean", "rainy", str(small_weight)]
    assert set(found["conditions"]["rainy"]["iou"]) == {"red", "green", "blue"}
    assert Image.open(sheet).size == (4 * 128, 2 * (2 * 96 + 8))
    code, _, err = command(*arguments, "--json", record)
    assert code == 1
    assert "exists already" in err

    code, out, err = command("segment", split / "images", "--segmenter", weights, "-o", tmp_path / "seen")
    assert code == 1
    assert "2 segmented, 1 failed" in out
    assert Image.open(tmp_path / "seen" / "v0.png").size == (128, 96)

    code, out, _ = command("train", "camvid-segmenter", "--data", camvid, "--steps", 7, "--show")
    assert code == 0
    assert f"folder: {camvid}" in out
    assert "steps: 7" in out
    code, _, err = command("train", "camvid-segmenter", "--data", camvid, "--data", camvid, "--show")
    assert code == 1
    assert "one folder" in err
    assert tuple(PRESETS) == tuple(RAINS)
