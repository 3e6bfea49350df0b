"""Training data: right result, or one line that says what to give instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from derain.data.recognize import open_pairs, recognize
from derain.errors import InputError
from support.scenes import (
    clean_scene,
    rainy_scene,
    write_halves,
    write_image,
    write_pairs,
    write_photos,
)


def refused(path: Path, layout: str = "auto") -> str:
    with pytest.raises(InputError) as caught:
        recognize(path, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pairs_and_photographs(tmp_path):
    found = recognize(write_pairs(tmp_path / "set"))
    assert (found.layout, found.images) == ("auto", 3)
    assert "3 pairs (two folders, input and target)" in found.describe()
    found = recognize(write_photos(tmp_path / "photos"))
    assert (found.pairs, found.images) == (None, 4)
    assert "4 clean photographs" in found.describe()
    write_image(tmp_path / "set" / "input" / "lonely.png", clean_scene(0))
    assert "1 files in no pair" in recognize(tmp_path / "set").describe()


def test_clean_halves_of_pairs_are_photographs(tmp_path):
    write_pairs(tmp_path)
    assert recognize(tmp_path / "target").pairs is None
    named = write_pairs(tmp_path / "named", rainy="x/rain-{}.png", clean="y/norain-{}.png")
    assert recognize(named / "y").pairs is None


@pytest.mark.parametrize("side", ["left", "right"])
def test_double_images_need_a_layout(tmp_path, side):
    """JDNet's files, and Rain800's."""
    folder = write_halves(tmp_path / "train", clean=side)
    assert all(f"data.layout=clean-{half}" in refused(folder) for half in ("left", "right"))
    pairs = recognize(folder, f"clean-{side}").pairs
    rainy, clean = pairs.pairs[1].read()
    np.testing.assert_array_equal(clean, clean_scene(1))
    np.testing.assert_array_equal(rainy, rainy_scene(1))
    assert pairs.pairs[1].size() == (64, 96)


def test_rainy_left_is_clean_right(tmp_path):
    folder = write_halves(tmp_path, clean="right")
    one, other = (open_pairs(folder, layout).pairs[0].read() for layout in ("rainy-left", "clean-right"))
    np.testing.assert_array_equal(one, other)


def test_a_layout_of_halves_does_not_make_halves_of_photographs(tmp_path):
    assert "different scenes" in refused(write_photos(tmp_path), "clean-left")


def test_a_layout_of_halves_leaves_named_pairs_alone(tmp_path):
    found = recognize(write_pairs(tmp_path), "clean-left")
    assert (found.layout, found.pairs.layout) == ("auto", "two folders, input and target")


def test_train_and_test_of_double_images(tmp_path):
    """--data rain100H of JDNet."""
    for part in ("train", "test"):
        write_halves(tmp_path / part)
    for layout in ("auto", "clean-left"):
        message = refused(tmp_path, layout)
        assert message.endswith(f"give one of {tmp_path / 'train'}, {tmp_path / 'test'}")


def test_three_splits_of_two_rains(tmp_path):
    """--data data/ of SGINet."""
    names = {"rainy": "rain/norain-{}.png", "clean": "norain/norain-{}.png"}
    for split in ("train", "test", "val"):
        for rain in ("100mm", "200mm"):
            write_pairs(tmp_path / split / rain, 2, **names)
    message = refused(tmp_path)
    assert "several splits (test, train, val)" in message
    assert message.index("train/100mm") < message.index("test/100mm"), "those to train on come first"
    assert "train/200mm" in message
    assert len(open_pairs(tmp_path / "train" / "100mm").pairs) == 2


def test_splits_with_rain_and_norain_names(tmp_path):
    for split in ("train", "test"):
        write_pairs(tmp_path / split, 2, rainy="rain-{}.png", clean="norain-{}.png")
    assert "several splits" in refused(tmp_path)
    assert len(open_pairs(tmp_path / "train").pairs) == 2
    shutil.rmtree(tmp_path / "test")
    assert len(open_pairs(tmp_path).pairs) == 2, "one split is not ambiguous"


def test_splits_inside_of_two_folders(tmp_path):
    for split in ("train", "val"):
        write_pairs(tmp_path, 2, rainy=f"input/{split}/{{}}.png", clean=f"target/{split}/{{}}.png")
    assert "derain data import" in refused(tmp_path)


def test_splits_of_photographs(tmp_path):
    for split in ("train", "test"):
        write_photos(tmp_path / split)
    assert "several splits" in refused(tmp_path)
    assert recognize(tmp_path / "train").images == 4


@pytest.mark.parametrize(
    ("below", "words"),
    [
        ("input/{}.png", "no clean ones beside it"),
        ("target/{}.png", "for clean photographs give"),
        ("rain-{}.png", "rainy images by their names"),
    ],
)
def test_half_a_set_is_refused(tmp_path, below, words):
    write_pairs(tmp_path, rainy=below, clean=below)
    assert words in refused(tmp_path)


@pytest.mark.parametrize("rainy", ["rain/{}.png", "rain/X2/{}.png"])
def test_rainy_images_of_pairs_are_refused(tmp_path, rainy):
    write_pairs(tmp_path, rainy=rainy, clean="norain/{}.png")
    assert f"give {tmp_path}" in refused((tmp_path / rainy).parent)


def test_names_that_do_not_match_are_refused(tmp_path):
    write_pairs(tmp_path, rainy="input/a{}.png", clean="target/b{}.png")
    assert "no names that match" in refused(tmp_path)


def test_pairs_under_unknown_folder_names_are_refused(tmp_path):
    write_pairs(tmp_path / "unknown", rainy="wet/{}.png", clean="sunny/{}.png")
    assert "derain data import" in refused(tmp_path / "unknown")
    for i in range(3):
        write_image(tmp_path / "sets" / "one" / f"{i}.png", clean_scene(i))
        write_image(tmp_path / "sets" / "two" / f"{i}.png", clean_scene(i + 3))
    assert recognize(tmp_path / "sets").images == 6, "other scenes under the same names are photographs"


def test_list_files(tmp_path):
    write_pairs(tmp_path, rainy="a/{}.png", clean="b/{}.png")
    (tmp_path / "list.txt").write_text("a/1.png b/1.png\n/a/3.png /b/3.png\n")
    assert [p.name for p in open_pairs(tmp_path / "list.txt").pairs] == ["a/1", "a/3"]
    assert recognize(tmp_path / "list.txt", "clean-left").layout == "auto"
    (tmp_path / "wrong.txt").write_text("a/1.png\n")
    assert "no pair of existing images" in refused(tmp_path / "wrong.txt")


def test_nothing_there(tmp_path):
    assert "neither photographs nor pairs" in refused(tmp_path)
    assert "no such folder" in refused(tmp_path / "none")
    with pytest.raises(InputError, match="no pairs recognized"):
        open_pairs(write_photos(tmp_path / "photos"))


def test_sets_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_DATA", str(tmp_path))
    write_pairs(tmp_path / "rain_100l" / "train", 2)
    write_pairs(tmp_path / "rain_100l" / "test", 1)
    found = recognize(Path("Rain100L"))
    assert (found.path, found.images) == (tmp_path / "rain_100l" / "train", 2)
    write_halves(tmp_path / "Rain800")
    found = recognize(Path("rain800"))
    assert (found.layout, found.images) == ("clean-left", 4)
    write_photos(tmp_path / "my photos")
    assert recognize(Path("My-Photos")).images == 4
    write_photos(tmp_path / "SIRR")
    assert "no clean images" in refused(Path("SIRR"))
    assert "DERAIN_DATA" in refused(Path("Rain12"))
