"""The README of SGINet followed on a tiny set in the authors' layout: ``main.py``, ``test.py``, both tables' scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from derain import load_model
from derain.evaluation.segmentation import classify
from derain.segmentation import create_segmenter
from support.official import fake_sginet
from support.scenes import clean_scene, write_image, write_pairs
from support.training import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

#: Rows of the table in docs/seeds.md; typed in ``SGINet/src``.
CHECK = (
    "`SGINet/data/{train,test,val}/200mm/{rain,norain}/norain-NNN.png`",
    "derain data check ../data/train/200mm",
)
TRAIN = (
    "`python main.py --save 200mm --model sginet --scale 2 --epochs 200 --batch_size 4 --patch_size 512 --data_train "
    "RainHeavy --n_threads 0 --data_test RainHeavyTest --stage 1 --lr_decay 25 --gamma 0.2 --num_M 32 --num_Z 32 "
    "--data_range 1-2975/1-1525 --loss 1*SSIM+1*PER+1*SEG+0.01*MSE`",
    "derain train sginet-authors --data ../data/train/200mm 'validation.pairs=[../data/test/200mm]' "
    "validation.count=1525 'data.range=[1, 2975]' model.segmenter=initmodel/train_epoch_200_psp101.pth "
    "trainer.workers=0 -o ../experiment/200mm",
)
TEST = (
    "`python test.py --model sginet --model_dir ../experiment/200mm/model --data_path ../data/test/200mm/rain "
    "--save_path ../experiment/200mm/results`",
    "derain run ../data/test/200mm/rain -o ../experiment/200mm/results "
    "--model ../experiment/200mm/weights.safetensors --quantizer truncate --precision fp32",
)
IMPORT = (
    "`model_best.pt` and `pspnet_best.pt` of the authors in `../experiment/200mm/model`",
    "derain models import ../experiment/200mm/model/model_best.pt --name sginet-200mm",
)
OFFICIAL = (
    "the same `test.py` with the authors' files",
    "derain run ../data/test/200mm/rain -o ../experiment/200mm/results --model sginet-200mm "
    "--quantizer truncate --precision fp32",
)
SCORE = (
    "PSNR and SSIM of the tables (`statistic.m`)",
    "derain eval --data ../data/test/200mm --results ../experiment/200mm/results --protocol y-downsampled",
)
DERAIN_VAL = (
    "segmentation of the tables: the derained images of `val`",
    "derain run ../data/val/200mm/rain -o ../experiment/200mm/val --model sginet-200mm "
    "--quantizer truncate --precision fp32",
)
SEGMENT = (
    "mIoU and PA of the tables; `LABELS` are Cityscapes' by the images' names",
    "derain eval-segmentation ../data/val/200mm --labels LABELS --segmenter initmodel/train_epoch_200_psp101.pth "
    "--results SGINet=../experiment/200mm/val",
)
#: In place of the public weights of VGG-16, and to end after three steps of a narrow network.
TINY = (
    "features=random",
    "model.settings.width=4",
    "phases=[{size: 64, batch: 1}]",
    "schedule.epochs=1",
    "data.range=[1, 3]",
    "validation.every=2",
)
_LUMA = np.array([65.481, 128.553, 24.966]) / 255


def pixels(path):
    return np.asarray(Image.open(path))


def luma(image):
    """MATLAB's rgb2ycbcr of uint8."""
    return np.rint(image @ _LUMA + 16).astype(np.uint8)


def truncated(network, path):
    image = torch.from_numpy(pixels(path).transpose(2, 0, 1) / np.float32(255))[None]
    with torch.inference_mode():
        return network.eval()(image)[0].clamp(0, 1).permute(1, 2, 0).numpy() * np.float32(255)


@pytest.fixture
def segmenter(tmp_path):
    """PSPNet-101 with random weights, as hszhao/semseg saves it; half precision, so that its file is small."""
    torch.manual_seed(1)
    network = create_segmenter("pspnet101").half().float().eval()
    state = {f"module.{key}": value.half() for key, value in network.state_dict().items()}
    path = tmp_path / "SGINet" / "src" / "initmodel" / "train_epoch_200_psp101.pth"
    path.parent.mkdir(parents=True)
    torch.save({"epoch": 200, "state_dict": state}, path)
    return network


