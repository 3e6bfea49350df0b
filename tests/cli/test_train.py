"""``derain train`` and ``derain models pack``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

from derain.training.recipe_files import check_recipe
from support.scenes import write_halves, write_pairs, write_photos


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


def shown(command, *arguments):
    code, out, err = command("train", "prenet", *arguments, "--show")
    assert code == 0, err
    return yaml.safe_load(out)["data"]


def test_data_is_recognized(command, tmp_path, monkeypatch):
    """Pairs, photographs, double images, list files and names, in one call where they can be combined."""
    pairs, photos = write_pairs(tmp_path / "it's a set"), write_photos(tmp_path / "photos")
    (pairs / "list.txt").write_text("input/1.png target/1.png")
    data = shown(command, "--data", pairs, "--data", photos, "--data", pairs / "list.txt")
    assert data["pairs"] == [str(pairs), str(pairs / "list.txt")]
    assert [pool["folders"] for pool in data["clean"]] == [[str(photos)]]
    halves = write_halves(tmp_path / "sets" / "Rain800")
    for layout in ("clean-left", "clean-right", "rainy-left"):
        data = shown(command, "--data", halves, "--data", pairs, f"data.layout={layout}")
        assert (data["layout"], len(data["pairs"])) == (layout, 2)
    monkeypatch.setenv("DERAIN_DATA", str(tmp_path / "sets"))
    data = shown(command, "--data", "rain800")
    assert (data["layout"], data["pairs"]) == ("clean-left", [str(halves)])
    write_halves(tmp_path / "sets" / "Rain1200", clean="right")
    code, _, err = command("train", "prenet", "--data", "Rain800", "--data", "Rain1200", "--show")
    assert (code, "clean-left and rainy-left in one run" in err) == (1, True)


def test_data_that_would_be_misread_is_refused_in_one_line(command, tmp_path):
    for part in ("train", "test"):
        write_halves(tmp_path / "rain100H" / part)
        write_pairs(tmp_path / "data" / part / "200mm", 2, rainy="rain/norain-{}.png", clean="norain/norain-{}.png")
    for folder, words in (
        ("rain100H", f"give one of {tmp_path / 'rain100H' / 'train'}, "),
        ("rain100H/train", "data.layout=clean-left"),
        ("data", f"give one of {tmp_path / 'data' / 'train' / '200mm'}, "),
        ("data/train/200mm/rain", "the rainy images of pairs"),
    ):
        code, out, err = command("train", "prenet", "--data", tmp_path / folder, "-o", tmp_path / "run")
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert words in err
    assert not (tmp_path / "run").exists()


def test_double_images_are_trained_on(command, recipe, tmp_path):
    halves = write_halves(tmp_path / "train")
    arguments = ["data.layout=clean-left", "schedule.epochs=4", "data.augment=false", "-o", tmp_path / "run"]
    code, out, err = command("train", recipe, "--data", halves, *arguments)
    assert code == 0, err
    assert f"{halves}: 4 pairs (side by side, clean-left)" in out
    assert "small: 4 epochs, into" in out
    code, out, err = command("train", "--resume", "--out", tmp_path / "run", "--steps", 6)
    assert code == 0, err
    assert "step 6" in out


def test_missing_recipes_and_data_are_reported(command, tmp_path):
    for arguments, words in (
        (["train"], "which recipe"),
        (["train", "sapnet", "--data", tmp_path / "no"], "no such folder"),
        (["train", "sapnet", "--data", tmp_path], "neither photographs nor pairs"),
        (["train", "camvid-segmenter", "--data", tmp_path, "--data", tmp_path, "--show"], "one folder"),
    ):
        code, _, err = command(*arguments)
        assert (code, words in err) == (1, True)
