"""Matching by name: any spelling of a name pairs by its number, or the file is reported."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from derain.data.matching import key_of, match, natural_key


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
def test_every_file_is_paired_or_reported(rainy, clean):
    rainy_files, clean_files = (
        [Path(f"{kind}/{n}.png") for n in dict.fromkeys(names)] for kind, names in (("r", rainy), ("c", clean))
    )
    pairs, problems = match(rainy_files, clean_files)
    reported = {line.split(":")[0] for line in problems}
    assert {str(r) for r, _ in pairs} | reported >= {str(p) for p in rainy_files}
    named = {word.strip(",()") for line in problems for word in line.split()}
    for path in clean_files:
        assert path in {c for _, c in pairs} or str(path) in reported or path.name in named


def test_keys():
    same = ["rain-001.png", "norain-1.PNG", "Rain1.jpg", "norain-001x2.png", "0001.bmp"]
    assert {key_of(Path(name)) for name in same} == {"1"}
    assert key_of(Path("rainbow.png")) == "rainbow"
    assert key_of(Path("901_03.jpg")) == "901_3"
    assert key_of(Path("beta_0.005.png")) != key_of(Path("beta_0.05.png"))


def test_numbers_are_ordered_by_value():
    names = ["b", "a/2.png", "a/10.png", "a/1.png"]
    assert sorted(names, key=natural_key) == ["a/1.png", "a/2.png", "a/10.png", "b"]
