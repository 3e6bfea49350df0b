"""COCO150 and CityScape150 from small folders in the layout of COCO and Cityscapes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

from derain.arrays import to_float, to_uint8
from derain.data.boxes import find_boxes
from derain.data.labels import find_labeled
from derain.data.paper_sets import CITYSCAPES_CLASSES, CITYSCAPES_IDS, make_set
from derain.errors import InputError, OutputError
from derain.rain import apply_rain, sample_rain


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(array)).save(path)


@pytest.fixture
def coco(tmp_path):
    photo = data.astronaut()
    records, annotations = [], []
    for number in range(6):
        save(photo[number : number + 40, :50], tmp_path / f"coco/val2017/{number:012d}.jpg")
        records.append({"id": number, "file_name": f"{number:012d}.jpg", "width": 50, "height": 40})
        if number:  # the first has no objects
            annotations.append({"id": number, "image_id": number, "category_id": 18, "bbox": [1, 2, 10, 11]})
    content = {"images": records, "annotations": annotations, "categories": [{"id": 18, "name": "dog"}]}
    (tmp_path / "coco/annotations").mkdir()
    (tmp_path / "coco/annotations/instances_val2017.json").write_text(json.dumps(content))
    return tmp_path / "coco"


def test_coco150(coco, tmp_path):
    manifest = make_set("coco150", coco, tmp_path / "out", seed=4, count=3)
    found = find_boxes(tmp_path / "out" / "instances.json")
    assert found.classes == ("dog",)
    assert [image.path.name for image in found.images] == [entry["image"].split("/")[1] for entry in manifest["images"]]
    assert all(len(image.boxes) == 1 for image in found.images)
    clean = np.asarray(Image.open(tmp_path / "out" / manifest["images"][1]["image"]))
    rng = np.random.default_rng([4, 1])
    expected = to_uint8(apply_rain(to_float(clean), sample_rain("heavy", rng), rng))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / manifest["images"][1]["rainy"])), expected)
    assert make_set("coco150", coco, tmp_path / "again", seed=4, count=3) == manifest
    assert make_set("coco150", coco, tmp_path / "other", seed=5, count=3) != manifest


def test_cityscape150_has_training_numbers(tmp_path):
    photo = data.astronaut()
    ids = np.tile(np.arange(34, dtype=np.uint8).repeat(2), (20, 1))
    for number in range(3):
        save(photo[number : number + 20, :68], tmp_path / f"city/leftImg8bit/val/bonn/b_{number}_leftImg8bit.png")
        save(ids, tmp_path / f"city/gtFine/val/bonn/b_{number}_gtFine_labelIds.png")
    make_set("cityscape150", tmp_path / "city", tmp_path / "out", count=2)
    pairs = find_labeled(tmp_path / "out")
    assert len(pairs) == 2
    labels = np.asarray(Image.open(sorted((tmp_path / "out/labels").iterdir())[0]))
    for column in range(34):
        expected = CITYSCAPES_IDS.index(column) if column in CITYSCAPES_IDS else 255
        assert (labels[:, 2 * column] == expected).all()
    assert len(CITYSCAPES_CLASSES) == len(CITYSCAPES_IDS) == 19


def test_faults(coco, tmp_path):
    with pytest.raises(InputError, match="5 labeled images, 150 are needed"):
        make_set("coco150", coco, tmp_path / "out")
    with pytest.raises(InputError, match="not Cityscapes"):
        make_set("cityscape150", coco, tmp_path / "out")
    with pytest.raises(OutputError, match="not empty"):
        make_set("coco150", coco, coco)
