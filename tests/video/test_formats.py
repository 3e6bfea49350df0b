"""Pixel formats: the nearest one, RGB in any order, and conversion to YUV with the right matrix."""

from __future__ import annotations

import numpy as np
import pytest

av = pytest.importorskip("av")

from derain.video.clip import Settings, derain_clip  # noqa: E402
from derain.video.encoding import choose_encoding  # noqa: E402
from derain.video.formats import convert, encoded_color, is_supported, nearest_format, planar_format  # noqa: E402
from derain.video.reader import Clip  # noqa: E402
from derain.video.yuv import read_planes  # noqa: E402
from support.clips import make_clip, rgb_frames, unchanged  # noqa: E402

FRAME_BY_FRAME = Settings(temporal_fuse=False)


def test_formats_are_kept_or_the_nearest_is_chosen():
    x264 = [f.name for f in av.Codec("libx264", "w").video_formats]
    assert nearest_format("yuv420p10le", x264) == "yuv420p10le"
    assert nearest_format("p010le", x264) == "yuv420p10le"
    assert nearest_format("nv12", x264) == "yuv420p"
    assert nearest_format("pal8", x264) == "yuv444p"
    assert nearest_format("yuyv422", x264) == "yuv422p"
    assert nearest_format("gray", ["yuv420p", "rgb24"]) == "yuv420p"
    assert not any(is_supported(name) for name in ("nv12", "pal8", "rgb24", "yuv420p10be", "gbrpf32le", "no such"))


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "bgr0", "rgba", "argb", "bgra", "rgb48be", "rgba64be", "rgb48le"])
def test_packed_rgb_is_unpacked_and_packed_without_loss(name):
    values = np.random.default_rng(0).integers(0, 65536, (8, 16, 4), np.uint16)
    deep = av.VideoFrame.from_ndarray(values, format="rgba64le")
    packed = deep.reformat(format=name)
    planar = planar_format(name)
    unpacked = convert(packed, planar, (2, 0, 1, 1))
    again = unpacked.reformat(format=name)
    if "0" not in name:  # an unused byte has any value
        assert bytes(again.planes[0]) == bytes(packed.planes[0])
    green, blue, red = read_planes(unpacked)[:3]
    bits = unpacked.format.components[0].bits
    expected = np.moveaxis(values if bits == 16 else packed.to_ndarray(format="rgba"), 2, 0)
    assert all(np.array_equal(a, b) for a, b in zip((red, green, blue), expected, strict=False))


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        ("mkv", "libx264rgb", "bgr24"),
        ("mp4", "libx264rgb", "rgb24"),
        ("mkv", "ffv1", "bgr0"),
        ("mkv", "ffv1", "bgra"),
        ("mkv", "ffv1", "gbrp10le"),
        ("mov", "png", "rgb24"),
        ("mov", "png", "rgba"),
        ("mov", "png", "rgb48be"),
        ("mov", "qtrle", "rgb24"),
        ("mov", "qtrle", "argb"),
        ("webm", "libvpx-vp9", "gbrp"),
        ("mkv", "libx265", "gbrp"),
    ],
)
def test_rgb_stays_rgb(tmp_path, moving, suffix, codec, pix_fmt):
    source = make_clip(tmp_path / f"clip.{suffix}", moving[:3], codec=codec, pix_fmt=pix_fmt, color=(2, 0, 1, 13))
    output = tmp_path / f"derained.{suffix}"
    result = derain_clip(source, output, unchanged, FRAME_BY_FRAME)
    before, after = rgb_frames(source), rgb_frames(output)
    lossless = codec in ("ffv1", "png", "qtrle")
    assert np.abs(before - after).max() <= (0 if lossless else 40)
    assert np.abs(before - after).mean() < 2.5
    assert result.notes == []
    with av.open(str(source)) as old, av.open(str(output)) as new:
        frames = [next(c.decode(video=0)) for c in (old, new)]
        assert frames[0].format.name == frames[1].format.name
        assert old.streams.video[0].codec_context.name == new.streams.video[0].codec_context.name


