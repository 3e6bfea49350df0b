"""Detectors: what goes in, how the output is decoded, what is rejected."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from derain.detection import DETECTORS, open_detector
from derain.detection.base import COCO_CLASSES, Detection, DetectorSpec, select
from derain.errors import ModelError
from support.detectors import constant_detector

SPEC = DetectorSpec(family="yolox", size=(64, 32), classes=("cat", "dog"), score_threshold=0.1)


def cells(size):
    return sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))


@pytest.fixture
def yolox(tmp_path):
    """One dog: the cell in row 1, column 3 of the finest grid, which is 8 columns wide."""
    output = np.zeros((cells(SPEC.size), 7))
    output[1 * 8 + 3] = [0.5, 0.25, np.log(2), np.log(1.5), 0.8, 0.1, 0.9]
    return constant_detector(tmp_path / "toy.onnx", SPEC.size, output)


def describe(file, **changes):
    fields = {**SPEC.model_dump(mode="json"), **changes}
    file.with_suffix(".yaml").write_text(yaml.safe_dump(fields))
    return str(file)


@pytest.mark.parametrize("scale", [1, 2])
def test_yolox_boxes_are_in_pixels_of_the_image(yolox, scale):
    detector = open_detector(describe(yolox))
    found = detector(np.zeros((32 * scale, 64 * scale, 3), np.uint8))
    # Center (3.5, 1.25) cells of 8 pixels, size (2, 1.5) cells.
    assert len(found) == 1
    assert found[0].category == 1
    assert found[0].score == pytest.approx(0.72, abs=1e-6)
    box = np.array([found[0].x, found[0].y, found[0].width, found[0].height]) / scale
    np.testing.assert_allclose(box, [28 - 8, 10 - 6, 16, 12], rtol=1e-5)


def test_a_letterbox_keeps_proportions():
    image = np.full((20, 20, 3), [10, 20, 30], np.uint8)
    batch, across, down = SPEC.prepare(image)
    assert batch.shape == (1, 3, 32, 64)
    assert across == down == 32 / 20
    np.testing.assert_array_equal(
        batch[0, :, :, :32], np.float32([10, 20, 30])[:, None, None].repeat(32, 1).repeat(32, 2)
    )
    assert (batch[0, :, :, 32:] == 114).all()


def test_colors_scale_mean_and_deviation():
    spec = DetectorSpec(
        family="yolox",
        size=(8, 8),
        color="bgr",
        scale=1 / 255,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.25, 2),
        resize="stretch",
    )
    batch, across, down = spec.prepare(np.full((4, 16, 3), [255, 0, 51], np.uint8))
    np.testing.assert_allclose(batch[0, :, 0, 0], [(0.2 - 0.1) / 0.5, (0 - 0.2) / 0.25, (1 - 0.3) / 2], rtol=1e-6)
    assert (across, down) == (0.5, 2)


def test_fastestdet_by_its_formulas(tmp_path):
    output = np.zeros((5 + 80, 22, 22))
    output[:, 3, 5] = 0
    output[:5, 3, 5] = [0.9, 0.3, -0.2, 0.4, -1.0]
    output[5 + 16, 3, 5] = 0.7
    file = constant_detector(tmp_path / "fast.onnx", (352, 352), output)
    (found, *rest) = open_detector(f"fastestdet:{file}")(np.zeros((176, 704, 3), np.uint8))
    assert not rest
    assert COCO_CLASSES[found.category] == "dog"
    assert found.score == pytest.approx(0.9**0.6 * 0.7**0.4)
    width, height = (size / (1 + np.exp(-b)) for size, b in ((704, 0.4), (176, -1.0)))
    x, y = (5 + np.tanh(0.3)) / 22 * 704, (3 + np.tanh(-0.2)) / 22 * 176
    np.testing.assert_allclose(
        [found.x, found.y, found.width, found.height], [x - width / 2, y - height / 2, width, height], rtol=1e-4
    )


def test_suppression_is_within_a_class():
    boxes = np.float32([[0, 0, 10, 10], [1, 0, 10, 10], [1, 0, 10, 10], [30, 30, 5, 5]])
    scores, categories = np.float32([0.9, 0.8, 0.7, 0.05]), np.array([0, 0, 1, 1])
    found = select(boxes, scores, categories, SPEC, (2, 1))
    assert found == [
        Detection(0, pytest.approx(0.9), 0, 0, 5, 10),
        Detection(1, pytest.approx(0.7), 0.5, 0, 5, 10),
    ]


def test_what_does_not_fit_is_one_line(yolox, tmp_path):
    with pytest.raises(ModelError, match=r"no description toy\.yaml"):
        open_detector(str(yolox))
    with pytest.raises(ModelError, match=r"size\.0: "):
        open_detector(describe(yolox, size=[1]))
    with pytest.raises(ModelError, match="fix `size`"):
        open_detector(describe(yolox, size=[32, 32]))
    with pytest.raises(ModelError, match="does not fit family"):
        open_detector(describe(yolox, classes=["cat"]))(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ModelError, match="no such detector"):
        open_detector(f"fastestdet:{tmp_path / 'none.onnx'}")
    (tmp_path / "bad.onnx").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="can run"):
        open_detector(f"fastestdet:{tmp_path / 'bad.onnx'}")
    with pytest.raises(ModelError, match="not a detector"):
        open_detector("yolov99")


def test_the_named_descriptions_are_complete():
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES)) == 80
    assert {spec.family for spec in DETECTORS.values()} == {"yolox", "fastestdet"}


def test_a_detector_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, d_model=16, encoder_layers=1,
        decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
        num_queries=5, id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
        backbone_config=transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], out_features=["stage4"]
        ),
    )  # fmt: skip
    transformers.set_seed(0)
    transformers.DetrForObjectDetection(config).save_pretrained(tmp_path / "detr")
    transformers.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(tmp_path / "detr")
    detector = open_detector(str(tmp_path / "detr"))
    assert detector.classes == ("cat", "dog")
    found = detector(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    assert 0 < len(found) <= 5
    assert all(0 <= d.score <= 1 and 0 <= d.category <= 1 for d in found)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
