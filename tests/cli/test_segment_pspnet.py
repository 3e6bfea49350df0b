"""PSPNet-101 from its authors' file, in the commands that take a segmenter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from derain.errors import ModelError
from derain.evaluation.segmentation import classify
from derain.segmentation import create_segmenter
from derain.segmentation.cityscapes import CITYSCAPES
from derain.weights.segmenters import load_segmenter


@pytest.fixture(scope="module")
def network():
    """PSPNet-101 with random weights; half precision, so that its file is small."""
    torch.manual_seed(1)
    return create_segmenter("pspnet101").half().float().eval()


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory) -> Path:
    """As hszhao/semseg saves it, with the auxiliary head and an optimizer's state."""
    state = {f"module.{key}": value.half() for key, value in network.state_dict().items()}
    state |= {"module.aux.4.weight": torch.zeros(19, 256, 1, 1), "module.aux.4.bias": torch.zeros(19)}
    path = tmp_path_factory.mktemp("pspnet") / "train_epoch_200.pth"
    torch.save({"epoch": 200, "state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.01}]}}, path)
    return path


@pytest.fixture(scope="module")
def street(photo, tmp_path_factory) -> Path:
    """Two rainy and clean images of 48×64 with Cityscapes' label numbers."""
    root = tmp_path_factory.mktemp("street")
    rng = np.random.default_rng(0)
    for n in (1, 2):
        clean = photo[n * 40 : n * 40 + 48, :64]
        images = {"norain": clean, "rain": np.maximum(clean, rng.integers(0, 255, clean.shape, np.uint8))}
        images["labels"] = rng.choice([0, 7, 11, 23, 26], (48, 64)).astype(np.uint8)
        for folder, image in images.items():
            (root / folder).mkdir(exist_ok=True)
            suffix = "_gtFine_labelIds" if folder == "labels" else "_leftImg8bit"
            Image.fromarray(image).save(root / folder / f"bonn_00000{n}_000019{suffix}.png")
    return root


def test_the_authors_file_is_the_network(network, checkpoint):
    trained = load_segmenter(checkpoint)
    assert trained.classes == tuple(CITYSCAPES)
    assert not trained.network.training
    for key, value in network.state_dict().items():
        assert torch.equal(trained.network.state_dict()[key], value)


def test_classes_are_written_in_cityscapes_colors(command, network, checkpoint, street, tmp_path):
    assert command("segment", street / "norain", "--segmenter", checkpoint, "-o", tmp_path / "out")[0] == 0
    colors = np.array(list(CITYSCAPES.values()))
    for path in sorted((street / "norain").iterdir()):
        expected = colors[classify(network, np.array(Image.open(path)))]
        assert np.array_equal(np.array(Image.open(tmp_path / "out" / path.name)), expected)


def test_rain_and_results_that_exist_are_measured(command, network, checkpoint, street, tmp_path):
    arguments = ("eval-segmentation", street, "--segmenter", checkpoint, "--json", tmp_path / "x.json")
    code, out, err = command(*arguments, "--results", f"ours={street / 'norain'}", "--results", street / "rain")
    assert (code, err) == (0, "")
    assert "their own rain" in " ".join(out.split())
    record = json.loads((tmp_path / "x.json").read_text())
    conditions = record["conditions"]
    assert list(conditions) == ["clean", "rainy", "ours", str(street / "rain")]
    recovery = conditions["ours"].pop("miou_recovery")
    assert recovery in (None, 1), "the images are the clean ones"
    assert conditions["clean"] == conditions["ours"]
    assert conditions[str(street / "rain")].pop("miou_recovery") in (None, 0)
    assert conditions["rainy"] == conditions[str(street / "rain")]
    assert (record["preset"], record["classes"]) == (None, list(CITYSCAPES))
    ids = {7: 0, 11: 2, 23: 10, 26: 13}
    right = total = 0
    for path in sorted((street / "rain").iterdir()):
        labels = np.array(Image.open(street / "labels" / path.name.replace("leftImg8bit", "gtFine_labelIds")))
        predicted = classify(network, np.array(Image.open(path)))
        for number, trained in ids.items():
            right += int((predicted[labels == number] == trained).sum())
            total += int((labels == number).sum())
    assert conditions["rainy"]["accuracy"] == pytest.approx(right / total)


def test_other_files_and_names_are_refused_in_a_line(command, network, street, tmp_path, labeled, segmenter):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="not a PSPNet of hszhao/semseg or SGINet"):
        load_segmenter(tmp_path / "other.pth")
    state = {key: value.half() for key, value in network.state_dict().items() if not key.startswith("layer3.22")}
    torch.save(state, tmp_path / "pspnet50.pth")
    with pytest.raises(ModelError, match=r"do not fit PSPNet-101 \(Missing key") as caught:
        load_segmenter(tmp_path / "pspnet50.pth")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no such file"):
        load_segmenter(tmp_path / "none.pth")
    for split, results, message in (
        (labeled, street / "rain", "add --rainy DIR"),
        (street, f"rainy={street / 'rain'}", "rainy is another column"),
        (street, street / "none", "no such folder"),
    ):
        code, _, err = command("eval-segmentation", split, "--segmenter", segmenter, "--results", results, "--count", 1)
        assert code == 1
        assert message in err
