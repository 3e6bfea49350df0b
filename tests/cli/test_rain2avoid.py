"""``derain rain2avoid``: the full method and its stages."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from derain import images
from derain.rain2avoid import Sampler, ldgp
from support.rainy import raining

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def root(tmp_path):
    """The authors' layout with two rainy images."""
    (tmp_path / "root" / "input").mkdir(parents=True)
    for number in (1, 2):
        rainy = raining(seed=number, height=48, width=56)[0]
        Image.fromarray((rainy * 255 + 0.5).astype(np.uint8)).save(tmp_path / "root" / "input" / f"{number}.png")
    return tmp_path / "root"


def pixels(path):
    return np.asarray(Image.open(path))


def test_run_keeps_what_the_file_held_and_saves_what_is_asked(command, root, tmp_path):
    sixteen_bit = (pixels(root / "input" / "1.png").astype(np.uint16)) * 257
    picture = images.Picture((sixteen_bit / 65535).astype(np.float32), depth=16)
    picture.save(tmp_path / "deep.png")
    code, out, _ = command(
        "rain2avoid", "run", tmp_path / "deep.png", "--steps", 2, "--save-mask", "--save-reference", "--json"
    )
    assert code == 0
    record = json.loads(out)
    assert record["steps"] == 2
    assert images.read(tmp_path / "deep_derained.png").depth == 16
    np.testing.assert_array_equal(pixels(record["mask"]), ldgp(picture.pixels))
    reference = images.read(record["reference"]).pixels
    np.testing.assert_allclose(reference, Sampler(picture.pixels, ldgp(picture.pixels)).expected(), atol=1e-4)
    code, _, err = command("rain2avoid", "run", tmp_path / "deep.png", "--steps", 2)
    assert code == 1
    assert "exists already" in err
    # What it wrote is not taken for an input.
    code, out, _ = command("rain2avoid", "run", tmp_path, "--steps", 1, "-o", tmp_path / "out")
    assert (code, [p.name for p in (tmp_path / "out").iterdir()]) == (0, ["deep.png"])


def test_run_trains_one_network_from_several(command, root, tmp_path):
    code, out, _ = command(
        "rain2avoid", "run", root / "input", "--method", "multiple", "--steps", 2, "-o", tmp_path / "out"
    )
    assert code == 0
    assert "one network learned from 2 images" in out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["1.png", "2.png"]


def test_run_continues_after_a_bad_file(command, root, tmp_path):
    (root / "input" / "bad.png").write_text("no image")
    code, out, err = command("rain2avoid", "run", root / "input", "--steps", 1, "-o", tmp_path / "out")
    assert code == 1
    assert "bad.png" in err
    assert "2 derained, 1 failed" in out


@pytest.mark.parametrize(
    "words", [("--backbone", "vgg"), ("--method", "double"), ("--method", "multiple", "--save-reference")]
)
def test_wrong_words_are_wrong_usage(command, root, words):
    assert command("rain2avoid", "run", root / "input" / "1.png", *words)[0] == 2


def test_the_stages_work_on_the_authors_layout(command, root, tmp_path):
    rainy = pixels(root / "input" / "1.png")
    assert command("rain2avoid", "ldgp", root, "--mode", "authors", "--patch_size", 40)[0] == 0
    found = ldgp(rainy, mode="authors", patch_size=40)
    np.testing.assert_array_equal(pixels(root / "ldgp" / "1.png"), found)

    assert command("rain2avoid", "nss", root, "--sdr_num", 3)[0] == 0
    references = list(Sampler(rainy, found).references(3))
    for number, reference in enumerate(references):
        np.testing.assert_array_equal(pixels(root / "sdr" / "1" / f"{number}.png"), reference)
    mean = np.rint(np.mean([r.astype(float) for r in references], axis=0))
    np.testing.assert_array_equal(pixels(root / "fuse" / "1.png"), mean)

    code, out, _ = command("rain2avoid", "learn", root, "--steps", 2)
    assert code == 0
    assert "2 done" in out
    assert pixels(root / "result" / "2.png").shape == rainy.shape

    model = tmp_path / "net.safetensors"
    assert command("rain2avoid", "train", root, "-o", model, "--steps", 2)[0] == 0
    assert command("rain2avoid", "infer", root, "--model", model)[0] == 1  # the results of learn are there
    assert command("rain2avoid", "infer", root, "--model", model, "--overwrite")[0] == 0
    code, _, _ = command("run", root / "input" / "1.png", "--model", model, "-o", tmp_path / "run.png")
    assert code == 0
    np.testing.assert_array_equal(pixels(tmp_path / "run.png"), pixels(root / "result" / "1.png"))


def test_stages_report_what_is_missing(command, root, tmp_path):
    one = root / "input" / "1.png"
    for words, what in (
        (("ldgp", one), "give -o"),
        (("nss", one, "-o", tmp_path / "sdr"), "give --fuse"),
        (("learn", root, "--sdr", tmp_path / "none"), "no references"),
        (("learn", root, "--ldgp", tmp_path / "none"), "no such file"),
        (("train", root, "-o", tmp_path / "net.pth"), ".safetensors"),
        (("ldgp", tmp_path / "nothing", "-o", tmp_path), "no such file"),
    ):
        code, _, err = command("rain2avoid", *words)
        assert code == 1
        assert what in err
        assert "Traceback" not in err


def test_the_old_name_works_with_a_hint(command, root, tmp_path):
    code, out, err = command("adapt", root / "input" / "1.png", "--steps", 1, "-o", tmp_path / "x.png", "-q")
    assert (code, out) == (0, "")
    assert err == "note: `derain adapt` is now `derain rain2avoid run`\n"
    assert pixels(tmp_path / "x.png").shape == (48, 56, 3)
