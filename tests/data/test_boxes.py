"""Labeled boxes from YOLO text files and COCO JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from derain.data.boxes import Box, find_boxes
from derain.errors import InputError


@pytest.fixture
def yolo(tmp_path):
    root = tmp_path / "yolo"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    (root / "classes.yaml").write_text("names:\n  1: dog\n  0: cat\n")
    for name in ("10", "9", "bare"):
        Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(root / "images" / f"{name}.png")
    (root / "labels/9.txt").write_text("1 0.5 0.25 0.25 0.5\n\n0 0.5 0.5 1 1\n")
    (root / "labels/10.txt").write_text("")
    return root


def test_yolo(yolo):
    found = find_boxes(yolo)
    assert found.classes == ("cat", "dog")
    assert [image.name for image in found.images] == ["9", "10"], "natural order"
    assert found.images[0].boxes_in_pixels(40, 20) == [Box(1, 15, 0, 10, 10), Box(0, 0, 0, 40, 20)]
    assert found.images[1].boxes_in_pixels(40, 20) == [], "an image without objects counts"
    assert len(found.problems) == 1
    assert "bare.png: no labels" in found.problems[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("5 .5 .5 .1 .1", "class 5 is not one of the 2 classes"),
        ("0 .5 .5 .1", "4 values instead of five"),
        ("0 .5 .5 1.5 .1", "beyond the image"),
        ("0 .5 .5 0 .1", "is empty"),
        ("cat .5 .5 .1 .1", "invalid literal"),
    ],
)
def test_a_faulty_yolo_line_is_reported_and_the_rest_is_kept(yolo, line, words):
    (yolo / "labels/9.txt").write_text(f"0 .5 .5 .1 .1\n{line}\n")
    found = find_boxes(yolo)
    assert len(found.images[0].boxes) == 1
    assert any("line 2" in problem and words in problem for problem in found.problems)


def test_coco(tmp_path):
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "gone.png"}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "iscrowd": 1},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 0, 4]},
            {"id": 3, "image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 4]},
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    found = find_boxes(tmp_path / "labels.json")
    assert found.classes == ("cat", "dog"), "numbered in the order of their ids"
    assert [image.boxes for image in found.images] == [(Box(1, 1, 2, 3, 4, crowd=True),)]
    assert len(found.problems) == 3


def test_what_is_not_labeled_is_one_line(tmp_path, yolo):
    with pytest.raises(InputError, match="no labeled boxes"):
        find_boxes(tmp_path / "nowhere")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InputError, match="not a COCO file"):
        find_boxes(tmp_path / "x.json")
    (yolo / "classes.yaml").unlink()
    with pytest.raises(InputError, match="no class names"):
        find_boxes(yolo)
