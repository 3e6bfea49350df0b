"""``derain data``: faults that ruin figures are found; any layout becomes the plain one."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from derain.data import find_pairs
from derain.data.catalog import CATALOG, find_info
from derain.data.check import check_pairs, fingerprint, mirrored, same_scene
from derain.data.locate import open_set
from derain.metrics import PROTOCOLS

SCENES = ["astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry"]


def scene(name: str, size: int = 160) -> np.ndarray:
    image = Image.fromarray(getattr(skimage.data, name)())
    return np.asarray(image.resize((size, size)))


def write(root: Path, pairs: dict[str, np.ndarray], rain: int = 20) -> Path:
    for name, clean in pairs.items():
        rainy = np.clip(clean.astype(int) + rain, 0, 255).astype(np.uint8)
        for kind, image in (("input", rainy), ("target", clean)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / kind / f"{name}.png")
    return root


def test_fingerprints_know_a_scene_again():
    prints = np.stack([fingerprint(scene(name)) for name in SCENES])
    eye = np.eye(len(SCENES), dtype=bool)
    np.testing.assert_array_equal(same_scene(prints, prints), eye)
    assert not same_scene(prints, mirrored(prints))[~eye].any()
    flipped = np.stack([fingerprint(np.ascontiguousarray(scene(name)[:, ::-1])) for name in SCENES])
    np.testing.assert_array_equal(same_scene(mirrored(prints), flipped), eye)
    for alter in (
        lambda p: p.resize((200, 190)),
        lambda p: p.crop((10, 9, 481, 481)),
        lambda p: p.point(lambda v: int(v * 0.8)),
    ):
        buffers = [io.BytesIO() for _ in SCENES]
        for name, buffer in zip(SCENES, buffers, strict=True):
            alter(Image.fromarray(scene(name, 481))).save(buffer, "JPEG", quality=60)
        again = np.stack([fingerprint(np.asarray(Image.open(buffer))) for buffer in buffers])
        np.testing.assert_array_equal(same_scene(prints, again), eye)
    assert not fingerprint(np.full((9, 9, 3), 7, np.uint8)).any()


def test_a_sound_set_has_no_findings(tmp_path):
    report = check_pairs(find_pairs(write(tmp_path, {n: scene(n) for n in SCENES})))
    assert (report.pairs, report.findings) == (6, ())
    assert report.sizes == {(160, 160): 6}


def test_every_fault_is_found(command, tmp_path):
    root = write(tmp_path / "train", {"1": scene("astronaut"), "2": scene("chelsea"), "3": scene("coffee")})
    write(root, {"4": scene("coffee")})
    write(root, {"5": scene("chelsea")[:, 1:]})
    write(root, {"6": scene("rocket")}, rain=0)
    Image.fromarray(scene("retina")).save(root / "input" / "7.png")
    Image.fromarray(scene("retina")[3:]).save(root / "target" / "7.png")
    Image.fromarray(scene("retina")).save(root / "input" / "lonely.png")
    test = write(tmp_path / "test", {"a": scene("astronaut")[:, ::-1], "b": scene("immunohistochemistry")})
    code, out, _ = command("data", "check", root, "--against", test, "--json")
    assert code == 1
    found = [(f["what"], f["detail"]) for f in json.loads(out)["findings"]]
    assert [what for what, _ in found] == ["unpaired", "no rain", "unreadable", "copies", "leak", "one scene"]
    for (_, detail), words in zip(
        found, ["lonely", "6.png", "7.png", "3.png", "1.png shows", "2.png and"], strict=True
    ):
        assert words in detail
    assert "mirrored" in found[4][1]
    code, out, _ = command("data", "check", root)
    assert code == 1
    assert "4 faults, 1 notes" in out


def test_import_makes_the_plain_layout(command, tmp_path, photo):
    (tmp_path / "old" / "rain" / "X2").mkdir(parents=True)
    (tmp_path / "old" / "norain").mkdir()
    for n in (1, 12):
        Image.fromarray(photo).save(tmp_path / "old" / "rain" / "X2" / f"norain-{n:03d}x2.png")
        Image.fromarray(photo[::-1]).save(tmp_path / "old" / "norain" / f"norain-{n:03d}.png")
    code, out, _ = command("data", "import", tmp_path / "old", "-o", tmp_path / "new")
    assert code == 0
    assert "2 pairs" in out
    found = find_pairs(tmp_path / "new")
    assert len(found.pairs) == 2
    np.testing.assert_array_equal(found.pairs[0].read()[1], photo[::-1])
    code, _, err = command("data", "import", tmp_path / "old", "-o", tmp_path / "new")
    assert code == 1
    assert "not empty" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]


@pytest.mark.parametrize("copy", [True, False])
def test_import_of_halves_and_copies(command, tmp_path, photo, copy):
    (tmp_path / "halves").mkdir()
    Image.fromarray(photo).save(tmp_path / "halves" / "1.png")
    words = ["--copy"] if copy else []
    assert (
        command("data", "import", tmp_path / "halves", "--layout", "rainy-left", "-o", tmp_path / "x", *words)[0] == 0
    )
    rainy, clean = find_pairs(tmp_path / "x").pairs[0].read()
    np.testing.assert_array_equal(rainy, photo[:, :150])
    np.testing.assert_array_equal(clean, photo[:, 150:])


def test_the_catalog_is_listed(command):
    names = [entry["name"] for entry in json.loads(command("data", "list", "--json")[1])]
    assert {"Rain12", "Rain100L", "Rain100H", "Rain800", "Rain1400", "SPA-Data"} <= set(names)
    assert len(names) == len(set(names))
    out = command("data", "list")[1]
    assert all(name in out for name in names)
    protocols = {entry["protocol"] for entry in json.loads(command("data", "list", "--json")[1])}
    others = {"no reference", "detection after deraining", "segmentation after deraining"}
    assert protocols - others <= set(PROTOCOLS)
    assert "not established" in out


def test_names_of_the_catalog_are_unambiguous():
    names = [name for entry in CATALOG for name in (entry.name, *entry.aliases)]
    for name in names:
        assert find_info(name.lower().replace(" ", "_")) is find_info(name)
    assert len({"".join(c for c in name.lower() if c.isalnum()) for name in names}) == len(names)


def test_a_set_is_found_by_name(command, tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DERAIN_DATA", str(tmp_path / "sets"))
    write(tmp_path / "sets" / "rain_100l" / "test", {"1": photo})
    (tmp_path / "sets" / "Rain800").mkdir()
    Image.fromarray(photo).save(tmp_path / "sets" / "Rain800" / "1.png")
    assert open_set(Path("Rain100L")).pairs[0].rainy.parts[-3:] == ("test", "input", "1.png")
    assert open_set(Path("Rain800")).pairs[0].clean_half == "left"
    code, out, _ = command("data", "check", "Rain100L")
    assert (code, "1 pairs" in out) == (0, True)
    for name, words in (("Rain12", "DERAIN_DATA"), ("Rain99", "no set of that name")):
        code, _, err = command("data", "check", name)
        assert code == 1
        assert words in err


def test_images_without_truth(command, tmp_path, photo):
    for n in (1, 2):
        Image.fromarray(photo[n:]).save(tmp_path / f"{n}.jpg")
    code, out, _ = command("data", "check", tmp_path, "--layout", "real")
    assert "2 images" in out
    assert "no rain" not in out
    code, _, err = command("data", "import", tmp_path, "--layout", "real", "-o", tmp_path / "new")
    assert code == 1
    assert "no pairs" in err


def test_swapped_folders_and_the_overlapping_release_are_reported(tmp_path, monkeypatch):
    root = write(tmp_path / "RainTrainH", {str(i): scene(name) for i, name in enumerate(SCENES)})
    noise = np.random.default_rng(0).integers(0, 60, (160, 160, 1))
    for path in (root / "input").iterdir():
        rainy = np.asarray(Image.open(path)).astype(int) + noise
        Image.fromarray(np.clip(rainy, 0, 255).astype(np.uint8)).save(path)
    monkeypatch.setattr("derain.data.check._RAINTRAINH", len(SCENES))
    report = check_pairs(find_pairs(root))
    assert [f.what for f in report.findings] == ["known overlap"]
    swapped = check_pairs(find_pairs(root / "target", clean=root / "input"))
    assert "swapped" in [f.what for f in swapped.findings]
