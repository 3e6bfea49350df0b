"""The output container: times, copied streams and metadata."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

from derain.video.clip import Settings, derain_clip, parts_folder  # noqa: E402
from support.clips import TICKS, darker, decoded, make_clip, packets, unchanged  # noqa: E402


def test_sound_times_and_codec_are_kept(source, tmp_path):
    output = tmp_path / "derained.mp4"
    result = derain_clip(source, output, darker)
    assert (result.frames, result.resumed, result.notes) == (25, 0, [])
    assert [t for t, _ in decoded(output)] == [t for t, _ in decoded(source)]
    assert packets(output, "audio") == packets(source, "audio")
    with av.open(str(source)) as before, av.open(str(output)) as after:
        assert after.duration == before.duration
        assert after.streams.video[0].codec_context.name == "h264"
    assert not parts_folder(output).exists()


def test_a_variable_frame_rate_is_kept(tmp_path, moving):
    times = np.cumsum(np.random.default_rng(1).integers(100, 2000, len(moving))).tolist()
    source = make_clip(tmp_path / "clip.mp4", moving, times=times)
    derain_clip(source, tmp_path / "derained.mp4", unchanged)
    assert [t for t, _ in decoded(tmp_path / "derained.mp4")] == [t for t, _ in decoded(source)]
    derain_clip(source, tmp_path / "derained.mkv", unchanged)  # in whole milliseconds, as Matroska has them
    expected = [round(1000 * t / TICKS) for t, _ in decoded(source)]
    got = [t for t, _ in decoded(tmp_path / "derained.mkv")]
    assert np.abs(np.array(got) - got[0] - np.array(expected) + expected[0]).max() <= 1


@pytest.mark.parametrize("color", [(1, 1, 1, 1), (2, 6, 6, 6), (1, 9, 9, 16)])
def test_the_color_description_is_kept(tmp_path, moving, color):
    source = make_clip(tmp_path / "clip.mp4", moving[:3], color=color)
    derain_clip(source, tmp_path / "derained.mp4", darker)
    with av.open(str(tmp_path / "derained.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc) == color


def test_subtitles_and_metadata_are_copied(tmp_path, moving):
    source = make_clip(tmp_path / "plain.mkv", moving, audio="aac")
    full = tmp_path / "clip.mkv"
    with av.open(str(source)) as old, av.open(str(full), "w") as new:
        copies = [new.add_stream_from_template(s) for s in old.streams]
        subtitles = new.add_mux_stream("subrip")
        subtitles.metadata["language"] = "deu"
        new.metadata["title"] = "Regen"
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                new.mux(packet)
        line = av.Packet(b"Es regnet.")
        line.pts = line.dts = 200
        line.duration, line.time_base, line.stream = 500, Fraction(1, 1000), subtitles
        new.mux(line)
    output = tmp_path / "derained.mkv"
    assert derain_clip(full, output, unchanged).notes == []
    assert packets(output, "subtitle") == packets(full, "subtitle")
    assert packets(output, "audio") == packets(full, "audio")
    with av.open(str(output)) as container:
        assert [s.type for s in container.streams] == ["video", "audio", "subtitle"]
        assert container.streams[2].metadata["language"] == "deu"
        assert container.metadata["title"] == "Regen"
    # Streams that a container cannot hold are reported.
    notes = derain_clip(full, tmp_path / "derained.ts", unchanged).notes
    with av.open(str(tmp_path / "derained.ts")) as container:
        copied = [s.type for s in container.streams]
    assert ("subtitle" in copied) != any("subtitle" in note for note in notes)


def test_a_part_starts_at_zero_with_its_sound(source, tmp_path):
    output = tmp_path / "derained.mp4"
    assert derain_clip(source, output, unchanged, Settings(start=0.4, end=0.8)).frames == 10
    whole = derain_clip(source, tmp_path / "all.mp4", unchanged)
    assert whole.frames == 25
    assert [t for t, _ in decoded(output)] == [512 * i for i in range(10)]
    (_, before), (_, after) = decoded(source)[10], decoded(output)[0]
    assert np.abs(before[0].astype(int) - after[0]).mean() < 2
    sound = packets(output, "audio")
    assert 0 <= sound[0][0] < 1024
    assert abs(len(sound) - 0.4 * 48_000 / 1024) <= 1
    originals = {data for *_, data in packets(source, "audio")}
    assert all(data in originals for *_, data in sound)


@pytest.mark.slow
def test_ten_seconds_with_sound(tmp_path, photo):
    wide = np.asarray(Image.fromarray(photo).resize((1200, 800)))
    source = make_clip(tmp_path / "clip.mp4", [wide[i : i + 360, 2 * i : 2 * i + 640] for i in range(250)], audio="aac")
    output = tmp_path / "derained.mp4"
    assert derain_clip(source, output, darker, Settings(temporal_fuse=False)).frames == 250
    with av.open(str(source)) as before, av.open(str(output)) as after:
        assert before.duration == after.duration == 10_000_000
        old, new = before.streams.video[0], after.streams.video[0]
        assert (new.duration, new.time_base, new.frames) == (old.duration, old.time_base, 250)
        assert (new.codec_context.name, new.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert [t for t, _ in decoded(output)] == [t for t, _ in decoded(source)]
    assert packets(output, "audio") == packets(source, "audio")
    ratio = [
        after[0].mean(dtype=float) / before[0].mean(dtype=float)
        for (_, before), (_, after) in zip(decoded(source)[::50], decoded(output)[::50], strict=True)
    ]
    assert max(ratio) < 0.62  # half as bright, above the black level of 16
