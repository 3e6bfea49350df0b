"""The README of Rain2Avoid followed line by line on a tiny set in the authors' layout, from data to score.

Each line is typed as it is there, with ``python X.py`` replaced by the command of derain, and with words appended that
choose the authors' mode and shorten training.
"""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from derain import load_model
from derain.rain2avoid import ldgp
from support.literal_nss import literal_references
from support.rainy import raining

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

#: (line of the README, our command, words appended)
AUTHORS = "--schedule authors"
LDGP = ('python ldgp.py --dataset="Rain100L" --patch_size=80 --kernel_size=10', "ldgp", "--mode authors")
SDR = (
    'python sdr.py --input_path="./dataset/Rain100L/input/" --ldgp_path="./dataset/Rain100L/ldgp/" '
    '--save_path "./dataset/Rain100L/sdr/" --fuse_save_path "./dataset/Rain100L/sdr(fuse)/"',
    "nss",
    "",
)
SDRL = (
    'python sdrl.py --rainy_data_path="./dataset/Rain100L/" --sdr_data_path="./dataset/Rain100L/sdr/" '
    '--result_path="./dataset/Rain100L/result/" --backbone="Unet"',
    "learn",
    AUTHORS + " --epoch 3",
)
ONLINE = (
    'python sdrl_online.py --rainy_data_path="./dataset/Rain100L/" --sdr_data_path="./dataset/Rain100L/sdr/" '
    '--result_path="./dataset/Rain100L/result/" --backbone="Unet"',
    "online",
    AUTHORS,
)
SDRL_ALL = (
    'python sdrl_all.py --rainy_data_path="./dataset/Rain100L/" --sdr_data_path="./dataset/Rain100L/sdr/" '
    '--result_path="./dataset/Rain100L/result/"',
    "train",
    AUTHORS + " --epoch 150",
)
TEST_ALL = (
    'python test_all.py --data_path="./dataset/Rain100L/" --model_path="./result_all/Rain100L/model.pkl" '
    '--result_path="./result_all/Rain100L/image/"',
    "infer",
    "--as-authors",
)
NAMES = ("1.png", "2.png")
SIDE = 80


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def follow(command, tmp_path, monkeypatch):
    """Types a line of the README in a folder with ``dataset/Rain100L/{input,target}``; gives what was printed."""
    monkeypatch.chdir(tmp_path)
    for folder in ("input", "target"):
        (tmp_path / "dataset" / "Rain100L" / folder).mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        for folder, image in zip(("input", "target"), raining(100, 100 + 60 * seed, SIDE, SIDE, seed), strict=True):
            Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(tmp_path / "dataset/Rain100L" / folder / name)

    def run(step, *more):
        line, name, words = step
        typed = shlex.split(line)
        assert typed[0] == "python"
        code, out, err = command("rain2avoid", name, *typed[2:], *words.split(), *more)
        assert code == 0, err
        return out

    return run


