"""Streak images and rain layers from folders."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from derain.errors import InputError
from derain.rain import LayerLibrary, LibraryStreaks, RainSpec, StreakLibrary, StreakParams, render, render_streaks


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def folder(tmp_path):
    layer = render_streaks((320, 500), StreakParams(density=10, length=(30, 50), width=(2, 3)), rng())
    Image.fromarray((np.clip(layer, 0, 1) * 255).astype(np.uint8)).save(tmp_path / "1.png")
    return tmp_path


@pytest.mark.parametrize("kind", [StreakLibrary, LayerLibrary])
def test_an_empty_folder_raises(kind, tmp_path):
    with pytest.raises(InputError, match="no streak images"):
        kind(tmp_path)


def test_an_unreadable_image_raises(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(InputError, match=r"a\.png: not a readable image"):
        StreakLibrary(tmp_path).pick(rng())


def test_streaks_have_the_requested_size_and_range(folder):
    rotated = StreakLibrary(folder).sample((250, 260), rng(1), angle=20)
    assert rotated.shape == (250, 260)
    assert 0 <= rotated.min() <= rotated.max() <= 1


def test_a_spec_with_library_streaks_needs_the_library(folder):
    spec = RainSpec("light", (LibraryStreaks(0, 1, 0.5),))
    assert render(spec, (50, 50), rng(), StreakLibrary(folder)).max() <= 0.5
    with pytest.raises(ValueError, match="library"):
        render(spec, (50, 50), rng())


def test_layers_are_crops_of_the_image_or_of_its_mirror_image(folder):
    library = LayerLibrary(folder, gain=(1, 1))
    image = np.asarray(Image.open(folder / "1.png"), np.float32) / 255
    crop = library.sample((300, 480), rng())
    crops = [view[y : y + 300, x : x + 480] for view in (image, image[:, ::-1]) for y in range(21) for x in range(21)]
    assert any(np.array_equal(crop, candidate) for candidate in crops)
    assert library.sample((400, 600), rng()).shape == (400, 600), "continued by reflection"
