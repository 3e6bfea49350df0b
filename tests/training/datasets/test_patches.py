"""Training patches: what comes out is what was asked for, seeded, and quick enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch.utils.data import DataLoader

from derain.data.layouts import PairedFolder, find_pairs
from derain.errors import InputError
from derain.training.datasets.patches import CleanPool, PairPatches, RainOnTheFly, random_patch


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> CleanPool:
    folder: Path = tmp_path_factory.mktemp("clean")
    for name in ("coffee", "chelsea"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    return CleanPool((folder,), min_scale=0.5)


def test_a_patch_is_a_function_of_seed_and_number(pool):
    def make(seed: int) -> RainOnTheFly:
        return RainOnTheFly([pool], {"mixed": 0.8, "none": 0.2}, seed=seed)

    patches = make(3)
    taken = [patches[n, 48] for n in range(24)]
    for rainy, clean in taken:
        assert rainy.shape == clean.shape == (3, 48, 48)
        assert rainy.dtype == torch.float32
        assert 0 <= rainy.min() <= rainy.max() <= 1
        torch.testing.assert_close(rainy * 255, (rainy * 255).round(), rtol=0, atol=1e-3)
    assert 0 < sum(torch.equal(a, b) for a, b in taken) < 14
    assert torch.equal(make(3)[17, 48][0], taken[17][0])
    assert not torch.equal(make(4)[17, 48][0], taken[17][0])
    assert not torch.equal(taken[17][0], taken[18][0])


def test_decoys_belong_to_the_clean_picture(pool):
    plain = RainOnTheFly([pool], {"none": 1}, seed=5)
    drawn = RainOnTheFly([pool], {"none": 1}, seed=5, distractors=0.5)
    changed = 0
    for number in range(24):
        rainy, clean = drawn[number, 48]
        assert torch.equal(rainy, clean)  # no rain: the lines are in both
        assert 0 <= clean.min() <= clean.max() <= 1
        torch.testing.assert_close(clean * 255, (clean * 255).round(), rtol=0, atol=1e-3)
        changed += not torch.equal(clean, plain[number, 48][1])
    assert 4 <= changed <= 20


def test_turned_patches_are_the_same_patches_turned(pool):
    plain = RainOnTheFly([pool], {"none": 1}, seed=5)
    rotate90 = RainOnTheFly([pool], {"none": 1}, seed=5, rotate90=1.0)
    for number in range(4):
        assert torch.equal(rotate90[number, 48][1], torch.rot90(plain[number, 48][1], dims=(1, 2)))


def test_streaks_alone_may_be_what_is_to_go(pool):
    """Fog, grain and compression stay then: what is left between the two are streaks, which never darken."""
    whole, streaks = (RainOnTheFly([pool], {"real": 1}, seed=5, streaks_only=only) for only in (False, True))
    kept = 0
    for number in range(12):
        clean = whole[number, 48][1]
        rainy, foggy = streaks[number, 48]
        assert (rainy - foggy).mean() > -1e-3
        if (foggy - clean).abs().max() > 0.1:
            kept += 1
            assert (rainy - foggy).abs().mean() < (rainy - clean).abs().mean()
    assert 3 <= kept <= 11  # six of ten have fog
    light = RainOnTheFly([pool], {"light": 1}, seed=5, streaks_only=True)
    assert torch.equal(light[3, 48][1], RainOnTheFly([pool], {"light": 1}, seed=5)[3, 48][1])


def test_fog_and_compression_are_no_sign_of_rain(pool):
    """With streaks only, half of the dry patches are foggy, grainy or compressed, alike on both sides."""
    plain, varied = (RainOnTheFly([pool], {"none": 1}, seed=5, streaks_only=only) for only in (False, True))
    changed = 0
    for number in range(24):
        rainy, clean = varied[number, 48]
        assert torch.equal(rainy, clean)
        changed += not torch.equal(clean, plain[number, 48][1])
    assert 6 <= changed <= 18


def test_workers_give_the_same_patches(pool):
    patches = RainOnTheFly([pool], {"light": 1}, seed=1)
    requests = [[(0, 16), (1, 16)], [(2, 24), (3, 24)]]
    loader = DataLoader(patches, batch_sampler=requests, num_workers=1, multiprocessing_context="spawn")
    for (rainy, _), asked in zip(loader, requests, strict=True):
        assert torch.equal(rainy, torch.stack([patches[r][0] for r in asked]))


def test_what_is_left_out_never_comes(pool):
    files = pool.files()
    patches = RainOnTheFly([pool, pool], {"none": 1}, leave_out=frozenset(files[:1]))
    assert {path for group in patches.files for path in group} == set(files[1:])


def test_the_cache_is_bounded_and_changes_nothing(pool, monkeypatch):
    whole = [RainOnTheFly([pool], {"none": 1})[n, 32][0] for n in range(6)]
    monkeypatch.setattr("derain.training.datasets.patches.CACHE_BYTES", 1)
    tight = RainOnTheFly([pool], {"none": 1})
    assert all(torch.equal(tight[n, 32][0], patch) for n, patch in enumerate(whole))
    assert len(tight._kept._kept) == 1


@pytest.fixture
def pairs(tmp_path) -> PairedFolder:
    """Three pairs of 24×40; red is the row, green the column, blue the pair; rainy ones are 100 brighter in blue."""
    for part, more in (("input", 100), ("target", 0)):
        (tmp_path / part).mkdir()
        for number in range(3):
            picture = np.zeros((24, 40, 3), np.uint8)
            picture[..., 0], picture[..., 1] = np.arange(24)[:, None], np.arange(40)
            picture[..., 2] = number + more
            Image.fromarray(picture).save(tmp_path / part / f"{number}.png")
    return find_pairs(tmp_path)


def test_pairs_are_cut_alike_and_come_in_turn(pairs):
    patches = PairPatches([pairs], seed=2)
    whole = [(rainy * 255).round().int() for rainy, _ in (patches[n, 16] for n in range(60))]
    for n, rainy in enumerate(whole):
        clean = (patches[n, 16][1] * 255).round().int()
        assert torch.equal(clean[:2], rainy[:2])
        assert torch.equal(clean[2] + 100, rainy[2])
    order = [int(rainy[2, 0, 0]) - 100 for rainy in whole]
    assert all(sorted(order[i : i + 3]) == [0, 1, 2] for i in range(0, 60, 3))
    assert len({tuple(order[i : i + 3]) for i in range(0, 60, 3)}) > 1, "each epoch has its own order"
    steps = {int(rainy[1, 0, 1] - rainy[1, 0, 0]) for rainy in whole}
    assert steps == {1, -1}, "half of them are mirrored"
    assert {int(rainy[0].min()) for rainy in whole} == set(range(9)), "every row is reached"


def test_a_grid_is_cut_as_the_papers_do(pairs):
    patches = PairPatches([pairs], stride=12)
    assert patches.patches_in_epoch(16) == 3 * 1 * 3
    epoch = [(patches[n, 16][1] * 255).round().int() for n in range(9)]
    corners = {(int(p[2, 0, 0]), int(p[0, 0, 0]), int(p[1, 0, 0])) for p in epoch}
    assert corners == {(pair, 0, x) for pair in range(3) for x in (0, 12, 24)}
    with pytest.raises(InputError, match="smaller than a patch of 32"):
        patches[0, 32]


def test_patches_come_from_the_pictures():
    ramp = np.zeros((60, 80, 3), np.uint8)
    ramp[..., 0] = np.arange(80)
    ramp[..., 1] = np.arange(60)[:, None]
    rng = np.random.default_rng(0)
    corners = set()
    for _ in range(300):
        patch = (random_patch(ramp, 16, 1.0, rng) * 255).round().astype(int)
        assert (np.abs(np.diff(patch[..., 0], axis=1)) == 1).all(), "neither resized nor turned"
        assert (np.diff(patch[..., 1], axis=0) == 1).all()
        corners.add((patch[0, :, 0].min(), patch[0, 0, 1]))
    xs, ys = zip(*corners, strict=True)
    assert (min(xs), max(xs)) == (0, 64)
    assert (min(ys), max(ys)) == (0, 44)
    assert random_patch(ramp[:10, :12], 16, 1.0, rng).shape == (16, 16, 3)


def test_unreadable_pictures_are_told_once_and_left_out(pool, pairs, tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "broken.png").write_bytes(b"rubbish")
    patches = RainOnTheFly([CleanPool((bad,)), pool], {"none": 1})
    assert len([patches[n, 16] for n in range(20)]) == 20
    assert capsys.readouterr().err.count("broken.png") == 1
    Image.new("RGB", (20, 20)).save(tmp_path / "target" / "1.png")
    for stride in (None, 8):
        mended = PairPatches([pairs], stride=stride)
        blue = {int((mended[n, 16][1][2, 0, 0] * 255).round()) for n in range(12)}
        assert blue == {0, 2}
        assert capsys.readouterr().err.count("differs") == 1
    with pytest.raises(InputError, match="1 pictures cannot be read"):
        RainOnTheFly([CleanPool((bad,))], {"none": 1})[0, 16]


def test_faults_are_told(pool, tmp_path):
    with pytest.raises(ValueError, match="frogs"):
        RainOnTheFly([pool], {"frogs": 1})
    with pytest.raises(InputError, match="no pictures here"):
        RainOnTheFly([CleanPool((tmp_path,))], {"light": 1})
    with pytest.raises(ValueError, match="negative"):
        RainOnTheFly([pool], {"light": -1})
