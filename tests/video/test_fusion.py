"""Temporal fusion of neighboring frames, and flicker."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from derain.metrics import flicker
from derain.video.fusion import RADIUS, align, camera_motion, fuse, identity_motion, temporal_fuse


@pytest.fixture(scope="module")
def scene(photo) -> np.ndarray:
    return cv2.GaussianBlur(photo.astype(np.float32) / 255, (0, 0), 0.7)


def view(scene: np.ndarray, motion: np.ndarray, size: tuple[int, int] = (160, 112)) -> np.ndarray:
    """The view of a moved camera: ``motion`` maps its pixels to the scene's."""
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(scene, motion.astype(np.float32), size, flags=flags).clip(0, 1)


def shifted(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, 50 + x], [0, 1, 30 + y]])


def noisy(frames: list[np.ndarray], amount: float = 0.05) -> list[np.ndarray]:
    """Add thin bright strokes at different positions in each frame, as a network may leave."""
    rng = np.random.default_rng(0)
    out = []
    for frame in frames:
        layer = np.zeros(frame.shape[:2], np.float32)
        for x, y in zip(rng.integers(0, frame.shape[1], 60), rng.integers(0, frame.shape[0], 60), strict=True):
            cv2.line(layer, (int(x), int(y)), (int(x) + 4, int(y) + 14), 4 * amount, 1)
        out.append((frame + layer[..., None]).clip(0, 1))
    return out


def test_a_static_clip_is_unchanged(scene):
    frame = scene[:112, :160]
    for result in temporal_fuse([frame] * 7):
        assert np.array_equal(result, frame)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_every_frame_gives_a_result(scene, count):
    frames = [scene[i : i + 64, :96] for i in range(count)]
    assert len(list(temporal_fuse(frames))) == count


@pytest.mark.parametrize("move", [(0.0, 0.0), (1.3, -0.4), (-6.5, 2.25), (25.0, 11.0)])
def test_a_translation_is_estimated(scene, move):
    first, second = noisy([view(scene, shifted(0, 0)), view(scene, shifted(*move))])
    estimate = camera_motion(first, second)
    expected = identity_motion()
    expected[:, 2] = -np.array(move)
    assert estimate is not None
    if move == (0.0, 0.0):
        assert np.array_equal(estimate, identity_motion())
    assert np.abs((estimate - expected) @ [160, 112, 1]).max() < 0.2


def test_a_rotation_with_zoom_is_estimated(scene):
    rotation = np.vstack([cv2.getRotationMatrix2D((80, 56), 1.5, 1.02), [0, 0, 1]])
    base = np.vstack([shifted(0, 0), [0, 0, 1]])
    first, second = view(scene, base[:2]), view(scene, (base @ rotation)[:2])
    estimate = camera_motion(first, second)
    assert estimate is not None
    assert np.abs((estimate - np.linalg.inv(rotation)[:2]) @ [160, 112, 1]).max() < 0.3
    moved, known = align(second, estimate)
    assert np.abs(moved - first)[known].mean() < 0.01