def test_the_readme_from_data_to_score(follow, segmenter, tmp_path, monkeypatch):
    root = tmp_path / "SGINet"
    monkeypatch.chdir(root / "src")
    for split, count in (("train", 4), ("test", 2), ("val", 2)):
        write_pairs(root / "data" / split / "200mm", count, "rain/norain-{}.png", "norain/norain-{}.png", size=(96, 64))
    rng = np.random.default_rng(0)
    for number in (1, 2):
        blocks = rng.integers(0, 19, (8, 12)).repeat(8, 0).repeat(8, 1)
        write_image(root / "labels" / f"norain-{number}.png", blocks.astype(np.uint8))
    run, results, test = root / "experiment/200mm", root / "experiment/200mm/results", root / "data/test/200mm"
    assert "4 pairs" in follow(CHECK)

    # main.py: pairs 1 to 3 of the training set; validation on the test set, as theirs
    out = follow(TRAIN, *TINY)
    assert "4 pairs (two folders, rain and norain)" in out
    steps = [row for row in read_metrics(run) if row["loss"]]
    assert len(steps) == 3
    for row in steps:  # the loss is that of --loss
        terms = {name: float(row[f"loss/{name}"]) for name in ("ssim", "perceptual", "csd", "mse")}
        total = terms["ssim"] + terms["perceptual"] + terms["csd"] + 0.01 * terms["mse"]
        assert float(row["loss"]) == pytest.approx(total, rel=1e-4)

    # test.py
    def check_results(network):
        for name in ("norain-1.png", "norain-2.png"):
            exact = truncated(network, test / "rain" / name)
            found = pixels(results / name)
            assert np.abs(found - exact + 0.5).max() < 0.51  # a value next to a whole number may fall to either side

    def check_scores(step):
        follow(step, "--json", root / "scores.json", "--overwrite")
        (row,) = json.loads((root / "scores.json").read_text())["summary"]
        pairs = [
            (luma(pixels(test / "norain" / n)), luma(pixels(results / n))) for n in ("norain-1.png", "norain-2.png")
        ]
        window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        assert row["psnr"] == pytest.approx(np.mean([peak_signal_noise_ratio(*pair) for pair in pairs]), abs=1e-3)
        # Images below 384 pixels are not reduced.
        assert row["ssim"] == pytest.approx(np.mean([structural_similarity(*p, **window) for p in pairs]), abs=1e-4)
        print(step[0], row["psnr"], row["ssim"])

    follow(TEST)
    check_results(load_model(run / "weights.safetensors"))
    check_scores(SCORE)

    # The same with files as the authors' main.py writes them
    (run / "model").mkdir()
    torch.save(fake_sginet(4), run / "model" / "model_best.pt")
    state = {f"module.{key}": value for key, value in segmenter.state_dict().items()}
    torch.save(state, run / "model" / "pspnet_best.pt")
    follow(IMPORT)
    follow(OFFICIAL, "--overwrite")
    check_results(load_model("sginet-200mm"))
    check_scores(SCORE)

    # The segmentation columns
    follow(DERAIN_VAL)
    follow(SEGMENT, "--json", root / "segmentation.json", LABELS=root / "labels")
    conditions = json.loads((root / "segmentation.json").read_text())["conditions"]
    assert list(conditions) == ["clean", "rainy", "SGINet"]
    truth = np.stack([pixels(root / "labels" / f"norain-{n}.png") for n in (1, 2)])
    folders = {"clean": root / "data/val/200mm/norain", "rainy": root / "data/val/200mm/rain", "SGINet": run / "val"}
    for name, folder in folders.items():
        found = np.stack([classify(segmenter, pixels(folder / f"norain-{n}.png")) for n in (1, 2)])
        unions = {k: ((found == k) | (truth == k)).sum() for k in range(19)}
        ious = [((found == k) & (truth == k)).sum() / unions[k] for k in range(19) if unions[k]]
        assert conditions[name]["accuracy"] == pytest.approx((found == truth).mean())
        assert conditions[name]["miou"] == pytest.approx(np.mean(ious))
    np.testing.assert_array_equal(clean_scene(0), pixels(folders["clean"] / "norain-1.png"))
