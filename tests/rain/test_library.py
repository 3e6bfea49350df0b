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


def test_the_gain_of_a_layer_is_uniform_in_its_range(tmp_path):
    Image.fromarray(np.full((40, 40), 100, np.uint8)).save(tmp_path / "flat.png")
    library = LayerLibrary(tmp_path, gain=(0.5, 1.5))
    generator = rng(3)
    gains = np.array([float(library.sample((8, 8), generator).max()) * 2.55 for _ in range(400)])
    assert np.histogram(gains, bins=4, range=(0.5, 1.5))[0] == pytest.approx([100] * 4, abs=35)
    assert ((gains >= 0.5) & (gains <= 1.5)).all()
    assert LayerLibrary(tmp_path).gain == (0.92, 1.08), "near 1 unless it is set"


def test_a_layer_is_neither_rotated_nor_resized(folder):
    """The spectrum of the rain keeps its direction and width: column and row differences are those of the file."""
    image = np.asarray(Image.open(folder / "1.png"), np.float32) / 255
    crop = LayerLibrary(folder, gain=(1, 1)).sample((320, 500), rng(2))
    for axis in (0, 1):
        assert np.abs(np.diff(crop, axis=axis)).sum() == pytest.approx(np.abs(np.diff(image, axis=axis)).sum())


def test_layers_are_reproducible_by_their_seed(folder):
    library = LayerLibrary(folder)
    first, second = (library.sample((64, 64), rng(9)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, library.sample((64, 64), rng(10)))
