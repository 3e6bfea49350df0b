"""Reading clips: frame times, damaged and broken files."""

from __future__ import annotations

import numpy as np
import pytest

av = pytest.importorskip("av")

from derain.errors import InputError  # noqa: E402
from derain.video.clip import derain_clip  # noqa: E402
from derain.video.containers import ReadOptions  # noqa: E402
from derain.video.reader import Clip  # noqa: E402
from support.clips import decoded, make_clip, unchanged  # noqa: E402


def test_frames_are_indexed_by_time(source):
    clip = Clip(source)
    assert clip.times.tolist() == [512 * i for i in range(25)]
    assert [t for t, _ in clip.frames(512 * 20)] == [512 * i for i in range(20, 25)]
    assert [t for t, _ in clip.frames(512 * 3, 512 * 5)] == [512 * 3, 512 * 4]
    assert clip.duration(512 * 24) == 512


def test_a_raw_stream_gets_times_from_its_rate(tmp_path, moving):
    source = make_clip(tmp_path / "clip.h264", moving)
    result = derain_clip(source, tmp_path / "derained.mp4", unchanged)
    times = [t for t, _ in decoded(tmp_path / "derained.mp4")]
    assert result.frames == 25
    assert len(set(np.diff(times))) == 1
    with av.open(str(tmp_path / "derained.mp4")) as container:
        assert container.duration == pytest.approx(1_000_000, abs=45_000)


def test_unreadable_clips_raise_a_one_line_error(source, tmp_path, photo):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a clip " * 100)
    (tmp_path / "half.mp4").write_bytes(source.read_bytes()[:3000])  # its index is at the end
    sound = tmp_path / "sound.mka"
    with av.open(str(source)) as old, av.open(str(sound), "w") as new:
        copy = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(old.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    for name, message in (
        ("empty.mp4", "is empty"),
        ("text.mp4", "not a clip"),
        ("half.mp4", "not a clip"),
        ("sound.mka", "no video stream"),
        ("missing.mp4", "no such file"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            derain_clip(tmp_path / name, tmp_path / "derained.mp4", unchanged)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no frame that can be decoded"):
        derain_clip(source, tmp_path / "derained.mp4", unchanged, reading=ReadOptions(max_pixels=96 * 64 - 1))
    assert not (tmp_path / "derained.mp4").exists()


def test_truncated_and_damaged_clips_are_derained_as_far_as_possible(tmp_path, moving):
    source = make_clip(tmp_path / "clip.ts", moving, audio="aac")
    data = bytearray(source.read_bytes())
    (tmp_path / "half.ts").write_bytes(data[: len(data) * 3 // 5])
    result = derain_clip(tmp_path / "half.ts", tmp_path / "half.mp4", unchanged)
    assert 5 < result.frames < 25
    assert len(decoded(tmp_path / "half.mp4")) == result.frames
    damaged = make_clip(tmp_path / "damaged.mkv", moving, codec="ffv1").read_bytes()
    middle = len(damaged) // 2
    (tmp_path / "damaged.mkv").write_bytes(damaged[:middle] + bytes(2000) + damaged[middle + 2000 :])
    result = derain_clip(tmp_path / "damaged.mkv", tmp_path / "output.mkv", unchanged)
    assert 5 < result.frames <= 25
    assert "damaged packets" in result.notes[0]


def test_a_change_of_frame_size_is_an_error(tmp_path, photo):
    parts = [make_clip(tmp_path / f"{w}.ts", [photo[:64, :w]] * 5) for w in (96, 128)]
    with av.open(str(parts[1])) as second, av.open(str(tmp_path / "late.ts"), "w") as out:
        copy = out.add_stream_from_template(second.streams.video[0])
        for packet in second.demux():
            if packet.size:
                packet.pts, packet.dts = packet.pts + 90_000, packet.dts + 90_000
                packet.stream = copy
                out.mux(packet)
    (tmp_path / "two.ts").write_bytes(parts[0].read_bytes() + (tmp_path / "late.ts").read_bytes())
    with pytest.raises(InputError, match=r"changes to 128×64 at .* --end"):
        derain_clip(tmp_path / "two.ts", tmp_path / "derained.mp4", unchanged)
