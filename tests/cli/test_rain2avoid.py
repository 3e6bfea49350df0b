"""``derain rain2avoid``: the full method and its stages."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from derain import images, load_model
from derain.rain2avoid import Sampler, Settings, adapt, folders, ldgp, rain_angles
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
    code, out, _ = command("rain2avoid", "run", tmp_path, "--steps", 1, "--overwrite", "--json")
    assert (code, [json.loads(line)["input"] for line in out.splitlines()]) == (0, [str(tmp_path / "deep.png")])


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


# --- the authors' mode ---------------------------------------------------------------------------


def literal_truncation(values):
    return (np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8)


@pytest.mark.parametrize("words", [(), ("--mode", "streaks")])
def test_the_authors_schedule_makes_the_authors_map_unless_told_otherwise(command, root, words):
    one = root / "input" / "1.png"
    tiny = ("--backbone", "small", "--steps", 2)
    code, out, err = command("rain2avoid", "learn", one, "--schedule", "authors", *words, *tiny, "-o", root / "r")
    assert code == 0, err
    mode = words[1] if words else "authors"
    assert f"new {mode} map, new references" in out
    settings = Settings(schedule="authors", backbone="small", steps=2)
    rainy = pixels(one)
    expected = adapt(rainy, settings=settings, rain_map=ldgp(rainy, mode=mode)).pixels
    np.testing.assert_array_equal(pixels(root / "r" / "1.png"), literal_truncation(expected))


def test_what_was_used_is_reported_and_a_given_mode_makes_everything_new(command, root, tmp_path):
    tiny = ("--schedule", "authors", "--backbone", "small", "--steps", 1)
    assert command("rain2avoid", "ldgp", root, "--mode", "authors")[0] == 0
    out = command("rain2avoid", "online", root, *tiny)[1]
    assert f"map {root / 'ldgp' / '1.png'}, new references" in out
    assert command("rain2avoid", "nss", root, "--sdr_num", 2)[0] == 0
    out = command("rain2avoid", "train", root, *tiny, "-o", tmp_path / "a.safetensors")[1]
    assert f"2 references of {root / 'sdr' / '2'}" in out
    assert "new" not in out
    out = command("rain2avoid", "train", root, *tiny, "-o", tmp_path / "b.safetensors", "--mode", "streaks")[1]
    assert out.count("new streaks map, new references") == 2
    out = command("rain2avoid", "train", root, *tiny, "-o", tmp_path / "c.safetensors", "--ldgp", root / "ldgp")[1]
    assert "new references" in out, "the references in ROOT are those of other maps"
    assert command("rain2avoid", "learn", root, "--mode", "authors", "--ldgp", root / "ldgp")[0] == 2


def test_maps_of_a_jpeg_set_are_found_under_its_names(command, tmp_path):
    root = tmp_path / "set"
    for folder in ("input", "ldgp"):
        (root / folder).mkdir(parents=True)
    rainy = (raining(height=48, width=56)[0] * 255 + 0.5).astype(np.uint8)
    Image.fromarray(rainy).save(root / "input" / "a.jpg", quality=95)
    marks = np.zeros((48, 56), np.uint8)
    marks[10:30, 20:22] = 255
    Image.fromarray(marks).save(root / "ldgp" / "a.jpg", quality=95)
    code, out, err = command("rain2avoid", "nss", root, "--sdr_num", 2)
    assert code == 0, err
    assert f"(map: {root / 'ldgp' / 'a.jpg'})" in out
    before, after = pixels(root / "input" / "a.jpg"), pixels(root / "fuse" / "a.png")
    changed = (before != after).any(axis=2)
    assert changed[10:30, 20:22].any()
    assert not changed[:, 30:].any()
    Image.fromarray(marks).save(root / "ldgp" / "a.png")
    code, _, err = command("rain2avoid", "nss", root, "--overwrite")
    assert code == 1
    assert "are both maps of" in err


def test_an_interrupted_nss_continues(command, root, monkeypatch):
    words = ("rain2avoid", "nss", root, "--sdr_num", 3)
    write, written = folders.write_png, []

    def stop_in_the_second_image(values, path, *, overwrite):
        written.append(path)
        if len(written) == 5:
            raise KeyboardInterrupt
        write(values, path, overwrite=overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_png", stop_in_the_second_image)
        assert command(*words)[0] == 130
    assert sorted(p.name for p in (root / "sdr").iterdir()) == ["1"], "a folder appears when it is complete"
    stamp = (root / "sdr" / "1" / "0.png").stat().st_mtime_ns
    code, out, err = command(*words)
    assert code == 0, err
    assert "1 done, 1 skipped" in out
    assert (root / "sdr" / "1" / "0.png").stat().st_mtime_ns == stamp
    rainy = pixels(root / "input" / "2.png")
    for number, reference in enumerate(Sampler(rainy, ldgp(rainy)).references(3)):
        np.testing.assert_array_equal(pixels(root / "sdr" / "2" / f"{number}.png"), reference)

    # Half a folder, as the authors' script leaves it, is completed; another reference in it is not replaced.
    mean = pixels(root / "fuse" / "2.png")
    (root / "fuse" / "2.png").unlink()
    (root / "sdr" / "2" / "1.png").unlink()
    assert command(*words)[0] == 0
    np.testing.assert_array_equal(pixels(root / "fuse" / "2.png"), mean)
    (root / "fuse" / "2.png").unlink()
    Image.fromarray(rainy).save(root / "sdr" / "2" / "2.png")
    code, _, err = command(*words)
    assert code == 1
    assert "holds another reference" in err
    code, _, err = command("rain2avoid", "nss", root, "--sdr_num", 2)
    assert "more than 2 references" in err
    assert command("rain2avoid", "nss", root, "--sdr_num", 2, "--overwrite")[0] == 0
    assert sorted(p.name for p in (root / "sdr" / "2").iterdir()) == ["0.png", "1.png"]


def test_bf_is_written_in_the_authors_layout_only(command, root, tmp_path):
    y, x = np.mgrid[:96, :80]
    streaks = 120 * np.exp(-((((x + 0.04 * y) % 8) - 4) ** 2) / 1.5)  # nearly upright: nothing is rotated
    noise = np.random.default_rng(0).normal(0, 1, (96, 80, 3))
    rainy = np.rint(90 + streaks[..., None] + noise).astype(np.uint8)
    Image.fromarray(rainy).save(root / "input" / "1.png")
    assert rain_angles(rainy, mode="authors") == [0]
    assert command("rain2avoid", "ldgp", root)[0] == 0
    assert not (root / "bf").exists()
    assert command("rain2avoid", "ldgp", root, "--mode", "authors", "-o", tmp_path / "maps")[0] == 0
    assert not (root / "bf").exists()
    assert command("rain2avoid", "ldgp", root, "--mode", "authors", "--overwrite")[0] == 0
    gray = np.rint(rainy.astype(np.float64) @ (0.299, 0.587, 0.114))
    mean = np.rint(ndimage.uniform_filter(gray, 5, mode="nearest"))
    before = pixels(root / "bf" / "1.png")
    np.testing.assert_array_equal(before, np.where(gray > mean, 255, 0))
    opened = ndimage.binary_opening(before > 0, np.ones((10, 1)))
    assert (opened != (before > 0)).any()
    # An even kernel moves the opening down by a pixel (derain.rain2avoid.ldgp).
    np.testing.assert_array_equal(pixels(root / "ldgp" / "1.png")[11:-10] > 0, opened[10:-11])


def test_infer_as_authors_leaves_batch_normalization_in_training_mode(command, root, tmp_path):
    model = tmp_path / "net.safetensors"
    words = ("--schedule", "authors", "--backbone", "Unet", "--steps", 3)
    assert command("rain2avoid", "train", root, "-o", model, *words)[0] == 0
    Image.fromarray(pixels(root / "input" / "1.png")[:, :48]).save(root / "input" / "1.png")  # multiples of 16
    results = {}
    for name, more in (("authors", ("--as-authors",)), ("eval", ())):
        assert command("rain2avoid", "infer", root, "--model", model, "-o", tmp_path / name, *more)[0] == 0
        results[name] = pixels(tmp_path / name / "1.png")
    network = load_model(model)
    rainy = torch.from_numpy(pixels(root / "input" / "1.png").transpose(2, 0, 1) / np.float32(255))[None]
    with torch.no_grad():
        evaluated = network(rainy)[0].permute(1, 2, 0).numpy()
        published = network.train()(rainy)[0].permute(1, 2, 0).numpy()
    # Sums in another memory layout may move a value across a step of gray.
    for found, exact in ((results["authors"], literal_truncation(published)), (results["eval"], evaluated * 255)):
        assert np.abs(found.astype(int) - np.clip(exact, 0, 255)).max() <= 1
    assert (results["authors"] == literal_truncation(published)).mean() > 0.99
    assert np.abs(results["authors"].astype(int) - results["eval"]).mean() > 5

    # The authors' own file gives the same.
    optimizer = torch.optim.Adam(network.parameters())
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [100, 200], 0.5)
    parts = {"model": load_model(model), "optimizer": optimizer, "scheduler": scheduler}
    torch.save({key: part.state_dict() for key, part in parts.items()}, tmp_path / "model.pkl")
    code, _, err = command(
        *("rain2avoid", "infer", f"--data_path={root}/", f"--model_path={tmp_path}/model.pkl"),
        *(f"--result_path={tmp_path}/image/", "--as-authors"),
    )
    assert code == 0, err
    np.testing.assert_array_equal(pixels(tmp_path / "image" / "1.png"), results["authors"])


def test_infer_takes_what_run_takes(command, root, tmp_path):
    one = root / "input" / "1.png"
    code, _, err = command("rain2avoid", "infer", root, "--model", "default", "--precision", "fp32")
    assert code == 0, err
    assert command("run", one, "--model", "default", "--precision", "fp32", "-o", tmp_path / "x.png")[0] == 0
    np.testing.assert_array_equal(pixels(root / "result" / "1.png"), pixels(tmp_path / "x.png"))
    (tmp_path / "bad.pkl").write_bytes(b"no tensors")
    for model, words in (("no-such-model", "no-such-model"), (tmp_path / "bad.pkl", "bad.pkl: ")):
        code, _, err = command("rain2avoid", "infer", root, "--model", model, "--overwrite")
        assert code == 1
        assert words in err
        assert "Traceback" not in err


def test_results_that_exist_are_refused_before_the_work_or_skipped(command, root):
    (root / "result").mkdir()
    Image.new("RGB", (8, 8)).save(root / "result" / "1.png")
    words = ("rain2avoid", "learn", root, "--steps", 1)
    code, out, err = command(*words)
    assert code == 1
    assert "1.png: exists already" in err
    assert "1 done, 1 failed" in out
    code, out, _ = command(*words, "--skip-existing")
    assert code == 0
    assert "0 done, 2 skipped" in out
    assert pixels(root / "result" / "1.png").shape == (8, 8, 3)
    assert command("rain2avoid", "ldgp", root / "input", "-o", root / "input", "--overwrite")[0] == 1, "inputs are kept"


def test_epochs_are_those_of_the_authors(command, root):
    words = ("rain2avoid", "learn", root / "input" / "1.png", "-o", root / "r", "--backbone", "small", "--overwrite")
    assert command("rain2avoid", "nss", root, "--sdr_num", 3)[0] == 0
    out = command(*words, "--schedule", "authors", "--sdr", root / "sdr", "--epoch", 2)[1]
    assert "6 steps" in out
    code, _, err = command(*words, "--epoch", 2)
    assert code == 1
    assert "--schedule authors" in err
    assert command(*words, "--schedule", "authors", "--epoch", 2, "--steps", 3)[0] == 1


@pytest.mark.parametrize("name", ["Unet", "ResNet", "DnCNN", "Restormer", "DRSFormer"])
def test_backbones_are_spelled_as_in_the_authors_readme(name):
    assert Settings(backbone=name).network == Settings(backbone=name.lower()).network


def test_options_of_the_authors_scripts_are_translated(command, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root.rename(tmp_path / "named")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "named").rename(tmp_path / "dataset" / "Toy")
    assert command("rain2avoid", "ldgp", "--dataset=Toy", "--mode", "authors")[0] == 0
    base = "./dataset/Toy"
    nss = ("--input_path", f"{base}/input/", f"--ldgp_path={base}/ldgp/", "--save_path", f"{base}/sdr/")
    assert command("rain2avoid", "nss", *nss, f"--fuse_save_path={base}/sdr(fuse)/", "--sdr_num=2")[0] == 0
    assert sorted(p.name for p in (tmp_path / "dataset" / "Toy" / "sdr(fuse)").iterdir()) == ["1.png", "2.png"]
    sdrl = (f"--rainy_data_path={base}/", f"--sdr_data_path={base}/sdr/", f"--result_path={base}/result/")
    tiny = ("--schedule=authors", "--epoch=1", "--backbone=small")
    code, out, _ = command("rain2avoid", "learn", *sdrl, *tiny)
    assert code == 0
    assert out.count("2 references of dataset/Toy/sdr") == 2
    code, _, err = command("rain2avoid", "online", *sdrl, *tiny, "--overwrite")
    assert code == 0
    assert err == "note: --sdr_data_path has no effect on online\n"
    assert command("rain2avoid", "train", *sdrl, *tiny)[0] == 0
    assert (tmp_path / "dataset" / "Toy" / "result" / "model.safetensors").exists()
    assert "--ldgp_path" not in command("rain2avoid", "nss", "--help")[1]
