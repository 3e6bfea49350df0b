"""Folder layouts: known ones are recognized in any spelling, others are rejected with a reason."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from derain.data import find_pairs
from derain.errors import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


KNOWN = {
    "plain": (["input/1.png", "input/10.png"], ["target/1.png", "target/10.png"]),
    "rain12": (["rainy/1.png", "rainy/2.png"], ["groundtruth/1.png", "groundtruth/2.png"]),
    "rain100 old release": (
        ["rain/X2/norain-001x2.png", "rain/X2/norain-012x2.png"],
        ["norain/norain-001.png", "norain/norain-012.png"],
    ),
    "rain100 flat": (["rain-001.png", "rain-100.png"], ["norain-001.png", "norain-100.png"]),
    "raintrain": (["rain-1.png", "rain-20.png"], ["norain-1.png", "norain-20.png"]),
    "rain1400": (["rainy_image/901_1.jpg", "rainy_image/901_14.jpg"], ["ground_truth/901.jpg"] * 2),
    "mixed extensions": (["lq/a1.JPG", "lq/b.jpeg"], ["gt/a1.png", "gt/b.bmp"]),
    "rain800": (["input/(1).jpg", "input/(2).jpg"], ["target/(1).jpg", "target/(2).jpg"]),
    "brackets and none": (["input/(1).jpg", "input/(2).jpg"], ["target/1.png", "target/2.png"]),
    "prenet's rain100": (["rainy/rain-001.png", "rainy/rain-100.png"], ["norain-001.png", "norain-100.png"]),
    "spa test": (["rain/000.png", "rain/001.png"], ["gt/000gt.png", "gt/001gt.png"]),
    "raindrop": (["data/0_rain.png", "data/10_rain.png"], ["gt/0_clean.png", "gt/10_clean.png"]),
    "in and gt": (["001_in.png", "012_in.png"], ["001_GT.png", "012_GT.png"]),
    "sirr training": (["input/1_1.jpg", "input/1_2.jpg"], ["label/1.jpg"] * 2),
    "raincityscapes": (
        [
            f"leftImg8bit_rain/ulm/ulm_000004_000019_leftImg8bit_rain_alpha_{a}_beta_{b}_dropsize_0.002_pattern_1.png"
            for a, b in (("0.01", "0.005"), ("0.02", "0.01"))
        ],
        ["leftImg8bit/ulm/ulm_000004_000019_leftImg8bit.png"] * 2,
    ),
    "cityscapes": (["rain/norain-3.png", "rain/norain-4.png"], ["norain/norain-3.png", "norain/norain-4.png"]),
}


@pytest.mark.parametrize("layout", KNOWN)
def test_known_layouts(tmp_path, layout):
    rainy, clean = KNOWN[layout]
    touch(tmp_path, *rainy, *clean, "readme.txt", "input/.hidden.png" if layout == "plain" else "notes.md")
    found = find_pairs(tmp_path)
    assert found.problems == ()
    expected = list(zip(rainy, clean, strict=True))
    assert [(str(p.rainy.relative_to(tmp_path)), str(p.clean.relative_to(tmp_path))) for p in found.pairs] == expected


def test_two_named_folders(tmp_path):
    touch(tmp_path, "wet/a.png", "sunny/a.png")
    assert len(find_pairs(tmp_path / "wet", clean=tmp_path / "sunny").pairs) == 1


#: How each layout writes the rainy and the clean file of scene n; {v} counts the rains of a scene.
TEMPLATES = {
    "plain": ("input/{n}", "target/{n}"),
    "rain12": ("rainy/{n}", "groundtruth/{n}"),
    "rain12, authors": ("{n}_in", "{n}_GT"),
    "rain100 old": ("rain/X2/norain-{n}x2", "norain/norain-{n}"),
    "rain100 flat": ("rain-{n}", "norain-{n}"),
    "rain100 prenet": ("rainy/rain-{n}", "norain-{n}"),
    "rain800": ("input/({n})", "target/({n})"),
    "rain1400": ("rainy_image/{n}_{v}", "ground_truth/{n}"),
    "mspfn": ("rainysamples/{n}", "cleansamples/{n}"),
    "spa test": ("rain/{n}", "gt/{n}gt"),
    "raindrop": ("data/{n}_rain", "gt/{n}_clean"),
    "raincityscapes": (
        "leftImg8bit_rain/a/a_{n}_000019_leftImg8bit_rain_alpha_0.0{v}_beta_0.005_dropsize_0.01_pattern_1",
        "leftImg8bit/a/a_{n}_000019_leftImg8bit",
    ),
    "cityscapes_syn": ("rain/norain-{n}", "norain/norain-{n}"),
}


@pytest.mark.parametrize("layout", TEMPLATES)
@settings(max_examples=12)
@given(data=st.data())
def test_every_layout_pairs_by_scene_in_any_spelling(layout, data):
    """Any order, zero padding, case or extension gives the pairs of the scenes; nothing is left over."""
    numbers = data.draw(st.lists(st.integers(1, 1999), min_size=1, max_size=6, unique=True))
    several = "{v}" in TEMPLATES[layout][0]
    expected: dict[str, str] = {}
    for n in numbers:
        clean = spelled(data, TEMPLATES[layout][1], n)
        for v in range(1, 1 + (data.draw(st.integers(1, 3)) if several else 1)):
            expected[spelled(data, TEMPLATES[layout][0], n, v)] = clean
    with tempfile.TemporaryDirectory() as folder:
        touch(Path(folder), *data.draw(st.permutations([*expected, *set(expected.values())])))
        found = find_pairs(folder)
        pairs = {str(p.rainy.relative_to(folder)): str(p.clean.relative_to(folder)) for p in found.pairs}
    assert pairs == expected
    assert found.problems == ()


def spelled(data: st.DataObject, template: str, n: int, v: int = 1) -> str:
    """A name of scene n with drawn padding, case and extension; folders keep their case."""
    padded = f"{n:0{data.draw(st.integers(0, 6))}d}"
    folder, _, name = template.format(n=padded, v=v).rpartition("/")
    name = data.draw(st.sampled_from([name, name.lower(), name.upper()]))
    name += data.draw(st.sampled_from([".png", ".PNG", ".jpg", ".jpeg", ".bmp"]))
    return f"{folder}/{name}" if folder else name


def test_list_files(tmp_path):
    touch(tmp_path, "real_world/000/1.png", "real_world_gt/000/1.png", "a/2.png", "b/2.png")
    lines = ["/real_world/000/1.png /real_world_gt/000/1.png", "./a/2.png ./b/2.png", "", "a/2.png b/2.png"]
    lines += ["a/3.png b/3.png", "one two three"]
    (tmp_path / "real_world.txt").write_text("\n".join(lines))
    for found in (find_pairs(tmp_path / "real_world.txt"), find_pairs(tmp_path)):
        assert [(p.name, p.clean.parent.name) for p in found.pairs] == [("a/2", "b"), ("real_world/000/1", "000")]
        assert all(
            word in problem for word, problem in zip(("again", "missing", "3 names"), found.problems, strict=True)
        )
    (tmp_path / "real_world.txt").write_text("c.png d.png")
    with pytest.raises(InputError, match="no pair of existing images"):
        find_pairs(tmp_path / "real_world.txt")


def test_unused_cityscapes_images_are_not_reported(tmp_path):
    touch(tmp_path, "leftImg8bit_rain/u_1_leftImg8bit_rain_alpha_0.01_beta_0.005.png")
    touch(tmp_path, "leftImg8bit/u_1_leftImg8bit.png", "leftImg8bit/u_2_leftImg8bit.png")
    found = find_pairs(tmp_path)
    assert (len(found.pairs), found.problems) == (1, ())


def test_pairs_in_subfolders_are_hinted_at(tmp_path):
    touch(tmp_path, "test/Rain100L/input/1.png", "test/Rain100L/target/1.png", "test/Rain12/rainy/1.png")
    with pytest.raises(InputError, match=r"but in test/Rain100L: give one of these"):
        find_pairs(tmp_path)


def test_unpaired_files_are_reported(tmp_path):
    touch(tmp_path, "input/1.png", "input/2.png", "target/1.png", "target/01.png", "target/3.png")
    touch(tmp_path, "input/4.png", "target/4.png")
    found = find_pairs(tmp_path)
    assert [p.name for p in found.pairs] == ["4"]
    assert len(found.problems) == 3
    assert "2 clean files match it" in found.problems[0]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "no pairs recognized"),
        (["a.png", "b.png"], "no pairs recognized"),
        (["input/a.png", "target/b.png"], "no names that match"),
        (["input/a.png", "rain/a.png", "gt/a.png"], "several folders"),
        (["input/a.png"], "no pairs recognized"),
    ],
)
def test_unknown_layouts_are_rejected(tmp_path, files, words):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=words):
        find_pairs(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_pairs(tmp_path / "nowhere")


def test_side_by_side_halves(tmp_path, photo):
    left, right = photo[:, :150], photo[:, 150:]
    Image.fromarray(photo).save(tmp_path / "7.png")
    rainy, clean = find_pairs(tmp_path, "clean-left").pairs[0].read()
    np.testing.assert_array_equal(rainy, right)
    np.testing.assert_array_equal(clean, left)
    np.testing.assert_array_equal(find_pairs(tmp_path, "rainy-left").pairs[0].read()[0], left)


def test_sizes_must_agree(tmp_path, photo):
    for kind, image in (("input", photo), ("target", photo[1:])):
        (tmp_path / kind).mkdir()
        Image.fromarray(image).save(tmp_path / kind / "1.png")
    with pytest.raises(InputError, match="300×200 and 300×199"):
        find_pairs(tmp_path).pairs[0].read()
