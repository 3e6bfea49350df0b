"""Pairing by name: any spelling of a known layout pairs correctly, or the reason is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from derain.data import find_pairs
from derain.data.layouts import key_of, match
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
    touch(tmp_path, "wet/a.png", "dry/a.png")
    assert len(find_pairs(tmp_path / "wet", clean=tmp_path / "dry").pairs) == 1


@given(
    st.permutations(range(1, 30)),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from([("rain-", "norain-"), ("rain", "norain"), ("", ""), ("Rain_", "NoRain_"), ("norain-", "norain-")]),
    st.sampled_from([".png", ".PNG", ".jpg"]),
    st.booleans(),
)
def test_any_order_padding_case_or_extension_pairs_by_number(order, pad_a, pad_b, prefixes, suffix, scaled):
    rainy = [Path(f"{prefixes[0]}{n:0{pad_a}d}{'x2' if scaled else ''}{suffix}") for n in order]
    clean = [Path(f"{prefixes[1]}{n:0{pad_b}d}.png") for n in sorted(order)]
    pairs, problems = match(rainy, clean)
    assert problems == []
    number = {p: n for paths, ns in ((rainy, order), (clean, sorted(order))) for p, n in zip(paths, ns, strict=True)}
    assert len(pairs) == len(order)
    assert all(number[r] == number[c] for r, c in pairs)


@given(
    st.lists(st.text("ab01_-x2", min_size=1, max_size=6), max_size=12),
    st.lists(st.text("ab01_-x2", min_size=1, max_size=6), max_size=12),
)
def test_every_file_is_paired_or_told(rainy, clean):
    rainy_files, clean_files = (
        [Path(f"{kind}/{n}.png") for n in dict.fromkeys(names)] for kind, names in (("r", rainy), ("c", clean))
    )
    pairs, problems = match(rainy_files, clean_files)
    told = {line.split(":")[0] for line in problems}
    assert {str(r) for r, _ in pairs} | told >= {str(p) for p in rainy_files}
    named = {word.strip(",()") for line in problems for word in line.split()}
    for path in clean_files:
        assert path in {c for _, c in pairs} or str(path) in told or path.name in named


def test_what_does_not_fit_is_told(tmp_path):
    touch(tmp_path, "input/1.png", "input/2.png", "target/1.png", "target/01.png", "target/3.png")
    touch(tmp_path, "input/4.png", "target/4.png")
    found = find_pairs(tmp_path)
    assert [p.name for p in found.pairs] == ["4"]
    assert len(found.problems) == 3
    assert "2 clean files fit it" in found.problems[0]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "no pairs recognised"),
        (["a.png", "b.png"], "no pairs recognised"),
        (["input/a.png", "target/b.png"], "no names that fit"),
        (["input/a.png", "rain/a.png", "gt/a.png"], "several folders"),
        (["input/a.png"], "no pairs recognised"),
    ],
)
def test_unknown_layouts_are_refused(tmp_path, files, words):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=words):
        find_pairs(tmp_path)


def test_a_missing_folder_is_told(tmp_path):
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
    for kind, picture in (("input", photo), ("target", photo[1:])):
        (tmp_path / kind).mkdir()
        Image.fromarray(picture).save(tmp_path / kind / "1.png")
    with pytest.raises(InputError, match="300×200 and 300×199"):
        find_pairs(tmp_path).pairs[0].read()


def test_keys():
    same = ["rain-001.png", "norain-1.PNG", "Rain1.jpg", "norain-001x2.png", "0001.bmp"]
    assert {key_of(Path(name)) for name in same} == {"1"}
    assert key_of(Path("rainbow.png")) == "rainbow"
    assert key_of(Path("901_03.jpg")) == "901_3"
