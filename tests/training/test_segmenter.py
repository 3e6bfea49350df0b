"""Training of segmenters, from the recipe to the checkpoint, on images of colored blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from derain.errors import ModelError, RecipeError
from derain.models import create_model
from derain.training.checkpoint import pack
from derain.training.cost import estimate
from derain.training.recipe import SegmenterRecipe
from derain.training.recipe_files import check_recipe, load_recipe
from derain.training.run import train
from derain.training.segmenter import SegmenterData, SegmenterModule
from derain.weights import load_model
from derain.weights.official import read_checkpoint
from derain.weights.segmenters import load_segmenter
from support.labels import COLORS, blocks, write_split


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    """A folder with CamVid's layout and three classes."""
    root = tmp_path_factory.mktemp("camvid")
    write_split(root / "train", {f"p{i}": blocks(i, side=16) for i in range(6)})
    write_split(root / "val", {f"v{i}": blocks(10 + i, side=16) for i in range(3)})
    return root


def small(camvid, **changes):
    content = {
        "name": "small",
        "segmenter": {"name": "compact"},
        "data": {"folder": str(camvid), "classes": ["red", "green", "blue"], "zoom": [1.0, 1.5], "jitter": 0.3},
        "phases": [{"size": 32, "batch": 4}, {"start": 0.5, "size": 48, "batch": 2}],
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
    """A run, stopped at the third of 6 steps and resumed from the second, its model, and its later validations."""
    run = tmp_path_factory.mktemp("run")
    validations = []

    def stop(step, _total, numbers):
        if step == 3 and "miou" not in numbers:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(small(camvid), run, on_step=stop)
    weights = train(
        small(camvid), run, resume=True, on_step=lambda s, _t, n: validations.append((s, n)) if "miou" in n else None
    )
    return run, weights, validations


class Nearest(torch.nn.Module):
    """Predicts the class whose color is nearest."""

    def forward(self, x):
        return -(x[:, None] * 255 - torch.from_numpy(COLORS).float()[None, :, :, None, None]).norm(dim=2)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(trained, camvid, tmp_path):
    run, weights, validations = trained
    assert [step for step, _ in validations] == [4, 6]
    assert set(validations[-1][1]) == {"miou", "iou/red", "iou/green", "iou/blue"}
    through = train(small(camvid), tmp_path / "through", on_step=lambda *_: None)
    ours, theirs = read_checkpoint(weights), read_checkpoint(through)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert {"loss", "loss/entropy", "loss/lovasz", "miou", "iou/green"} <= set(header.split(","))
    assert (run / "curves.png").stat().st_size > 5000
    sheet = np.asarray(Image.open(run / "samples" / "step-0000006.png"))
    assert sheet.shape[0] == 3 * 260  # the three validation images


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


def test_validation_counts_all_images_at_once(camvid, monkeypatch):
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
    network = create_model("sginet", width=4, classes=3)
    network.load_segmenter(read_checkpoint(weights))
    assert torch.equal(network.eval().segmenter(x), segmenter.network(x))
    with pytest.raises(ModelError, match="holds a segmenter"):
        load_model(tmp_path / "half.safetensors")
    with pytest.raises(ModelError, match="not a segmenter"):
        load_segmenter(_other(tmp_path))
    with pytest.raises(ModelError, match="no such checkpoint"):
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
        load_recipe("camvid-segmenter", ["phases=[{size: 32, batch: 2, iterations: 3}]"])
    with pytest.raises(RecipeError, match="unknown 'pspnet'; choose one of compact"):
        load_recipe("camvid-segmenter", ["segmenter.name=pspnet"])
    with pytest.raises(RecipeError, match=r"small: segmenter: compact: .*color"):
        SegmenterModule(small(camvid, segmenter={"name": "compact", "settings": {"color": 1}}))
