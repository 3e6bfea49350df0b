"""Choosing encoder, rate factor and frame size."""

from __future__ import annotations

import numpy as np
import pytest

av = pytest.importorskip("av")

from derain.errors import OutputError  # noqa: E402
from derain.video.clip import Settings, derain_clip  # noqa: E402
from support.clips import decoded, make_clip, packets, unchanged  # noqa: E402


def test_codec_and_crf_are_applied(source, tmp_path):
    sizes = []
    for crf in (10, 40):
        output = tmp_path / f"{crf}.mp4"
        derain_clip(source, output, unchanged, Settings(crf=crf))
        sizes.append(sum(len(p[3]) for p in packets(output, "video")))
    assert sizes[0] > 3 * sizes[1]
    derain_clip(source, tmp_path / "derained.mkv", unchanged, Settings(codec="vp9"))
    with av.open(str(tmp_path / "derained.mkv")) as container:
        assert container.streams.video[0].codec_context.name == "vp9"
    for settings, message in (
        (Settings(codec="nonsense"), "no such encoder"),
        (Settings(codec="aac"), "cannot hold"),
        (Settings(codec="h264", crf=99), "between 0 and 51"),
        (Settings(codec="mpeg4", crf=20), "has no rate factor"),
        (Settings(crf=-1), "must not be negative"),
        (Settings(codec="vp8"), "cannot hold"),
    ):
        with pytest.raises(OutputError, match=message):
            derain_clip(source, tmp_path / "no.mp4", unchanged, settings)
    with pytest.raises(OutputError, match="cannot hold the sound"):
        derain_clip(source, tmp_path / "no.webm", unchanged)
    with pytest.raises(OutputError, match="cannot write a clip as"):
        derain_clip(source, tmp_path / "no.png", unchanged)
    assert not list(tmp_path.glob("*no*"))


def test_odd_dimensions_are_kept_or_padded(tmp_path, photo):
    frames = [photo[i : i + 47, :63] for i in range(4)]
    source = make_clip(tmp_path / "clip.mkv", frames, codec="ffv1")
    result = derain_clip(source, tmp_path / "derained.mp4", unchanged, Settings(codec="h264"))
    assert result.size == (64, 48)
    assert "63×47 became 64×48" in result.notes[0]
    (_, before), (_, after) = decoded(source)[0], decoded(tmp_path / "derained.mp4")[0]
    assert after[0].shape == (48, 64)
    assert np.abs(after[0][:47, :63].astype(int) - before[0]).mean() < 4
    assert np.abs(after[0][:, 63].astype(int) - after[0][:, 62]).mean() < 4
    result = derain_clip(source, tmp_path / "derained.mkv", unchanged)
    assert (result.size, result.notes) == ((63, 47), [])
