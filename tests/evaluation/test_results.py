"""Folders of results as the papers' scripts write them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from derain.data.layouts import find_pairs
from derain.errors import InputError
from derain.evaluation.results import ResultFolder, short_names
from derain.evaluation.score import from_folder, score


def write(folder, name, image, **options):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / name, **options)


@pytest.fixture(scope="module")
def clean(photo):
    return np.clip(photo[:40, :60], 20, 235)


def errors(scores):
    """The error of each image in gray levels; all images differ from their truth by a constant."""
    assert not scores.failures
    return [255 * 10 ** (-i.psnr / 20) for i in scores.images]


def test_sapnets_test_script_writes_rain_and_norain_into_one_folder(clean, tmp_path):
    """``main.sh`` derains all images of a test folder, the clean ones too."""
    for n in (1, 2):
        write(tmp_path / "Rain100H", f"norain-{n:03}.png", clean)
        write(tmp_path / "Rain100H", f"rain-{n:03}.png", clean + 9)
        write(tmp_path / "results", f"rain-{n:03}.png", clean + np.uint8(n))
        write(tmp_path / "results", f"norain-{n:03}.png", clean)
        write(tmp_path / "plain" / "input", f"{n}.png", clean + 9)
        write(tmp_path / "plain" / "target", f"{n}.png", clean)
    for data in ("Rain100H", "plain"):
        found = score(from_folder(tmp_path / "results"), find_pairs(tmp_path / data), model="x", protocol="rgb")
        assert errors(found) == pytest.approx([1, 2])
    # The derained clean image never stands in for a missing result.
    (tmp_path / "results" / "rain-002.png").unlink()
    found = score(from_folder(tmp_path / "results"), find_pairs(tmp_path / "plain"), model="x")
    assert [i.name for i in found.images] == ["1"]
    assert "2.png: no result for it" in found.failures[0]


def test_rain2avoids_results_lie_in_the_set_and_have_an_opaque_alpha(clean, tmp_path):
    """``plt.imsave`` writes RGBA; the set also holds ``ldgp``, ``sdr`` and ``sdr(fuse)``."""
    root = tmp_path / "Rain100L"
    for n in (1, 12):
        write(root / "input", f"{n}.png", clean + 9)
        write(root / "target", f"{n}.png", clean)
        write(root / "ldgp", f"{n}.png", clean[..., 0])
        opaque = np.dstack([clean + np.uint8(3), np.full(clean.shape[:2], 255, np.uint8)])
        write(root / "result", f"{n}.png", opaque)
        write(root / "sdr(fuse)", f"{n}.png", clean + np.uint8(5))
        for k in range(2):
            write(root / "sdr" / str(n), f"{k}.png", clean)
    (root / "sdr(fuse)" / "Thumbs.db").write_bytes(b"thumbs")
    pairs = find_pairs(root)
    for folder, error in (("result", 3), ("sdr(fuse)", 5)):
        assert errors(score(from_folder(root / folder), pairs, model="x", protocol="rgb")) == pytest.approx([error] * 2)
    with pytest.raises(InputError, match=r"1/0.png and 12/0.png are results for the same name"):
        from_folder(root / "sdr")
    # test_all.py: the images beside the network
    for n in (1, 12):
        write(tmp_path / "result_all" / "Rain100L" / "image", f"{n}.png", clean + np.uint8(2))
    (tmp_path / "result_all" / "Rain100L" / "model.pkl").write_bytes(b"x")
    assert errors(score(from_folder(tmp_path / "result_all"), pairs, model="x", protocol="rgb")) == pytest.approx(
        [2, 2]
    )


def test_jdnets_show_script_names_results_after_double_images(clean, tmp_path):
    for name in ("norain-1x2", "7"):
        write(tmp_path / "test", f"{name}.png", np.hstack([clean, clean + 9]))
        write(tmp_path / "showdir", f"{name}.png", clean + np.uint8(4))
    pairs = find_pairs(tmp_path / "test", "clean-left")
    assert errors(score(from_folder(tmp_path / "showdir"), pairs, model="x", protocol="rgb")) == pytest.approx([4, 4])


def test_a_subfolder_of_the_sets_name_comes_first(clean, tmp_path):
    for number, name in enumerate(("Rain100L", "Rain100H"), 1):
        write(tmp_path / name / "input", "1.png", clean + 9)
        write(tmp_path / name / "target", "1.png", clean)
        write(tmp_path / "results" / name, "1.png", clean + np.uint8(number))
    for number, name in enumerate(("Rain100L", "Rain100H"), 1):
        source = from_folder(tmp_path / "results", tmp_path / name)
        assert errors(score(source, find_pairs(tmp_path / name), model="x", protocol="rgb")) == pytest.approx([number])


def test_what_is_ambiguous_or_empty_is_refused(clean, tmp_path):
    write(tmp_path / "twice", "1.png", clean)
    write(tmp_path / "twice", "001.png", clean)
    folder = ResultFolder(tmp_path / "twice")
    assert folder.find(tmp_path / "1.png").name == "1.png"
    with pytest.raises(InputError, match=r"rain-1.png: 001.png and 1.png in .* keep one"):
        folder.find(tmp_path / "rain-1.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in it"):
        ResultFolder(tmp_path / "empty")


def test_names_are_as_short_as_they_can_be():
    assert short_names(["r/sapnet/100L", "r/prenet/100L", "default"]) == {
        "r/sapnet/100L": "sapnet/100L",
        "r/prenet/100L": "prenet/100L",
        "default": "default",
    }
    assert short_names(["a/b", "a/b", "a/c, onnx"]) == {"a/b": "b", "a/c, onnx": "c, onnx"}
