"""Labeled scenes: layouts with rain that exists already."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from derain.data.scenes import find_scenes, scene_key
from derain.errors import InputError


def write(path, values=0, size=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    gray = "labels" in path.parts or "gtFine" in path.parts
    shape = size if gray else (*size, 3)
    Image.fromarray(np.broadcast_to(np.uint8(values), shape).copy()).save(path)


def names(scenes, root):
    files = [(s.labels, s.clean, s.rainy) for s in scenes]
    return [[None if p is None else str(p.relative_to(root)) for p in group] for group in files]


def test_camvids_layout_has_no_rain(tmp_path):
    for n in (2, 10):
        write(tmp_path / "images" / f"{n}.png")
        write(tmp_path / "labels" / f"{n}.png")
    scenes = find_scenes(tmp_path)
    assert names(scenes, tmp_path) == [[f"labels/{n}.png", f"images/{n}.png", None] for n in (2, 10)]
    assert scenes[0].read(3)[1] is None


@pytest.mark.parametrize("clean", ["images", "norain", None])
def test_a_folder_of_rain_is_recognized(tmp_path, clean):
    write(tmp_path / "rain" / "rain-001.png", 9)
    write(tmp_path / "labels" / "1.png", 2)
    if clean:
        write(tmp_path / clean / "norain-001.png", 4)
    (scene,) = find_scenes(tmp_path)
    found, rainy, labels = scene.read(3)
    assert (None if found is None else found.max()) == (4 if clean else None)
    assert (rainy.max(), labels.max()) == (9, 2)


def test_folders_can_lie_elsewhere_as_sginets_do(tmp_path):
    """SGINet's data: ``val/200mm/{rain,norain}/norain-1.png``; the labels are Cityscapes' own."""
    for kind in ("rain", "norain"):
        write(tmp_path / "val" / "200mm" / kind / "norain-1.png")
    write(tmp_path / "labels" / "1.png")
    expected = [["labels/1.png", "val/200mm/norain/norain-1.png", "val/200mm/rain/norain-1.png"]]
    rain = tmp_path / "val" / "200mm" / "rain"
    assert names(find_scenes(tmp_path / "val" / "200mm", labels=tmp_path / "labels"), tmp_path) == expected
    by_hand = find_scenes(tmp_path / "val" / "200mm" / "norain", labels=tmp_path / "labels", rainy=rain)
    assert names(by_hand, tmp_path) == expected
    expected[0][1] = None
    assert names(find_scenes(rain, labels=tmp_path / "labels", rainy=rain), tmp_path) == expected


def test_cityscapes_files_and_raincityscapes_fogs(tmp_path):
    stem = "munster_000099_000019"
    write(tmp_path / "leftImg8bit" / "val" / "munster" / f"{stem}_leftImg8bit.png", 4)
    for alpha in ("0.01", "0.02"):
        write(tmp_path / "rainy" / "munster" / f"{stem}_leftImg8bit_rain_alpha_{alpha}_beta_0.005.png", 9)
    gt = tmp_path / "gtFine" / "val" / "munster"
    write(gt / f"{stem}_gtFine_labelIds.png", [7, 8, 11, 26, 33, 0, 34, 255])
    write(gt / f"{stem}_gtFine_color.png")
    write(gt / f"{stem}_gtFine_instanceIds.png")
    scenes = find_scenes(tmp_path / "leftImg8bit" / "val", labels=tmp_path / "gtFine" / "val", rainy=tmp_path / "rainy")
    assert len(scenes) == 2
    for scene in scenes:
        clean, rainy, labels = scene.read(19)
        assert (clean.max(), rainy.max()) == (4, 9)
        assert labels[0].tolist() == [0, 1, 2, 13, 18, 255, 255, 255]
    write(gt / f"{stem}_gtFine_labelTrainIds.png", [7, 8, 11, 13, 18, 0, 19, 255])
    scenes = find_scenes(tmp_path / "leftImg8bit" / "val", labels=tmp_path / "gtFine" / "val")
    assert scenes[0].read(19)[2][0].tolist() == [7, 8, 11, 13, 18, 0, 255, 255]


def test_the_key_of_a_cityscapes_frame_has_all_its_numbers(tmp_path):
    frames = [f"bonn_000000_0000{n}_{kind}.png" for n in (19, 20) for kind in ("leftImg8bit", "gtFine_labelIds")]
    keys = [scene_key(tmp_path / frame) for frame in frames]
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_what_does_not_fit_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_scenes(tmp_path / "none")
    write(tmp_path / "rain" / "1.png")
    with pytest.raises(InputError, match="no images/ and labels/ in it"):
        find_scenes(tmp_path)
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        find_scenes(tmp_path, labels=tmp_path / "nowhere")
    write(tmp_path / "labels" / "2.png")
    with pytest.raises(InputError, match=r"rain/1.png: labels missing in .*labels, for 1 of 1"):
        find_scenes(tmp_path)
    write(tmp_path / "labels" / "1.png", size=(6, 9))
    write(tmp_path / "norain" / "2.png")
    with pytest.raises(InputError, match=r"rain/1.png: a clean image missing in .*norain, for 1 of 1"):
        find_scenes(tmp_path)
    write(tmp_path / "norain" / "1.png")
    (scene,) = find_scenes(tmp_path)
    with pytest.raises(InputError, match=r"labels/1.png: 9×6, but .* is 8×6"):
        scene.read(3)
    write(tmp_path / "labels" / "01.png")
    with pytest.raises(InputError, match="except for spelling; keep one"):
        find_scenes(tmp_path)
