"""Scores of sets: their sources, failures and summaries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from derain import Derainer
from derain.data.layouts import find_pairs
from derain.errors import InputError
from derain.evaluation.score import EXTRA_METRICS, ImageScore, Scores, from_folder, from_model, ranked, score


@pytest.fixture
def folder(photo, tmp_path):
    """Two pairs of 96×128; rainy images are 10 levels brighter."""
    clean = np.minimum(photo[:96, :128], 245)
    for kind, image in (("input", clean + 10), ("target", clean)):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for name in ("1", "2"):
            Image.fromarray(image).save(tmp_path / "set" / kind / f"{name}.png")
    return find_pairs(tmp_path / "set")


def test_existing_results_are_scored_by_name(folder):
    shown = []
    scores = score(
        from_folder(folder.root / "input"), folder, model="same", protocol="rgb", on_pair=lambda *p: shown.append(p)
    )
    assert [i.psnr for i in scores.images] == [i.psnr_rainy for i in scores.images]
    assert scores.images[0].psnr == pytest.approx(20 * math.log10(255 / 10))
    assert [name for name, *_ in shown] == ["1", "2"]
    rainy, derained, clean = shown[0][1:]
    assert np.array_equal(derained, rainy)
    assert (rainy - clean == 10).all()


def test_a_model_is_timed_and_what_fails_is_listed(folder, small_weight):
    (folder.root / "input" / "2.png").write_bytes(b"no image")
    steps = []
    scores = score(
        from_model(Derainer(small_weight)),
        folder,
        model="small",
        extras={"brisque": EXTRA_METRICS["brisque"]},
        on_step=lambda: steps.append(1),
    )
    (image,) = scores.images
    assert image.seconds > 0
    assert image.extra.keys() == {"brisque"}
    assert len(scores.failures) == 1
    assert "2.png" in scores.failures[0]
    assert len(steps) == 2
    assert scores.summary()["brisque"] == image.extra["brisque"]


def test_results_that_do_not_match_are_reported(folder, tmp_path, photo):
    with pytest.raises(InputError, match="no such folder"):
        from_folder(tmp_path / "none")
    results = tmp_path / "results"
    results.mkdir()
    Image.fromarray(photo[:50, :50]).save(results / "1.png")
    failures = score(from_folder(results), folder, model="x").failures
    assert "its size differs" in failures[0]
    assert "no result for it" in failures[1]
    Image.fromarray(photo[:50, :50]).save(results / "1.jpg")
    with pytest.raises(InputError, match="results for the same name"):
        from_folder(results)


def test_summary_excludes_infinite_and_unknown_values():
    scores = Scores("m", "d", "y", [_image("a", 30.0), _image("b", 34.0), _image("c", math.inf)])
    summary = scores.summary()
    assert (summary["psnr"], summary["psnr_infinite"], summary["n"]) == (32.0, 1, 3)
    assert summary["psnr_standard_error"] == pytest.approx(2)
    assert summary["seconds"] is None
    unknown = Scores("m", "d", "y", [_image("a", math.nan)]).summary()
    assert (unknown["psnr"], unknown["psnr_infinite"]) == (None, 0)


def test_worst_median_and_best_are_ranked_once_each():
    scores = Scores("m", "d", "y", [_image(name, psnr) for name, psnr in (("a", 32.0), ("b", 30.0), ("c", 31.0))])
    assert [(rank, i.name) for rank, i in ranked(scores)] == [("worst", "b"), ("median", "c"), ("best", "a")]
    assert [rank for rank, _ in ranked(Scores("m", "d", "y", scores.images[:1]))] == ["worst"]
    without_truth = [_image("a", math.nan, niqe=2.0), _image("b", math.nan, niqe=5.0), _image("c", math.nan, niqe=3.0)]
    assert [i.name for _, i in ranked(Scores("m", "d", "y", without_truth, extras=("niqe",)))] == ["b", "c", "a"]


def _image(name, psnr, **extra):
    return ImageScore(name, psnr, 0.9, 20.0, None, extra)
