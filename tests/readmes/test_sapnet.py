"""The README of SAPNet followed on a tiny set in the authors' layout: ``train.py``, ``main.sh``, scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from derain import load_model
from derain.weights.official import convert_official
from support.official import fake_official
from support.scenes import write_pairs
from support.training import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

#: Rows of the table in docs/seeds.md.
PREPARE = (
    "`datasets/train/RainTrainH`: `rain-N.png`, `norain-N.png`, numbers may be missing",
    "derain data check datasets/train/RainTrainH",
)
TRAIN = ("`python train.py`", "derain train sapnet-authors --data datasets/train/RainTrainH -o logs/SAPNet/Model11")
LATEST = (
    "`logs/SAPNet/Model11/net_latest.pth` after training",
    "derain models pack logs/SAPNet/Model11/checkpoints/last.ckpt --fp32 -o logs/SAPNet/Model11/net_latest.safetensors",
)
MAIN = (
    "`bash main.sh`",
    "derain run datasets/test/Rain100H -o results/Rain100H/Model11 "
    "--model logs/SAPNet/Model11/net_latest.safetensors --quantizer truncate --precision fp32",
)
IMPORT = (
    "`logs/SAPNet/Model11/net_latest.pth` of the authors",
    "derain models import logs/SAPNet/Model11/net_latest.pth --name sapnet-authors",
)
OFFICIAL = (
    "`bash main.sh` with the authors' file",
    "derain run datasets/test/Rain100H -o results/Rain100H/Model11 --model sapnet-authors "
    "--quantizer truncate --precision fp32",
)
SCORE = (
    "PSNR and SSIM of the slides (script in the history)",
    "derain eval --data datasets/test/Rain100H --results results/Rain100H/Model11 --protocol rgb",
)
DIRECT = (
    "the same without saved images",
    "derain eval --data datasets/test/Rain100H --model sapnet-authors --protocol rgb --precision fp32",
)
#: In place of the public weights of VGG-16, AlexNet and ResNet-101, and to end after four steps.
TINY = (
    "features=random",
    "losses.2.options={as_coded: true, weights: random, trunk: resnet18}",
    "losses.3.options={as_coded: true, features: random}",
    "phases=[{size: 100, batch: 2}]",
    "schedule.epochs=2",
    "checkpoint.epochs=1",
    "validation={every: 2, held_out: 1}",
    "trainer.workers=0",
)


def pixels(path):
    return np.asarray(Image.open(path))


def truncated(network, path):
    """A result as test.py makes it: clamped, then the fraction is dropped."""
    image = torch.from_numpy(pixels(path).transpose(2, 0, 1) / np.float32(255))[None]
    with torch.inference_mode():
        return (network.eval()(image)[0].clamp(0, 1).permute(1, 2, 0).numpy() * np.float32(255)).astype(np.uint8)


def test_the_readme_from_data_to_score(follow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # 180×100: two patches of 100 at stride 80. Pair 2 is missing, as 546 of the authors' are.
    train = write_pairs(tmp_path / "datasets/train/RainTrainH", 4, "rain-{}.png", "norain-{}.png", size=(180, 100))
    for name in ("rain-2.png", "norain-2.png"):
        (train / name).unlink()
    test = write_pairs(tmp_path / "datasets/test/Rain100H", 2, "rain-{:03d}.png", "norain-{:03d}.png")
    run, results = tmp_path / "logs/SAPNet/Model11", tmp_path / "results/Rain100H/Model11"
    assert "3 pairs" in follow(PREPARE)

    # python train.py
    assert "3 pairs (one folder, rainy and clean by name)" in follow(TRAIN, *TINY)
    steps = [row for row in read_metrics(run) if row["loss"]]
    assert len(steps) == 4  # two epochs of four patches: one of the three pairs is kept for validation
    assert [bool(row["loss/segmentation-focal"]) for row in steps] == [False, False, False, True]  # from 51 % on
    # The rate decays by 0.2 at 30, 50 and 80 % of the run; a row has the rate after its step.
    np.testing.assert_allclose([float(row["lr"]) for row in steps], [1e-3, 4e-5, 4e-5, 8e-6])
    # save_freq 1: a file for each epoch
    assert [p.name for p in sorted(run.glob("checkpoints/step-*"))] == ["step-0000002.ckpt", "step-0000004.ckpt"]

    # bash main.sh: every image of the folder is derained, the clean ones too
    follow(LATEST)
    assert "4 derained" in follow(MAIN)
    network = load_model(run / "net_latest.safetensors")
    names = [p.name for p in sorted(test.iterdir())]
    assert [p.name for p in sorted(results.iterdir())] == names
    for name in names:
        np.testing.assert_array_equal(pixels(results / name), truncated(network, test / name))

    # The scores of the slides: RGB, Gaussian window
    def scores(step):
        follow(step, "--json", tmp_path / "scores.json", "--overwrite")
        (row,) = json.loads((tmp_path / "scores.json").read_text())["summary"]
        pairs = [(pixels(test / f"norain-{n}.png"), pixels(results / f"rain-{n}.png")) for n in ("001", "002")]
        window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
        assert row["psnr"] == pytest.approx(np.mean([peak_signal_noise_ratio(*pair) for pair in pairs]), abs=1e-6)
        assert row["ssim"] == pytest.approx(np.mean([structural_similarity(*p, **window) for p in pairs]), abs=1e-4)
        return row

    print("trained:", scores(SCORE)["psnr"])

    # The same with a file as the authors' train.py writes it
    official = fake_official("sapnet")
    ours = {id(value): key for key, value in convert_official("sapnet", official).items()}
    trained = network.state_dict()
    state = {f"module.{key}": trained[ours[id(value)]] for key, value in official.items()}
    torch.save(state, run / "net_latest.pth")
    before = {name: pixels(results / name) for name in names}
    follow(IMPORT)
    follow(OFFICIAL, "--overwrite")
    for name in names:
        np.testing.assert_array_equal(pixels(results / name), before[name])
    assert scores(DIRECT)["psnr"] == pytest.approx(scores(SCORE)["psnr"], abs=1e-6)
