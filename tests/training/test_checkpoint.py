"""Checkpoints: packing takes the moving average; resuming needs the same recipe."""

from __future__ import annotations

import pytest
import torch

from derain import load_model
from derain.errors import InputError, RecipeError
from derain.training.checkpoint import check_same_recipe, load_checkpoint, pack
from derain.training.run import train
from support.training import ignore, small_recipe


@pytest.fixture(scope="module")
def checkpoint(photos, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    train(small_recipe(photos), run, on_step=ignore)
    return run / "checkpoints" / "last.ckpt"


def test_pack_takes_the_average(checkpoint, tmp_path):
    pack(checkpoint, tmp_path / "half.safetensors")
    saved = load_checkpoint(checkpoint)
    network = load_model(tmp_path / "half.safetensors")
    for key, value in network.state_dict().items():
        average = saved["state_dict"][f"network.{key}"]
        assert torch.equal(value, average.half().float())
        assert not torch.equal(saved["current_model_state"][f"network.{key}"], average)


def test_other_files_are_not_checkpoints(tmp_path):
    (tmp_path / "rubbish.ckpt").write_bytes(b"rubbish")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    for name in ("rubbish", "foreign"):
        with pytest.raises(InputError, match="not a checkpoint"):
            pack(tmp_path / f"{name}.ckpt", tmp_path / "out.safetensors")


def test_only_the_hardware_and_descriptions_may_change(checkpoint, photos):
    check_same_recipe(small_recipe(photos, about="other words", trainer={"workers": 3}), checkpoint)
    check_same_recipe(small_recipe(photos, checkpoint={"every": 3}), checkpoint)
    check_same_recipe(small_recipe(photos, schedule={"steps": 60, "warmup": 1, "decay": "cosine"}), checkpoint)
    with pytest.raises(RecipeError, match="other schedule; "):
        check_same_recipe(small_recipe(photos, schedule={"steps": 60, "warmup": 2, "decay": "cosine"}), checkpoint)
    with pytest.raises(RecipeError, match="other ema, seed; resume it with its own recipe"):
        check_same_recipe(small_recipe(photos, seed=2, ema=None), checkpoint)