def test_the_readme_from_data_to_score(follow, command, tmp_path):
    root = tmp_path / "dataset" / "Rain100L"

    # 1. LDGP
    assert "2 done" in follow(LDGP)
    rainy = {name: pixels(root / "input" / name) for name in NAMES}
    for name in NAMES:
        np.testing.assert_array_equal(pixels(root / "ldgp" / name), ldgp(rainy[name], mode="authors"))
        assert (pixels(root / "bf" / name) > 10).sum() > (pixels(root / "ldgp" / name) > 10).sum()

    # 2. NSS
    assert follow(SDR).count("(map: dataset/Rain100L/ldgp/") == len(NAMES)
    literal = literal_references(rainy["1.png"], pixels(root / "ldgp" / "1.png"), 50)
    for number in range(50):
        np.testing.assert_array_equal(pixels(root / "sdr" / "1" / f"{number}.png"), literal[number])
    np.testing.assert_array_equal(pixels(root / "sdr(fuse)" / "1.png"), np.rint(np.mean(literal, axis=0)))

    # 3. SDRL: single, with each backbone, and online
    assert follow(SDRL).count("50 references of dataset/Rain100L/sdr/") == len(NAMES)
    learned = {name: pixels(root / "result" / name) for name in NAMES}
    for backbone in ("ResNet", "DnCNN", "Restormer", "DRSFormer"):
        line = SDRL[0].replace("Unet", backbone).replace("Rain100L/result", f"Rain100L/{backbone}")
        assert follow((line, "learn", AUTHORS), "--steps", 1).count("1 steps") == len(NAMES)
        assert pixels(root / backbone / "1.png").shape == (SIDE, SIDE, 3)
    assert follow(ONLINE, "--overwrite").count("new references; 100 steps") == len(NAMES)
    online = {name: pixels(root / "result" / name) for name in NAMES}
    assert all((learned[name] != online[name]).any() for name in NAMES)
    follow(SDRL, "--overwrite")
    for name in NAMES:
        np.testing.assert_array_equal(pixels(root / "result" / name), learned[name])

    # 3. SDRL: multiple. The authors' script writes model.pkl; ours a file that is then saved as theirs.
    assert "unet from 2 images" in follow(SDRL_ALL)
    network = load_model(root / "result" / "model.safetensors")
    optimizer = torch.optim.Adam(network.parameters())
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [100, 200], 0.5)
    (tmp_path / "result_all" / "Rain100L").mkdir(parents=True)
    state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    torch.save(state, tmp_path / "result_all" / "Rain100L" / "model.pkl")
    assert "2 done" in follow(TEST_ALL)
    for name in NAMES:
        values = torch.from_numpy(rainy[name].transpose(2, 0, 1) / np.float32(255))[None]
        with torch.no_grad():
            derained = network.train()(values)[0].permute(1, 2, 0).numpy()
        expected = (np.clip(derained, 0, 1) * np.float32(255)).astype(np.uint8)
        found = pixels(tmp_path / "result_all" / "Rain100L" / "image" / name)
        assert (found == expected).mean() > 0.99  # sums in another memory layout may cross a step of gray
        assert np.abs(found.astype(int) - expected).max() <= 1

    code, _, err = command("rain2avoid", "infer", root, "--model", "result_all/Rain100L/model.pkl", "-o", "evaluated")
    assert code == 0, err

    # Scores of all results in the protocol of the authors' script
    results = {
        "rainy": root / "input",
        "fused": root / "sdr(fuse)",
        "single": root / "result",
        "multiple": tmp_path / "result_all" / "Rain100L" / "image",
        "multiple-eval": tmp_path / "evaluated",
    }
    words = [word for name, folder in results.items() for word in ("--results", f"{name}={folder}")]
    scores = tmp_path / "scores.json"
    code, _, err = command("eval", "--data", root, *words, "--protocol", "rgb-uniform", "--json", scores)
    assert code == 0, err
    found = {row["model"]: row for row in json.loads(scores.read_text())["summary"]}
    for name, folder in results.items():
        pairs = [(pixels(root / "target" / n), pixels(folder / n)) for n in NAMES]
        psnr = np.mean([peak_signal_noise_ratio(*pair) for pair in pairs])
        ssim = np.mean([structural_similarity(*pair, channel_axis=2) for pair in pairs])
        assert found[name]["psnr"] == pytest.approx(psnr, abs=1e-3)
        assert found[name]["ssim"] == pytest.approx(ssim, abs=1e-4)
        print(f"{name}: {psnr:.2f} dB, {ssim:.3f}")
    assert found["fused"]["psnr"] > found["rainy"]["psnr"] + 0.5
    # 150 steps instead of 5,000; an untrained U-Net puts out nothing like the image.
    assert found["single"]["psnr"] > found["rainy"]["psnr"] - 0.5
    assert abs(found["multiple"]["psnr"] - found["multiple-eval"]["psnr"]) > 0.3
