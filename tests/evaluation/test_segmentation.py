"""Segmentation scores of clean, rainy and derained images, on images of colored blocks."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from derain.data.scenes import find_scenes
from derain.evaluation.conditions import evenly_spaced
from derain.evaluation.results import ResultFolder
from derain.evaluation.segmentation import classify, evaluate_segmentation, sheet_row
from derain.metrics import mean_iou
from derain.weights.segmenters import TrainedSegmenter
from support.labels import COLORS, blocks, write_split


class NearestColor(torch.nn.Module):
    """Predicts the class whose color is nearest."""

    def forward(self, x):
        return -(x[:, None] * 255 - torch.from_numpy(COLORS).float()[None, :, :, None, None]).norm(dim=2)


SEGMENTER = TrainedSegmenter(NearestColor(), ("red", "green", "blue"))


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Three labeled images of 96×128."""
    return find_scenes(write_split(tmp_path_factory.mktemp("val"), {f"v{i}": blocks(i, side=16) for i in range(3)}))


def test_conditions_are_compared_on_the_same_rain(samples):
    shown = {}

    def perfect(rainy):
        """Knows the truth: finds the clean image of this rainy one."""
        clean_images = (sample.read(3)[0].astype(np.float32) / 255 for sample in samples)
        return min(clean_images, key=lambda clean: float(np.abs(clean - rainy).sum()))

    def on_image(_name, index, _labels, views):
        shown[index] = views

    models = {"perfect": perfect, "identity": lambda x: x}
    scores = evaluate_segmentation(SEGMENTER, evenly_spaced(samples, None), models, seed=4, on_image=on_image)
    metrics = scores.metrics()
    assert scores.images == 3
    assert metrics["clean"]["miou"] == metrics["perfect"]["miou"] == metrics["clean"]["accuracy"] == 1
    assert metrics["rainy"]["miou"] < 0.995
    assert torch.equal(scores.confusions["rainy"], scores.confusions["identity"])
    assert metrics["rainy"]["miou"] == mean_iou(scores.confusions["rainy"])
    other = evaluate_segmentation(SEGMENTER, evenly_spaced(samples, None), {}, seed=5)
    assert not torch.equal(other.confusions["rainy"], scores.confusions["rainy"])

    subset = {}
    evaluate_segmentation(
        SEGMENTER, evenly_spaced(samples, 2), {}, seed=4, on_image=lambda _n, i, _l, views: subset.update({i: views})
    )
    assert sorted(subset) == [0, 1]
    assert all(np.array_equal(subset[i]["rainy"][0], shown[i]["rainy"][0]) for i in subset)


def test_ready_made_rain_and_results_are_measured_as_they_are(tmp_path):
    """Rain that hides the left half; one method that finds nothing, one that is perfect."""
    split = write_split(tmp_path / "set", {f"{n}": blocks(n, side=16) for n in (1, 2)})
    (split / "images").rename(split / "norain")
    for folder in ("rain", "none", "perfect"):
        shutil.copytree(split / "norain", split / folder)
    for n in (1, 2):
        image = np.array(Image.open(split / "norain" / f"{n}.png"))
        image[:, :64] = COLORS[0]
        for folder in ("rain", "none"):
            Image.fromarray(image).save(split / folder / f"{n}.png")
    scenes = evenly_spaced(find_scenes(split), None)
    results = {name: ResultFolder(split / name) for name in ("none", "perfect")}
    scores = evaluate_segmentation(SEGMENTER, scenes, {}, results=results, seed=1)
    metrics = scores.metrics()
    assert list(metrics) == ["clean", "rainy", "none", "perfect"]
    assert {**metrics["clean"], "miou_recovery": 1.0} == metrics["perfect"]
    assert {**metrics["rainy"], "miou_recovery": 0.0} == metrics["none"]
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for n in (1, 2):
        truth = np.array(Image.open(split / "labels" / f"{n}.png"))
        predicted = np.where(np.arange(truth.shape[1]) < 64, 0, truth)
        for label, found in zip(truth[truth < 3], predicted[truth < 3], strict=True):
            expected[label, found] += 1
    assert torch.equal(scores.confusions["rainy"], expected)
    recalls = [expected[c, c] / expected[c].sum() for c in range(3)]
    assert metrics["rainy"]["class_accuracy"] == pytest.approx(np.mean(recalls))
    # Rainy images alone
    alone = evaluate_segmentation(
        SEGMENTER,
        evenly_spaced(find_scenes(split / "rain", labels=split / "labels", rainy=split / "rain"), None),
        {},
        results={"none": results["none"]},
    )
    assert list(alone.metrics()) == ["rainy", "none"]
    assert torch.equal(alone.confusions["rainy"], expected)
    (split / "none" / "2.png").unlink()
    del results["perfect"]
    partial = evaluate_segmentation(SEGMENTER, scenes, {}, results={"none": ResultFolder(split / "none")})
    assert (partial.images, len(partial.failures)) == (1, 1)
    assert "2.png: no result for it" in partial.failures[0]


def test_results_of_models_can_be_truncated(samples):
    seen = {}
    for quantizer in ("round", "truncate"):
        evaluate_segmentation(
            SEGMENTER,
            evenly_spaced(samples, 1),
            {"m": lambda rainy: np.full_like(rainy, 99.7 / 255)},
            quantizer=quantizer,
            on_image=lambda _n, _i, _l, views, q=quantizer: seen.update({q: views["m"][0]}),
        )
    assert (seen["round"].max(), seen["truncate"].max()) == (100, 99)


def test_unreadable_images_count_under_no_condition(samples, tmp_path):
    split = write_split(tmp_path, {"v0": blocks(0), "v1": blocks(1)})
    (split / "images" / "v1.png").write_bytes(b"no image")
    steps = []
    scores = evaluate_segmentation(
        SEGMENTER, evenly_spaced(find_scenes(split), None), {}, on_step=lambda: steps.append(1)
    )
    assert (scores.images, len(scores.failures), len(steps)) == (1, 1, 2)
    assert "v1.png" in scores.failures[0]
    assert int(scores.confusions["clean"].sum()) == int((blocks(0) < 3).sum())


def test_a_sheet_row_shows_images_above_their_classes(samples):
    image, _, labels = samples[0].read(3)
    predicted = classify(NearestColor(), image)
    known = labels < 3
    assert np.array_equal(predicted[known], labels[known])
    row = sheet_row(labels.astype(np.int64), {"clean": (image, predicted)})
    assert row.shape == (2 * 96, 2 * 128, 3)
    assert np.array_equal(row[:96, :128], image)
    assert (row[:96, 128:] == 255).all()
