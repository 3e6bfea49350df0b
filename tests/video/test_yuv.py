"""Planes to RGB and back, against FFmpeg."""

from __future__ import annotations

import numpy as np
import pytest

av = pytest.importorskip("av")

from derain.video.yuv import layout_of, read_planes, write_planes  # noqa: E402


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le", "yuv422p", "yuv420p10le", "yuvj420p", "gbrp"])
def test_rgb_agrees_with_ffmpeg(pix_fmt, matrix):
    y, x = np.mgrid[:64, :96]
    smooth = np.stack([2.5 * x, 3.5 * y, 1.5 * (x + y)], axis=2).clip(0, 255).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(smooth, format="rgb24").reformat(
        format=pix_fmt, dst_colorspace=matrix, dst_color_range=2 if "j" in pix_fmt else 1
    )
    rgb = layout_of(frame).rgb(read_planes(frame))
    assert np.abs(255 * rgb - smooth)[2:-2, 2:-2].max() < 3


@pytest.mark.parametrize("pix_fmt", ["yuv444p10le", "yuv420p", "yuvj420p", "yuv422p", "gray", "gbrp", "yuv411p"])
def test_a_change_of_rgb_is_applied(pix_fmt, photo):
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(photo[:64, :96]), format="rgb24").reformat(format=pix_fmt)
    layout, planes = layout_of(frame), read_planes(frame)
    rgb = layout.rgb(planes)
    change = -0.3 * np.clip(rgb, 0, 1)
    y, x = np.mgrid[:64, :96]
    change *= (0.5 + 0.5 * np.sin(x / 9) * np.cos(y / 9))[..., None].astype(np.float32)
    if pix_fmt == "gray":
        change[:] = change.mean(axis=2, keepdims=True)
    again = layout.rgb(layout.changed(planes, change))
    # Subsampled chroma cannot follow a change with fine color detail; luma does.
    allowed = 0.004 if pix_fmt in ("yuv444p10le", "gray", "gbrp") else 0.03
    assert np.abs(again - rgb - change).mean() < allowed
    assert np.abs((again - rgb - change) @ [0.299, 0.587, 0.114]).mean() < 0.004


def test_planes_survive_a_frame_with_padded_rows():
    rng = np.random.default_rng(0)
    frame = av.VideoFrame(63, 47, "yuv420p10le")
    planes = [rng.integers(0, 1024, (p.height, p.width)).astype(np.uint16) for p in frame.planes]
    write_planes(frame, planes)
    assert all(np.array_equal(a, b) for a, b in zip(read_planes(frame), planes, strict=True))
