"""``derain train`` and ``derain models pack``."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from derain.training.recipe_files import check_recipe


@pytest.fixture(scope="module")
def photos(photo, tmp_path_factory) -> Path:
    """A folder of four small photographs."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(4):
        Image.fromarray(photo[20 * i : 20 * i + 120, :160]).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A recipe of six short steps, without data."""
    content = {
        "name": "small",
        "model": {"name": "prenet", "settings": {"iterations": 2, "channels": 8}},
        "phases": [{"size": 24, "batch": 2}, {"start": 0.5, "size": 32, "batch": 2}],
        "losses": [{"name": "l1"}, {"name": "ssim", "weight": 0.1}],
        "schedule": {"steps": 6, "warmup": 1, "decay": "cosine"},
        "optimizer": {"name": "adam", "lr": 2e-3},
        "validation": {"every": 2, "held_out": 2, "crop": 48},
        "trainer": {"workers": 0},
    }
    path = tmp_path_factory.mktemp("recipe") / "own.yaml"
    path.write_text(check_recipe(content, "small").as_yaml())
    return path


def test_a_run_is_tried_trained_and_packed(command, photos, recipe, tmp_path):
    code, out, _ = command("train", recipe, "--data", photos, "--dry-run")
    assert code == 0
    assert "peak memory" in out
    code, out, err = command("train", recipe, "--data", photos, "--steps", "2", "-o", tmp_path / "run")
    assert code == 0, err
    assert "held-out" in out
    assert "weights.safetensors" in out
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    code, out, _ = command("models", "pack", checkpoint, "-o", tmp_path / "w.safetensors")
    assert code == 0
    assert "sha256" in out
    code, _, err = command("train", recipe, "--data", photos, "-o", tmp_path / "run")
    assert (code, "--resume" in err) == (1, True)


def test_recipes_are_listed_and_shown(command, tmp_path):
    assert "prenet-gru" in command("train", "--list")[1]
    assert "lr: 0.0005" in command("train", "sapnet", "optimizer.lr=5e-4", "--show")[1]
    code, out, _ = command("train", "camvid-segmenter", "--data", tmp_path, "--steps", 7, "--show")
    assert code == 0
    assert f"folder: {tmp_path}" in out
    assert "steps: 7" in out


def test_missing_recipes_and_data_are_reported(command, tmp_path):
    for arguments, words in (
        (["train"], "which recipe"),
        (["train", "sapnet", "--data", tmp_path / "no"], "no such folder"),
        (["train", "sapnet", "--data", tmp_path], "neither photographs nor pairs"),
        (["train", "camvid-segmenter", "--data", tmp_path, "--data", tmp_path, "--show"], "one folder"),
    ):
        code, _, err = command(*arguments)
        assert (code, words in err) == (1, True)
