"""How results become integers: rounded, or truncated as the authors' scripts do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from derain import Derainer
from derain.arrays import QUANTIZERS
from derain.cli import options
from derain.errors import InputError
from derain.images import from_pil, read
from derain.runtime.base import UNLISTED


class Brighter:
    """A synthetic model: each pixel brighter by a fraction of an 8-bit level of its own."""

    name, device, precision, info = "brighter", "cpu", "fp32", UNLISTED

    def __init__(self, levels: np.ndarray) -> None:
        self.levels = np.float32(levels.transpose(2, 0, 1))

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return batch + self.levels / np.float32(255)


@pytest.fixture(scope="module")
def image(photo):
    return np.clip(photo, 4, 250)


@pytest.fixture(scope="module")
def levels(image):
    return np.random.default_rng(0).uniform(0.01, 0.99, image.shape)


def test_names_of_the_command_are_the_functions():
    assert options.QUANTIZERS == QUANTIZERS


def test_truncated_results_are_half_a_level_darker(image, levels):
    rounded, truncated = (Derainer("x", runtime=Brighter(levels), quantizer=q)(image) for q in QUANTIZERS)
    np.testing.assert_array_equal(truncated, image)
    clear = np.abs(levels - 0.5) > 1e-3
    np.testing.assert_array_equal(rounded[clear], (image + (levels > 0.5))[clear])
    assert (rounded.astype(float) - truncated).mean() == pytest.approx(0.5, abs=0.01)


def test_every_kind_of_image_is_truncated(image, levels, tmp_path):
    derainer = Derainer("x", runtime=Brighter(levels), quantizer="truncate")
    assert derainer.quantizer == "truncate"
    Image.fromarray(image).save(tmp_path / "x.png")
    for found in (derainer(tmp_path / "x.png").array(), derainer(Image.fromarray(image))):
        np.testing.assert_array_equal(found, image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert torch.equal(derainer(tensor), tensor)
    deep = derainer(image.astype(np.uint16) * 257)
    difference = deep.astype(float) / 257 - image - levels
    assert difference.max() < 0.001
    assert difference.mean() == pytest.approx(-0.5 / 257, rel=0.1)
    floats = image / np.float32(255)
    np.testing.assert_allclose(derainer(floats), floats + levels / 255, atol=1e-6)  # no quantizer for floats


def test_new_pixels_of_a_picture_are_truncated_at_its_depth(image, levels):
    pixels = np.float32((image + levels) / 255)
    color = from_pil(Image.fromarray(image)).with_pixels(pixels, "truncate")
    np.testing.assert_array_equal(color.array(), image)
    gray = from_pil(Image.fromarray(image[..., 0])).with_pixels(pixels[..., :1].repeat(3, axis=2), "truncate")
    np.testing.assert_array_equal(gray.array(), image[..., 0])


def test_the_fingerprint_tells_them_apart_and_others_are_refused(small_weight):
    rounded, truncated = (Derainer(small_weight, quantizer=q).fingerprint for q in QUANTIZERS)
    assert rounded != truncated
    with pytest.raises(InputError, match="round or truncate"):
        Derainer(small_weight, quantizer="floor")


def test_run_truncates_what_it_writes(command, small_weight, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "x.png")
    for quantizer in QUANTIZERS:
        arguments = ("run", tmp_path / "x.png", "-o", tmp_path / f"{quantizer}.png", "--quantizer", quantizer)
        assert command(*arguments)[0] == 0
    floats = Derainer(small_weight)(image / np.float32(255))
    rounded, truncated = (read(tmp_path / f"{q}.png").array() for q in QUANTIZERS)
    np.testing.assert_array_equal(truncated, np.uint8(255 * floats))
    inside = (floats > 0) & (floats < 1)
    assert (rounded.astype(float) - truncated)[inside].mean() == pytest.approx(0.5, abs=0.02)
    assert command("run", tmp_path / "x.png", "--quantizer", "floor")[0] == 2
