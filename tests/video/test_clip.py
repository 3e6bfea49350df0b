"""Deraining clips: pixels, orientation, range, comparison and memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

av = pytest.importorskip("av")

from derain.errors import InputError  # noqa: E402
from derain.video.clip import Settings, comparison_path, derain_clip  # noqa: E402
from support.clips import darker, decoded, make_clip, packets, unchanged  # noqa: E402


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "gray", "yuva420p", "yuv411p", "gbrp10le"]
)
def test_unchanged_pixels_stay_bit_identical(tmp_path, moving, pix_fmt):
    source = make_clip(tmp_path / "clip.mkv", moving[:6], codec="ffv1", pix_fmt=pix_fmt)
    output = tmp_path / "derained.mkv"
    derain_clip(source, output, unchanged, Settings(temporal_fuse=False))
    for (_, before), (_, after) in zip(decoded(source), decoded(output), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert before[0].dtype == (np.uint8 if pix_fmt in ("yuv420p", "gray", "yuva420p", "yuv411p") else np.uint16)


def test_strength_blends_linearly(tmp_path, moving):
    source = make_clip(tmp_path / "clip.mkv", moving[:4], codec="ffv1", pix_fmt="yuv444p16le")
    results = []
    for strength in (0, 0.5, 1):
        output = tmp_path / f"{strength}.mkv"
        derain_clip(source, output, darker, Settings(temporal_fuse=False, strength=strength))
        results.append(np.asarray([frame[0] for _, frame in decoded(output)], float))
    before = np.asarray([frame[0] for _, frame in decoded(source)], float)
    np.testing.assert_array_equal(results[0], before)
    assert np.abs(results[2] - before).max() > 2000
    np.testing.assert_allclose(results[1], (results[0] + results[2]) / 2, atol=1.01)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_kept_and_the_network_gets_upright_frames(tmp_path, moving, rotation):
    source = make_clip(tmp_path / "clip.mp4", moving[:3], rotation=rotation)
    seen: list[np.ndarray] = []

    def top_dark(frame: np.ndarray) -> np.ndarray:
        seen.append(frame)
        dark = frame.copy()
        dark[: len(dark) // 2] = 0
        return dark

    output = tmp_path / "derained.mp4"
    derain_clip(source, output, top_dark)
    with av.open(str(source)) as before, av.open(str(output)) as after:
        old, new = (next(c.decode(video=0)) for c in (before, after))
        assert new.rotation == old.rotation
        upright = np.rot90(new.to_ndarray(format="rgb24"), rotation // 90)
        expected = np.rot90(old.to_ndarray(format="rgb24"), rotation // 90)
    assert np.abs(seen[0] * 255 - expected).mean() < 4
    assert upright[:20].mean() < 20 < upright[-20:].mean()


@pytest.mark.parametrize("span", [(0.5, 0.5), (0.8, 0.2), (5.0, None), (None, 0.0)])
def test_a_range_without_frames_is_an_error(source, tmp_path, span):
    with pytest.raises(InputError, match="no frame lies between"):
        derain_clip(source, tmp_path / "derained.mp4", unchanged, Settings(start=span[0], end=span[1]))


def test_split_screen(source, tmp_path):
    output = tmp_path / "derained.mp4"
    result = derain_clip(source, output, darker, Settings(compare=True))
    assert result.compare == comparison_path(output)
    before, after, both = (decoded(p)[5][1][0].astype(float) for p in (source, output, result.compare))
    assert np.abs(both[:, :40] - before[:, :40]).mean() < 3
    assert np.abs(both[:, 56:] - after[:, 56:]).mean() < 3
    assert both[:, 47:49].mean() > 200
    assert packets(result.compare, "audio") == packets(source, "audio")


def test_memory_does_not_grow_with_the_clip(tmp_path, photo):
    """Peak of live numpy memory over a clip four times as long."""
    peaks = []
    for n in (40, 160):
        source = make_clip(tmp_path / f"{n}.mp4", [photo[i % 50 : i % 50 + 96, :128] for i in range(n)])
        tracemalloc.start()
        derain_clip(source, tmp_path / f"derained{n}.mp4", unchanged, Settings(temporal_fuse=False))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * 2**20