@pytest.mark.parametrize("target", ["clip.mp4", "clip.webm", "clip.mov"])
@pytest.mark.parametrize(("codec", "pix_fmt"), [("png", "rgb24"), ("ffv1", "bgr0"), ("ffv1", "gbrp16le")])
def test_rgb_that_becomes_yuv_has_a_matrix(tmp_path, moving, codec, pix_fmt, target):
    name = "source.mov" if codec == "png" else "source.mkv"
    source = make_clip(tmp_path / name, moving[:3], codec=codec, pix_fmt=pix_fmt, color=(2, 0, 2, 2))
    chosen = {"clip.mp4": "h264", "clip.webm": "vp8", "clip.mov": "prores"}[target]
    derain_clip(source, tmp_path / target, unchanged, Settings(temporal_fuse=False, codec=chosen))
    before, after = rgb_frames(source), rgb_frames(tmp_path / target)
    # Subsampling blurs colors; a wrong matrix or range shifts them everywhere.
    assert np.abs(before.mean((1, 2)) - after.mean((1, 2))).max() < 1.5
    assert np.abs(before - after).mean() < (8 if chosen == "vp8" else 4)
    with av.open(str(tmp_path / target)) as container:
        frame = next(container.decode(video=0))
        assert not frame.format.is_rgb
        assert (int(frame.colorspace), int(frame.color_range)) in {(6, 1), (5, 1), (6, 0)}


def test_yuv_that_becomes_rgb_keeps_its_colors(tmp_path, moving):
    for matrix in (1, 6, 9):
        source = make_clip(
            tmp_path / "source.mkv", moving[:2], codec="ffv1", pix_fmt="yuv444p", color=(1, matrix, 1, 1)
        )
        derain_clip(source, tmp_path / f"{matrix}.mov", unchanged, Settings(temporal_fuse=False, codec="png"))
        before, after = rgb_frames(source), rgb_frames(tmp_path / f"{matrix}.mov")
        assert np.abs(before - after).max() <= 2


def test_the_color_description_follows_the_planes():
    assert encoded_color((2, 0, 1, 13), "gbrp", "yuv444p", 1920, 1080) == (1, 1, 1, 13)
    assert encoded_color((2, 0, 2, 2), "rgb24", "yuv420p", 640, 480) == (1, 6, 2, 2)
    assert encoded_color((2, 0, 9, 16), "gbrp10le", "yuv420p10le", 640, 480) == (1, 9, 9, 16)
    assert encoded_color((1, 1, 1, 1), "yuv420p", "gbrp", 640, 480) == (2, 0, 1, 1)
    assert encoded_color((1, 9, 9, 16), "yuv420p10le", "yuv420p", 640, 480) == (1, 9, 9, 16)
    assert encoded_color((1, 6, 6, 6), "yuv420p", "yuvj420p", 640, 480) == (2, 6, 6, 6)


def test_transparency_is_kept_or_reported(tmp_path, moving):
    source = make_clip(tmp_path / "clip.mov", moving[:2], codec="qtrle", pix_fmt="argb", alpha=True)
    derain_clip(source, tmp_path / "kept.mov", unchanged, FRAME_BY_FRAME)
    derain_clip(source, tmp_path / "kept.mkv", unchanged, Settings(codec="ffv1", temporal_fuse=False))
    with av.open(str(source)) as container:
        alpha = next(container.decode(video=0)).to_ndarray(format="rgba")[..., 3]
    assert 0 < alpha.mean() < 255
    for name in ("kept.mov", "kept.mkv"):
        with av.open(str(tmp_path / name)) as container:
            assert np.array_equal(next(container.decode(video=0)).to_ndarray(format="rgba")[..., 3], alpha)
    notes = derain_clip(source, tmp_path / "kept.webm", unchanged, FRAME_BY_FRAME).notes
    assert not any("transparency" in note for note in notes)
    for name, codec in (("lost.mp4", None), ("vp9.mp4", "vp9"), ("lost.mkv", "hevc")):
        notes = derain_clip(source, tmp_path / name, unchanged, Settings(codec=codec, temporal_fuse=False)).notes
        assert any("transparency" in note for note in notes), name


def test_editing_formats_become_h264_in_mp4(tmp_path, moving):
    source = make_clip(tmp_path / "clip.mov", moving[:2], codec="png", pix_fmt="rgb24")
    assert choose_encoding(Clip(source), tmp_path / "new.mp4", None, None).encoder == "libx264"
    assert choose_encoding(Clip(source), tmp_path / "new.mov", None, None).encoder == "png"
