"""Average precision against cases computed by hand, and the three conditions."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from derain.data.boxes import Box, find_boxes
from derain.detection import open_detector
from derain.detection.base import Detection
from derain.errors import InputError
from derain.evaluation.conditions import recovery, versions
from derain.evaluation.detection import average_precision, draw_boxes, evaluate_detection
from support.detectors import brightness_detector


def test_average_precision_by_hand():
    # Two cats; the better detection misses, the next finds one. Precision 1/2 up to recall 1/2, nothing beyond.
    truth = [(100, 100, [Box(0, 10, 10, 20, 20), Box(0, 60, 60, 20, 20)])]
    detections = [[Detection(0, 0.9, 40, 10, 20, 20), Detection(0, 0.8, 10, 10, 20, 20)]]
    found = average_precision(truth, detections, ("cat", "dog"))
    # COCO interpolates at 101 recalls: 51 of them (0 to 0.5) have precision 0.5.
    assert found["map50"] == pytest.approx(51 / 101 * 0.5)
    assert found["ap50"] == {"cat": pytest.approx(51 / 101 * 0.5), "dog": None}
    assert found["map"] == pytest.approx(found["map50"]), "the box fits exactly at every IoU"


def test_thresholds_of_the_intersection_over_union():
    # 20 × 20 against the same moved by 5 pixels: IoU 15 / 25 = 0.6, found at the thresholds 0.5, 0.55 and 0.6.
    truth = [(100, 100, [Box(0, 10, 10, 20, 20)])]
    found = average_precision(truth, [[Detection(0, 0.5, 15, 10, 20, 20)]], ("cat",))
    assert found["map50"] == pytest.approx(1)
    assert found["map"] == pytest.approx(0.3)


def test_nothing_found_and_nothing_labeled():
    assert average_precision([(9, 9, [Box(0, 1, 1, 3, 3)])], [[]], ("cat",))["map50"] == 0
    assert average_precision([(9, 9, [])], [[Detection(0, 0.5, 1, 1, 3, 3)]], ("cat",))["ap50"] == {"cat": None}


@pytest.fixture
def gray(tmp_path):
    """Images of one gray with a box over all of it, and one that cannot be read."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "classes.yaml").write_text("names: [sky, cat]\n")
    for number, value in enumerate((40, 60, 80)):
        Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(tmp_path / f"images/{number}.png")
        (tmp_path / f"labels/{number}.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "images/9.png").write_bytes(b"rubbish")
    (tmp_path / "labels/9.txt").write_text("")
    return tmp_path


def brightness(tmp_path):
    file = brightness_detector(tmp_path / "bright.onnx", (40, 40))
    file.with_suffix(".yaml").write_text(
        "{family: fastestdet, size: [40, 40], scale: 0.00392156862745098, resize: stretch, classes: [sky]}"
    )
    return open_detector(str(file))


def test_conditions_share_images_and_rain_is_seeded(gray):
    seen = {}

    def on_image(index, boxes, views):
        seen[index] = {name: image for name, (image, _) in views.items()}
        assert boxes == [Box(0, 0, 0, 40, 40)]

    scores = evaluate_detection(
        brightness(gray), find_boxes(gray), {"blacken": lambda image: image * 0}, seed=3, on_image=on_image
    )
    assert (scores.images, len(scores.failures)) == (3, 1)
    assert "9.png" in scores.failures[0]
    assert scores.classes == ("sky",)
    for index, views in seen.items():
        assert (views["blacken"] == 0).all()
        expected = versions(views["clean"], {}, "heavy", 3, index)["rainy"]
        np.testing.assert_array_equal(views["rainy"], expected)
    metrics = scores.metrics()
    assert metrics["clean"]["map50"] == pytest.approx(1)
    assert metrics["blacken"]["map50"] == 0, "a score of 0 is below the threshold"
    assert metrics["blacken"]["map50_recovery"] is None, "rain cost nothing here"


def test_a_detector_of_other_classes_is_one_line(gray, tmp_path):
    (gray / "classes.yaml").write_text("names: [fish, bird]\n")
    with pytest.raises(InputError, match=r"knows none of the labels' classes \(fish, bird"):
        evaluate_detection(brightness(tmp_path), find_boxes(gray), {})


def test_recovery():
    assert recovery(0.8, 0.4, 0.7) == pytest.approx(0.75)
    assert recovery(0.8, 0.4, 0.3) == pytest.approx(-0.25)
    assert recovery(0.4, 0.4, 0.7) is None


def test_drawn_boxes_leave_the_image_and_weak_detections_alone():
    image = np.zeros((60, 80, 3), np.uint8)
    drawn = draw_boxes(image, [Box(0, 10, 20, 30, 30), Detection(0, 0.1, 50, 5, 20, 20)], ("cat",))
    assert not image.any()
    assert drawn[50, 10:40].any(axis=1).all()
    assert not drawn[:, 50:].any()
