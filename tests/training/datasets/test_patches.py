"""Patches with rain on the fly: functions of seed and number, with the rain and targets that were set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from derain.training.datasets.patches import RainOnTheFly, random_patch


def test_a_patch_is_a_function_of_seed_and_number(pool):
    def make(seed: int) -> RainOnTheFly:
        return RainOnTheFly([pool], {"mixed": 0.8, "none": 0.2}, seed=seed)

    dataset = make(3)
    patches = [dataset[n, 48] for n in range(24)]
    for rainy, clean in patches:
        assert rainy.shape == clean.shape == (3, 48, 48)
        assert rainy.dtype == torch.float32
        assert 0 <= rainy.min() <= rainy.max() <= 1
        torch.testing.assert_close(rainy * 255, (rainy * 255).round(), rtol=0, atol=1e-3)
    assert 0 < sum(torch.equal(a, b) for a, b in patches) < 14
    assert torch.equal(make(3)[17, 48][0], patches[17][0])
    assert not torch.equal(make(4)[17, 48][0], patches[17][0])
    assert not torch.equal(patches[17][0], patches[18][0])


def test_distractors_are_part_of_the_clean_image(pool):
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


def test_rotated_patches_are_the_same_patches_rotated(pool):
    plain = RainOnTheFly([pool], {"none": 1}, seed=5)
    rotated = RainOnTheFly([pool], {"none": 1}, seed=5, rotate90=1.0)
    for number in range(4):
        assert torch.equal(rotated[number, 48][1], torch.rot90(plain[number, 48][1], dims=(1, 2)))


def test_with_streaks_only_the_target_keeps_fog_and_grain(pool):
    """The difference between input and target is then streaks, which never darken."""
    plain, streaks = (RainOnTheFly([pool], {"real": 1}, seed=5, streaks_only=only) for only in (False, True))
    foggy = 0
    for number in range(12):
        clean = plain[number, 48][1]
        rainy, target = streaks[number, 48]
        assert (rainy - target).mean() > -1e-3
        if (target - clean).abs().max() > 0.1:
            foggy += 1
            assert (rainy - target).abs().mean() < (rainy - clean).abs().mean()
    assert 3 <= foggy <= 11  # six of ten have fog
    light = RainOnTheFly([pool], {"light": 1}, seed=5, streaks_only=True)
    assert torch.equal(light[3, 48][1], RainOnTheFly([pool], {"light": 1}, seed=5)[3, 48][1])


def test_with_streaks_only_half_of_the_rain_free_patches_are_degraded(pool):
    """They are foggy, grainy or compressed, the same in input and target."""
    plain, degraded = (RainOnTheFly([pool], {"none": 1}, seed=5, streaks_only=only) for only in (False, True))
    changed = 0
    for number in range(24):
        rainy, target = degraded[number, 48]
        assert torch.equal(rainy, target)
        changed += not torch.equal(target, plain[number, 48][1])
    assert 6 <= changed <= 18


def test_layers_are_added_as_they_are(pool, tmp_path):
    """A layer is a ramp, so its crop can be read off: only a gain near 1 changes it, and the target stays clean."""
    ramp = np.tile(np.arange(0, 240, 2, dtype=np.uint8)[:, None], (1, 150))
    Image.fromarray(ramp).save(tmp_path / "layer.png")
    plain = RainOnTheFly([pool], {"none": 1}, seed=5)
    layered = RainOnTheFly([pool], {"layers": 1}, seed=5, layers=tmp_path)
    again = RainOnTheFly([pool], {"layers": 1}, seed=5, layers=tmp_path)
    gains, tops = [], set()
    for number in range(20):
        rainy, clean = layered[number, 48]
        assert torch.equal(rainy, again[number, 48][0])
        assert torch.equal(clean, plain[number, 48][1])
        added = ((rainy - clean) * 255).numpy()
        assert (added >= -1e-3).all()
        added[rainy.numpy() == 1] = np.nan  # saturated
        lines = np.flatnonzero((~np.isnan(added)).any(axis=(0, 2)))
        values = np.nanmedian(added[:, lines], axis=(0, 2))
        assert np.nanmax(np.abs(added[:, lines] - values[:, None])) <= 1.001, "gray, the same in all columns"
        if len(lines) < 40:
            continue
        slope, top = np.polyfit(lines, values, 1)
        gains.append(slope / 2)
        tops.add(round(top))
    assert len(gains) > 8
    assert 0.9 < min(gains) < 0.97 < 1.03 < max(gains) < 1.1
    assert len(tops) > 5, "cropped at different places"


def test_layers_are_mixed_with_presets_by_their_weights(pool, tmp_path):
    Image.fromarray(np.full((60, 60), 50, np.uint8)).save(tmp_path / "layer.png")
    patches = RainOnTheFly([pool], {"none": 0.5, "layers": 0.5}, seed=1, layers=tmp_path)
    rained = [not torch.equal(*patches[number, 32]) for number in range(60)]
    assert 18 < sum(rained) < 42


def test_without_augmentation_patches_are_plain_crops(pool):
    image = np.asarray(Image.open(pool.files()[0]).convert("RGB"))
    leave_out = frozenset(pool.files()[1:])
    patches = RainOnTheFly([pool], {"none": 1}, seed=2, augment=False, leave_out=leave_out)
    for number in range(6):
        patch = (patches[number, 16][1] * 255).round().byte().permute(1, 2, 0).numpy()
        corners = np.argwhere((image[: image.shape[0] - 15, : image.shape[1] - 15] == patch[0, 0]).all(axis=2))
        assert any(np.array_equal(image[y : y + 16, x : x + 16], patch) for y, x in corners)


def test_workers_return_the_same_patches(pool):
    patches = RainOnTheFly([pool], {"light": 1}, seed=1)
    requests = [[(0, 16), (1, 16)], [(2, 24), (3, 24)]]
    loader = DataLoader(patches, batch_sampler=requests, num_workers=1, multiprocessing_context="spawn")
    for (rainy, _), batch in zip(loader, requests, strict=True):
        assert torch.equal(rainy, torch.stack([patches[r][0] for r in batch]))


def test_left_out_files_are_never_used(pool):
    files = pool.files()
    patches = RainOnTheFly([pool, pool], {"none": 1}, leave_out=frozenset(files[:1]))
    assert {path for group in patches.files for path in group} == set(files[1:])


def test_patches_are_parts_of_the_image():
    ramp = np.zeros((60, 80, 3), np.uint8)
    ramp[..., 0] = np.arange(80)
    ramp[..., 1] = np.arange(60)[:, None]
    rng = np.random.default_rng(0)
    corners = set()
    for _ in range(300):
        patch = (random_patch(ramp, 16, 1.0, rng) * 255).round().astype(int)
        assert (np.abs(np.diff(patch[..., 0], axis=1)) == 1).all(), "neither resized nor rotated"
        assert (np.diff(patch[..., 1], axis=0) == 1).all()
        corners.add((patch[0, :, 0].min(), patch[0, 0, 1]))
    xs, ys = zip(*corners, strict=True)
    assert (min(xs), max(xs)) == (0, 64)
    assert (min(ys), max(ys)) == (0, 44)
    assert random_patch(ramp[:10, :12], 16, 1.0, rng).shape == (16, 16, 3)


def test_wrong_presets_are_rejected(pool):
    with pytest.raises(ValueError, match="frogs"):
        RainOnTheFly([pool], {"frogs": 1})
    with pytest.raises(ValueError, match="negative"):
        RainOnTheFly([pool], {"light": -1})
    with pytest.raises(ValueError, match="folder of rain layers"):
        RainOnTheFly([pool], {"layers": 1})
