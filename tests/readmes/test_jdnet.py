"""The README of JDNet followed on a tiny set of double images: ``train.py``, ``eval.py``, ``show.py``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from derain import load_model
from support.official import fake_jdnet
from support.scenes import rainy_scene, write_halves, write_image
from support.training import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

#: Rows of the table in docs/seeds.md.
CHECK = ("`DATA/train`: one file for a pair, the left half clean", "derain data check DATA/train --layout clean-left")
TRAIN = (
    "`python train.py` in `base/rain100H/config`",
    "derain train jdnet --data DATA/train data.layout=clean-left 'validation.pairs=[DATA/test]' checkpoint.epochs=10 "
    "trainer.precision=fp32 -o RUN",
)
RESUME = ("`python train.py` again, to go on", "derain train --resume --out RUN")
EVAL = (
    "`python eval.py`",
    "derain eval --data DATA/test --layout clean-left --model RUN/weights.safetensors --protocol float "
    "--precision fp32",
)
SHOW = (
    "`python show.py`",
    "derain eval --data DATA/test --layout clean-left --model RUN/weights.safetensors --protocol float "
    "--precision fp32 --save-images ../showdir",
)
PACK = (
    "`default='net_x_epoch'` in `eval.py` or `show.py`",
    "derain models pack RUN/checkpoints/step-STEP.ckpt --fp32 -o net_x_epoch.safetensors",
)
IMPORT = (
    "`../models/latest_net` of the authors, or from their `train.py`",
    "derain models import ../models/latest_net --name jdnet-authors",
)
REAL = (
    "`python show.py` with `pic_is_pair = False`",
    "derain run DATA/train-small -o ../showdir --model jdnet-authors --precision fp32",
)
VARIANTS = {
    "jdnet-light-rain": "`base/rain100L`",
    "jdnet-r1": "`ablation/r1`",
    "jdnet-r2": "`ablation/r2`",
    "jdnet-mae": "`diff_loss/mae`",
    "jdnet-mse": "`diff_loss/mse`",
}
#: Two steps instead of 150,000, all 32 units.
TINY = (
    "phases=[{size: 64, batch: 2}]",
    "schedule.epochs=1",
    "checkpoint.epochs=1",
    "validation.every=1",
    "trainer.workers=0",
)


def halves(path):
    image = np.asarray(Image.open(path))
    return image[:, image.shape[1] // 2 :], image[:, : image.shape[1] // 2]


def derained(network, rainy):
    """What eval.py measures: float, without quantization."""
    image = torch.from_numpy(rainy.transpose(2, 0, 1) / np.float32(255))[None]
    with torch.inference_mode():
        return network.eval()(image)[0].clamp(0, 1)


def zero_padded_ssim(one, other):
    """SSIM as in JDNet's cal_ssim.py: Gaussian 11×11, σ 1.5, zero padding, mean over all pixels and channels."""
    line = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2

    def mean(x):
        return F.conv2d(x[:, None], window[None, None].to(x.dtype), padding=5)[:, 0]

    a, b = mean(one), mean(other)
    va, vb, cov = mean(one * one) - a * a, mean(other * other) - b * b, mean(one * other) - a * b
    return (((2 * a * b + 1e-4) * (2 * cov + 9e-4)) / ((a * a + b * b + 1e-4) * (va + vb + 9e-4))).mean().item()


def test_the_readme_from_data_to_score(follow, tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    monkeypatch.chdir(tmp_path / "config")
    data, run = tmp_path / "rain100H", tmp_path / "run"
    write_halves(data / "train")
    test = write_halves(data / "test", 2)
    places = {"DATA": data, "RUN": run}
    assert "4 pairs" in follow(CHECK, **places)

    # python train.py; then again
    assert "(side by side, clean-left)" in follow(TRAIN, *TINY, **places)
    assert [p.name for p in run.glob("checkpoints/step-*")] == ["step-0000002.ckpt"]
    assert follow(RESUME, "--steps", 3, **places)
    steps = [row for row in read_metrics(run) if row["loss"]]
    assert len(steps) == 3

    # python eval.py
    def scores(step, *words):
        follow(step, *words, "--json", tmp_path / "scores.json", "--overwrite", **places)
        return json.loads((tmp_path / "scores.json").read_text())["summary"][0]

    row = scores(EVAL)
    network = load_model(run / "weights.safetensors")
    expected = {}
    for path in sorted(test.iterdir()):
        rainy, clean = halves(path)
        truth = torch.from_numpy(clean.transpose(2, 0, 1) / np.float32(255))
        expected[path.stem] = output = derained(network, rainy)
        mse = ((output - truth).double() ** 2).mean().item()
        expected[path.stem, "psnr"] = -10 * np.log10(mse)
        expected[path.stem, "ssim"] = zero_padded_ssim(output.double(), truth.double())
    for metric in ("psnr", "ssim"):
        mean = np.mean([expected[stem, metric] for stem in ("1", "2")])
        assert row[metric] == pytest.approx(mean, abs=1e-3 if metric == "psnr" else 1e-5)
    print("trained:", row["psnr"])

    # python show.py: one derained image for each double image, rounded
    assert scores(SHOW)["psnr"] == row["psnr"]
    shown = tmp_path / "showdir" / "weights.safetensors" / "test"
    assert [p.name for p in sorted(shown.iterdir())] == ["1.png", "2.png"]
    for stem in ("1", "2"):
        rounded = np.rint(expected[stem].permute(1, 2, 0).numpy().astype(np.float64) * 255)
        assert np.abs(np.asarray(Image.open(shown / f"{stem}.png")) - rounded).max() <= 1

    # the network of an epoch
    follow(PACK, STEP="0000002", **places)
    earlier = scores(EVAL, "--model", "net_x_epoch.safetensors")  # the last --model counts
    assert earlier["model"] == "net_x_epoch.safetensors"

    # a file as the authors' train.py writes it, and real images without a clean half
    state = {f"module.{key}": value for key, value in fake_jdnet(2).items()}
    (tmp_path / "models").mkdir()
    optimizer = {"state": {0: {"step": 25, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 5e-4, "params": [0]}]}
    torch.save({"net": state, "clock_net": 25, "opt_net": optimizer}, tmp_path / "models" / "latest_net")
    assert "jdnet" in follow(IMPORT)
    real = write_image(data / "train-small" / "street.png", rainy_scene(2))
    assert "street.png" in follow(REAL, **places)
    rounded = np.rint(
        derained(load_model("jdnet-authors"), np.asarray(Image.open(real))).permute(1, 2, 0).double().numpy() * 255
    )
    assert np.abs(np.asarray(Image.open(tmp_path / "showdir" / "street.png")) - rounded).max() <= 1


@pytest.mark.parametrize("recipe", VARIANTS)
def test_the_other_folders_are_recipes(follow, tmp_path, recipe):
    write_halves(tmp_path / "train")
    step = (VARIANTS[recipe], f"derain train {recipe} --data DATA/train data.layout=clean-left")
    out = follow(step, "phases=[{size: 64, batch: 2}]", "trainer.workers=0", "--dry-run", DATA=tmp_path)
    assert {"jdnet-mae": "l1:", "jdnet-mse": "mse:"}.get(recipe, "ssim:") in out
    counts = {"jdnet-r1": "4,292,323", "jdnet-r2": "4,656,867"}  # measured on the authors' code
    assert f"{counts.get(recipe, '4,681,859')} parameters" in out