def test_another_scene_gives_no_motion(scene):
    flat = np.random.default_rng(0).permutation(scene[:112, :160].reshape(-1, 3)).reshape(112, 160, 3)
    checks = ((np.add.outer(np.arange(112), np.arange(160)) // 16) % 2).astype(np.float32)
    assert camera_motion(np.repeat(checks[..., None], 3, axis=2), flat) is None
    assert camera_motion(scene[:64, :64], scene[:64, :80]) is None


def test_frames_of_two_scenes_do_not_mix(scene):
    black, photo = np.zeros((48, 64, 3), np.float32), scene[:48, :64]
    checks = ((np.add.outer(np.arange(48), np.arange(64)) // 12) % 2).astype(np.float32)[..., None].repeat(3, axis=2)
    results = list(temporal_fuse([checks] * 3 + [photo] * 3))
    assert np.abs(results[2] - checks).max() < 1e-6
    assert np.abs(results[3] - photo).max() < 1e-6
    assert np.array_equal(next(iter(temporal_fuse([black, black]))), black)


@pytest.mark.parametrize("step", [(0.0, 0.0), (1.7, 0.6)])
def test_remaining_rain_and_flicker_are_reduced(scene, step):
    clean = [view(scene, shifted(step[0] * t, step[1] * t)) for t in range(9)]
    rainy = noisy(clean)
    results = list(temporal_fuse(rainy))

    def error(frames: list[np.ndarray]) -> float:
        return float(np.mean([np.mean((a - b)[8:-8, 8:-8] ** 2) for a, b in zip(frames, clean, strict=True)]))

    assert 10 * np.log10(error(rainy) / error(results)) > 1
    motion = identity_motion()
    motion[:, 2] = [-step[0], -step[1]]
    flickers = [flicker(f, truth=clean, motions=[motion] * 8) for f in (rainy, results)]
    assert flickers[1] < 0.7 * flickers[0]


def test_moving_objects_leave_no_ghosts(scene):
    background = view(scene, shifted(0, 0))
    clean, where = [], []
    for t in range(9):
        frame, mask = background.copy(), np.zeros(background.shape[:2], np.uint8)
        cv2.circle(mask, (30 + 6 * t, 50), 16, 1, -1)
        frame[mask > 0] = 1 - frame[mask > 0]
        clean.append(frame)
        where.append(cv2.dilate(mask, np.ones((31, 31))) > 0)
    rainy = noisy(clean)
    results = list(temporal_fuse(rainy))
    for t in range(2, 7):
        before, after = (np.mean((f[t] - clean[t])[where[t]] ** 2) for f in (rainy, results))
        assert after < 1.02 * before


def test_a_part_with_its_margin_equals_the_whole(scene):
    frames = noisy([view(scene, shifted(1.2 * t, 0)) for t in range(12)])
    whole = list(temporal_fuse(frames))
    part = list(temporal_fuse(frames[4 - RADIUS : 8 + RADIUS]))[RADIUS:-RADIUS]
    assert all(np.array_equal(a, b) for a, b in zip(part, whole[4:8], strict=True))


def test_frames_are_read_only_when_needed(scene):
    read = 0

    def source():
        nonlocal read
        for i in range(20):
            read += 1
            yield scene[i : i + 48, :64]

    results = temporal_fuse(source())
    for n in range(1, 10):
        next(results)
        assert read == n + RADIUS


def test_regions_outside_of_a_neighbor_are_ignored(scene):
    frame = scene[:64, :96]
    motion = identity_motion()
    motion[0, 2] = 40
    moved, known = align(frame, motion)
    assert known[:, :55].all()
    assert not known[:, 57:].any()
    mirrored = [(moved, np.zeros((64, 96), bool))] * 4
    assert np.array_equal(fuse(frame, mirrored), frame)


def test_flicker_has_closed_forms(scene):
    gray = np.full((64, 64, 3), 0.5, np.float32)
    assert flicker([gray] * 3) == 0
    blink = [gray + s * np.float32(0.02) for s in (1, -1, 1, -1)]
    assert flicker(blink) == pytest.approx(255 * 0.04, rel=1e-5)
    half = np.zeros((64, 64), bool)
    half[:32] = True
    one_sided = [gray, gray.copy()]
    one_sided[1][:32] += 0.1
    assert flicker(one_sided, static=[half] * 2) == pytest.approx(25.5, rel=1e-5)
    assert flicker(one_sided, static=[~half] * 2) == 0
    pan = [scene[20 : 20 + 80, 30 + 3 * t : 130 + 3 * t] for t in range(4)]
    motion = identity_motion()
    motion[0, 2] = -3
    assert flicker(pan, motions=[motion] * 3) < 1e-3 < flicker(pan)
    assert flicker(pan, truth=pan) == 0
    with pytest.raises(ValueError, match="two frames"):
        flicker([gray])
    with pytest.raises(ValueError, match="no static pixel"):
        flicker([gray] * 2, static=[np.zeros((64, 64), bool)] * 2)
