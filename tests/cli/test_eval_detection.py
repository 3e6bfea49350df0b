"""``derain eval-detection``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

from support.detectors import brightness_detector


@pytest.fixture
def boxed(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    (tmp_path / "set/classes.yaml").write_text("names: [scene]\n")
    for number, photo in enumerate((data.astronaut()[:96, :128], data.chelsea()[:96, :128], data.coffee()[:96, :128])):
        Image.fromarray(np.ascontiguousarray(photo)).save(tmp_path / f"set/images/{number}.png")
        (tmp_path / f"set/labels/{number}.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "set/labels/2.txt").write_text("0 0.5 0.5 1 1\n7 0.5 0.5 1 1\n")
    detector = brightness_detector(tmp_path / "bright.onnx", (64, 64))
    detector.with_suffix(".yaml").write_text(
        "{family: fastestdet, size: [64, 64], scale: 0.00392156862745098, resize: stretch, classes: [scene]}"
    )
    return tmp_path


def test_everything_is_written(boxed, command, small_weight):
    outputs = {kind: boxed / f"out.{kind}" for kind in ("json", "csv", "html", "png")}
    options = [
        "--json",
        outputs["json"],
        "--csv",
        outputs["csv"],
        "--report",
        outputs["html"],
        "--sheet",
        outputs["png"],
    ]
    code, out, err = command(
        "eval-detection",
        boxed / "set",
        "--detector",
        boxed / "bright.onnx",
        "--model",
        f"{small_weight},none",
        *options,
    )
    assert code == 1, "one label is faulty"
    assert err.count("error:") == 1
    assert "class 7 is not one of the 1 classes" in err
    assert "mAP50" in out
    record = json.loads(outputs["json"].read_text())
    assert list(record["conditions"]) == ["clean", "rainy", str(small_weight)]
    assert record["conditions"]["clean"]["map50"] == pytest.approx(1)
    assert record["images"] == 3
    assert outputs["csv"].read_text().splitlines()[0].startswith("condition,mAP50")
    page = outputs["html"].read_text()
    assert page.count("data:image/jpeg;base64") == 3
    assert "http" not in page.replace("http-equiv", "")
    width, height = Image.open(outputs["png"]).size
    assert (width, height) == (4 * (128 + 6), 3 * (96 + 8))
    code, _, err = command("eval-detection", boxed / "set", "--detector", boxed / "bright.onnx", *options)
    assert code == 1
    assert "exists already" in err


def test_faults_are_one_line(boxed, command):
    for arguments, words in (
        ((boxed / "nowhere", "--detector", boxed / "bright.onnx"), "no labeled boxes"),
        ((boxed / "set", "--detector", "nothing"), "not a detector"),
    ):
        code, _, err = command("eval-detection", *arguments)
        assert (code, err.count("\n")) == (1, 1)
        assert words in err
