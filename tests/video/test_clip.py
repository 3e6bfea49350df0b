"""Clips: what goes in comes out, but for the rain."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

from derain.errors import InputError, OutputError  # noqa: E402
from derain.video.clip import Settings, comparison_of, derain_clip, parts_folder  # noqa: E402
from derain.video.reader import Clip, Encoding  # noqa: E402
from derain.video.yuv import layout_of, nearest_format, read_planes, workable, write_planes  # noqa: E402

TICKS = 12_800


def same(picture: np.ndarray) -> np.ndarray:
    """A network that leaves everything as it is."""
    return picture


def darker(picture: np.ndarray) -> np.ndarray:
    return picture * np.float32(0.5)


def make_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: str | None = None,
    rotation: int = 0,
    color: tuple[int, int, int, int] = (1, 1, 1, 1),
) -> Path:
    """A clip of RGB frames, uint8; times in 1/12800 s, 25 a second unless told."""
    times = times or [512 * i for i in range(len(frames))]
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, width=width, height=height, pix_fmt=pix_fmt)
        video.codec_context.time_base = Fraction(1, TICKS)
        video.time_base = Fraction(1, TICKS)
        context = video.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = color
        if codec == "libx264":
            context.options = {"preset": "ultrafast", "bf": "2"}
        if rotation:
            video.set_display_rotation(rotation)
        sound = out.add_stream(audio, rate=48_000) if audio else None
        for time_, frame in zip(times, frames, strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(format=pix_fmt, dst_colorspace=color[1], dst_color_range=color[0])
            picture.pts, picture.time_base = time_, Fraction(1, TICKS)
            out.mux(video.encode(picture))
        if sound is not None:
            rng = np.random.default_rng(0)
            for i in range((times[-1] + 512) * 48_000 // TICKS // 1024):
                noise = (0.1 * rng.standard_normal((2, 1024))).astype(np.float32)
                samples = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
                samples.sample_rate, samples.pts, samples.time_base = 48_000, 1024 * i, Fraction(1, 48_000)
                out.mux(sound.encode(samples))
            out.mux(sound.encode(None))
        out.mux(video.encode(None))
    return path


def decoded(path: Path) -> list[tuple[int, list[np.ndarray]]]:
    with av.open(str(path)) as container:
        return [(f.pts, read_planes(f)) for f in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[int, int, int, bytes]]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(p.pts, p.dts, p.duration, bytes(p)) for p in container.demux(stream) if p.size]


@pytest.fixture(scope="session")
def moving(photo) -> list[np.ndarray]:
    """A pan of 25 frames, 96×64."""
    return [photo[20:84, 2 * i : 2 * i + 96] for i in range(25)]


@pytest.fixture
def source(tmp_path, moving) -> Path:
    return make_clip(tmp_path / "clip.mp4", moving, audio="aac")


# --- the round trip ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_seconds_with_sound_round_trip(tmp_path, photo):
    wide = np.asarray(Image.fromarray(photo).resize((1200, 800)))
    source = make_clip(tmp_path / "clip.mp4", [wide[i : i + 360, 2 * i : 2 * i + 640] for i in range(250)], audio="aac")
    goal = tmp_path / "dry.mp4"
    assert derain_clip(source, goal, darker, Settings(steady=False)).frames == 250
    with av.open(str(source)) as before, av.open(str(goal)) as after:
        assert before.duration == after.duration == 10_000_000
        old, new = before.streams.video[0], after.streams.video[0]
        assert (new.duration, new.time_base, new.frames) == (old.duration, old.time_base, 250)
        assert (new.codec_context.name, new.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert [t for t, _ in decoded(goal)] == [t for t, _ in decoded(source)]
    assert packets(goal, "audio") == packets(source, "audio")
    ratio = [
        after[0].mean(dtype=float) / before[0].mean(dtype=float)
        for (_, before), (_, after) in zip(decoded(source)[::50], decoded(goal)[::50], strict=True)
    ]
    assert max(ratio) < 0.62  # half as light, over the black level of 16


def test_sound_times_and_codec_survive(source, tmp_path):
    goal = tmp_path / "dry.mp4"
    result = derain_clip(source, goal, darker)
    assert (result.frames, result.resumed, result.notes) == (25, 0, [])
    assert [t for t, _ in decoded(goal)] == [t for t, _ in decoded(source)]
    assert packets(goal, "audio") == packets(source, "audio")
    with av.open(str(source)) as before, av.open(str(goal)) as after:
        assert after.duration == before.duration
        assert after.streams.video[0].codec_context.name == "h264"
    assert not parts_folder(goal).exists()


def test_a_variable_frame_rate_stays(tmp_path, moving):
    times = np.cumsum(np.random.default_rng(1).integers(100, 2000, len(moving))).tolist()
    source = make_clip(tmp_path / "clip.mp4", moving, times=times)
    derain_clip(source, tmp_path / "dry.mp4", same)
    assert [t for t, _ in decoded(tmp_path / "dry.mp4")] == [t for t, _ in decoded(source)]
    derain_clip(source, tmp_path / "dry.mkv", same)  # in whole milliseconds, as Matroska has them
    expected = [round(1000 * t / TICKS) for t, _ in decoded(source)]
    got = [t for t, _ in decoded(tmp_path / "dry.mkv")]
    assert np.abs(np.array(got) - got[0] - np.array(expected) + expected[0]).max() <= 1


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_stays_and_the_network_sees_frames_upright(tmp_path, moving, rotation):
    source = make_clip(tmp_path / "clip.mp4", moving[:3], rotation=rotation)
    seen: list[np.ndarray] = []

    def top_dark(picture: np.ndarray) -> np.ndarray:
        seen.append(picture)
        dark = picture.copy()
        dark[: len(dark) // 2] = 0
        return dark

    goal = tmp_path / "dry.mp4"
    derain_clip(source, goal, top_dark)
    with av.open(str(source)) as before, av.open(str(goal)) as after:
        old, new = (next(c.decode(video=0)) for c in (before, after))
        assert new.rotation == old.rotation
        upright = np.rot90(new.to_ndarray(format="rgb24"), rotation // 90)
        expected = np.rot90(old.to_ndarray(format="rgb24"), rotation // 90)
    assert np.abs(seen[0] * 255 - expected).mean() < 4
    assert upright[:20].mean() < 20 < upright[-20:].mean()


@pytest.mark.parametrize("color", [(1, 1, 1, 1), (2, 6, 6, 6), (1, 9, 9, 16)])
def test_the_color_description_stays(tmp_path, moving, color):
    source = make_clip(tmp_path / "clip.mp4", moving[:3], color=color)
    derain_clip(source, tmp_path / "dry.mp4", darker)
    with av.open(str(tmp_path / "dry.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc) == color


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "gray", "yuva420p", "yuv411p", "gbrp10le"]
)
def test_what_the_network_leaves_stays_bit_for_bit(tmp_path, moving, pix_fmt):
    source = make_clip(tmp_path / "clip.mkv", moving[:6], codec="ffv1", pix_fmt=pix_fmt)
    goal = tmp_path / "dry.mkv"
    derain_clip(source, goal, same, Settings(steady=False))
    for (_, before), (_, after) in zip(decoded(source), decoded(goal), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert before[0].dtype == (np.uint8 if pix_fmt in ("yuv420p", "gray", "yuva420p", "yuv411p") else np.uint16)


def test_strength_of_a_clip(tmp_path, moving):
    source = make_clip(tmp_path / "clip.mkv", moving[:4], codec="ffv1", pix_fmt="yuv444p16le")
    kept = []
    for strength in (0, 0.5, 1):
        goal = tmp_path / f"{strength}.mkv"
        derain_clip(source, goal, darker, Settings(steady=False, strength=strength))
        kept.append(np.asarray([frame[0] for _, frame in decoded(goal)], float))
    before = np.asarray([frame[0] for _, frame in decoded(source)], float)
    np.testing.assert_array_equal(kept[0], before)
    assert np.abs(kept[2] - before).max() > 2000
    np.testing.assert_allclose(kept[1], (kept[0] + kept[2]) / 2, atol=1.01)


def test_subtitles_chapters_and_further_streams_come_along(tmp_path, moving):
    source = make_clip(tmp_path / "plain.mkv", moving, audio="aac")
    full = tmp_path / "clip.mkv"
    with av.open(str(source)) as old, av.open(str(full), "w") as new:
        copies = [new.add_stream_from_template(s) for s in old.streams]
        words = new.add_mux_stream("subrip")
        words.metadata["language"] = "deu"
        new.metadata["title"] = "Regen"
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                new.mux(packet)
        line = av.Packet(b"Es regnet.")
        line.pts = line.dts = 200
        line.duration, line.time_base, line.stream = 500, Fraction(1, 1000), words
        new.mux(line)
    goal = tmp_path / "dry.mkv"
    assert derain_clip(full, goal, same).notes == []
    assert packets(goal, "subtitle") == packets(full, "subtitle")
    assert packets(goal, "audio") == packets(full, "audio")
    with av.open(str(goal)) as container:
        assert [s.type for s in container.streams] == ["video", "audio", "subtitle"]
        assert container.streams[2].metadata["language"] == "deu"
        assert container.metadata["title"] == "Regen"
    # What a container cannot take is told.
    notes = derain_clip(full, tmp_path / "dry.ts", same).notes
    with av.open(str(tmp_path / "dry.ts")) as container:
        kept = [s.type for s in container.streams]
    assert ("subtitle" in kept) != any("subtitle" in note for note in notes)


def test_odd_sides_are_kept_whole(tmp_path, photo):
    frames = [photo[i : i + 47, :63] for i in range(4)]
    source = make_clip(tmp_path / "clip.mkv", frames, codec="ffv1")
    result = derain_clip(source, tmp_path / "dry.mp4", same, Settings(codec="h264"))
    assert result.size == (64, 48)
    assert "63×47 became 64×48" in result.notes[0]
    (_, before), (_, after) = decoded(source)[0], decoded(tmp_path / "dry.mp4")[0]
    assert after[0].shape == (48, 64)
    assert np.abs(after[0][:47, :63].astype(int) - before[0]).mean() < 4
    assert np.abs(after[0][:, 63].astype(int) - after[0][:, 62]).mean() < 4
    kept = derain_clip(source, tmp_path / "dry.mkv", same)
    assert (kept.size, kept.notes) == ((63, 47), [])


def test_codec_and_crf_are_obeyed(source, tmp_path):
    sizes = []
    for crf in (10, 40):
        goal = tmp_path / f"{crf}.mp4"
        derain_clip(source, goal, same, Settings(crf=crf))
        sizes.append(sum(len(p[3]) for p in packets(goal, "video")))
    assert sizes[0] > 3 * sizes[1]
    derain_clip(source, tmp_path / "dry.mkv", same, Settings(codec="vp9"))
    with av.open(str(tmp_path / "dry.mkv")) as container:
        assert container.streams.video[0].codec_context.name == "vp9"
    for settings, word in (
        (Settings(codec="nonsense"), "no such encoder"),
        (Settings(codec="aac"), "cannot hold"),
        (Settings(codec="h264", crf=99), "between 0 and 51"),
        (Settings(codec="vp8"), "cannot hold"),
    ):
        with pytest.raises(OutputError, match=word):
            derain_clip(source, tmp_path / "no.mp4", same, settings)
    with pytest.raises(OutputError, match="cannot hold the sound"):
        derain_clip(source, tmp_path / "no.webm", same)
    with pytest.raises(OutputError, match="cannot write a clip as"):
        derain_clip(source, tmp_path / "no.png", same)
    assert not list(tmp_path.glob("*no*"))


def test_a_part_begins_at_zero_with_its_sound(source, tmp_path):
    goal = tmp_path / "dry.mp4"
    assert derain_clip(source, goal, same, Settings(start=0.4, end=0.8)).frames == 10
    whole = derain_clip(source, tmp_path / "all.mp4", same)
    assert whole.frames == 25
    assert [t for t, _ in decoded(goal)] == [512 * i for i in range(10)]
    (_, before), (_, after) = decoded(source)[10], decoded(goal)[0]
    assert np.abs(before[0].astype(int) - after[0]).mean() < 2
    sound = packets(goal, "audio")
    assert 0 <= sound[0][0] < 1024
    assert abs(len(sound) - 0.4 * 48_000 / 1024) <= 1
    kept = {data for *_, data in packets(source, "audio")}
    assert all(data in kept for *_, data in sound)


@pytest.mark.parametrize("span", [(0.5, 0.5), (0.8, 0.2), (5.0, None), (None, 0.0)])
def test_a_range_without_frames_is_told(source, tmp_path, span):
    with pytest.raises(InputError, match="no frame lies from"):
        derain_clip(source, tmp_path / "dry.mp4", same, Settings(start=span[0], end=span[1]))


def test_split_screen(source, tmp_path):
    goal = tmp_path / "dry.mp4"
    result = derain_clip(source, goal, darker, Settings(compare=True))
    assert result.compare == comparison_of(goal)
    before, after, both = (decoded(p)[5][1][0].astype(float) for p in (source, goal, result.compare))
    assert np.abs(both[:, :40] - before[:, :40]).mean() < 3
    assert np.abs(both[:, 56:] - after[:, 56:]).mean() < 3
    assert both[:, 47:49].mean() > 200
    assert packets(result.compare, "audio") == packets(source, "audio")


# --- resuming ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steady", [True, False])
def test_a_resumed_clip_equals_an_unbroken_one(source, tmp_path, monkeypatch, steady):
    monkeypatch.setattr("derain.video.clip.SEGMENT", 7)
    configure = Encoding.configure

    def without_assembler(self: Encoding, context: av.VideoCodecContext) -> None:
        """x264's AVX-512 code encodes the same frames to other bytes from time to time; its C code does not."""
        configure(self, context)
        context.options = {**context.options, "x264-params": "asm=0"}

    monkeypatch.setattr(Encoding, "configure", without_assembler)
    whole, broken = tmp_path / "whole.mp4", tmp_path / "broken.mp4"
    settings = Settings(steady=steady, compare=True)
    derain_clip(source, whole, darker, settings)

    calls = 0

    def stops(picture: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 18:
            raise KeyboardInterrupt
        return darker(picture)

    with pytest.raises(KeyboardInterrupt):
        derain_clip(source, broken, stops, settings)
    assert not broken.exists()
    assert sorted(p.name for p in parts_folder(broken).iterdir()) == ["000000.npz", "000001.npz", "plan.json"]
    # One lost in the middle is made again.
    (parts_folder(broken) / "000000.npz").unlink()
    result = derain_clip(source, broken, darker, settings)
    assert (result.frames, result.resumed) == (25, 7)
    for made in (whole, comparison_of(whole)):
        other = broken if made == whole else comparison_of(broken)
        assert packets(other, "video") == packets(made, "video")
        assert packets(other, "audio") == packets(made, "audio")
    assert sorted(p.name for p in tmp_path.iterdir() if "broken" in p.name) == ["broken.mp4", "broken_compare.mp4"]


def test_segments_of_another_network_are_not_used(source, tmp_path, monkeypatch):
    monkeypatch.setattr("derain.video.clip.SEGMENT", 7)
    calls = 0

    def stops(picture: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 18:
            raise KeyboardInterrupt
        return picture

    for change in ({"identity": "b"}, {"settings": Settings(crf=30)}):
        calls = 0
        with pytest.raises(KeyboardInterrupt):
            derain_clip(source, tmp_path / "dry.mp4", stops, identity="a")
        assert derain_clip(source, tmp_path / "dry.mp4", same, **{"identity": "a", **change}).resumed == 0
        (tmp_path / "dry.mp4").unlink()


def test_a_folder_that_is_not_ours_is_left_alone(source, tmp_path):
    (tmp_path / "dry.mp4.parts").mkdir()
    (tmp_path / "dry.mp4.parts" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not derain's"):
        derain_clip(source, tmp_path / "dry.mp4", same)
    assert (tmp_path / "dry.mp4.parts" / "thesis.txt").read_text() == "mine"


def test_memory_does_not_grow_with_the_clip(tmp_path, photo):
    """Peak of live numpy memory over a clip four times as long."""
    import tracemalloc

    peaks = []
    for n in (40, 160):
        source = make_clip(tmp_path / f"{n}.mp4", [photo[i % 50 : i % 50 + 96, :128] for i in range(n)])
        tracemalloc.start()
        derain_clip(source, tmp_path / f"dry{n}.mp4", same, Settings(steady=False))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * 2**20


# --- broken clips -----------------------------------------------------------------------------------


def test_broken_clips_get_a_line(source, tmp_path, photo):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "words.mp4").write_text("not a clip " * 100)
    (tmp_path / "half.mp4").write_bytes(source.read_bytes()[:3000])  # its index was at the end
    sound = tmp_path / "sound.mka"
    with av.open(str(source)) as old, av.open(str(sound), "w") as new:
        copy = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(old.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    for name, word in (
        ("empty.mp4", "is empty"),
        ("words.mp4", "not a clip"),
        ("half.mp4", "not a clip"),
        ("sound.mka", "no video stream"),
        ("missing.mp4", "no such file"),
    ):
        with pytest.raises(InputError, match=word) as caught:
            derain_clip(tmp_path / name, tmp_path / "dry.mp4", same)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no frame that can be decoded"):
        derain_clip(source, tmp_path / "dry.mp4", same, max_pixels=96 * 64 - 1)
    assert not (tmp_path / "dry.mp4").exists()


def test_what_a_truncated_or_damaged_clip_still_holds_is_derained(tmp_path, moving):
    source = make_clip(tmp_path / "clip.ts", moving, audio="aac")
    data = bytearray(source.read_bytes())
    (tmp_path / "half.ts").write_bytes(data[: len(data) * 3 // 5])
    result = derain_clip(tmp_path / "half.ts", tmp_path / "half.mp4", same)
    assert 5 < result.frames < 25
    assert len(decoded(tmp_path / "half.mp4")) == result.frames
    ruined = make_clip(tmp_path / "ruined.mkv", moving, codec="ffv1").read_bytes()
    middle = len(ruined) // 2
    (tmp_path / "ruined.mkv").write_bytes(ruined[:middle] + bytes(2000) + ruined[middle + 2000 :])
    result = derain_clip(tmp_path / "ruined.mkv", tmp_path / "mended.mkv", same)
    assert 5 < result.frames <= 25
    assert "damaged packets" in result.notes[0]


def test_a_size_that_changes_is_told(tmp_path, photo):
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
        derain_clip(tmp_path / "two.ts", tmp_path / "dry.mp4", same)


def test_a_raw_stream_without_times_gets_them(tmp_path, moving):
    source = make_clip(tmp_path / "clip.h264", moving)
    result = derain_clip(source, tmp_path / "dry.mp4", same)
    times = [t for t, _ in decoded(tmp_path / "dry.mp4")]
    assert result.frames == 25
    assert len(set(np.diff(times))) == 1
    with av.open(str(tmp_path / "dry.mp4")) as container:
        assert container.duration == pytest.approx(1_000_000, abs=45_000)


# --- pixels -----------------------------------------------------------------------------------------


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
def test_a_change_arrives(pix_fmt, photo):
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(photo[:64, :96]), format="rgb24").reformat(format=pix_fmt)
    layout, planes = layout_of(frame), read_planes(frame)
    rgb = layout.rgb(planes)
    change = -0.3 * np.clip(rgb, 0, 1)
    y, x = np.mgrid[:64, :96]
    change *= (0.5 + 0.5 * np.sin(x / 9) * np.cos(y / 9))[..., None].astype(np.float32)
    if pix_fmt == "gray":
        change[:] = change.mean(axis=2, keepdims=True)
    again = layout.rgb(layout.changed(planes, change))
    # Chroma at half resolution cannot follow a change with fine colors; light does.
    allowed = 0.004 if pix_fmt in ("yuv444p10le", "gray", "gbrp") else 0.03
    assert np.abs(again - rgb - change).mean() < allowed
    assert np.abs((again - rgb - change) @ [0.299, 0.587, 0.114]).mean() < 0.004


def test_formats_are_kept_or_nearest():
    x264 = [f.name for f in av.Codec("libx264", "w").video_formats]
    assert nearest_format("yuv420p10le", x264) == "yuv420p10le"
    assert nearest_format("p010le", x264) == "yuv420p10le"
    assert nearest_format("nv12", x264) == "yuv420p"
    assert nearest_format("pal8", x264) == "yuv444p"
    assert nearest_format("yuyv422", x264) == "yuv422p"
    assert nearest_format("gray", ["yuv420p", "rgb24"]) == "yuv420p"
    assert not any(workable(name) for name in ("nv12", "pal8", "rgb24", "yuv420p10be", "gbrpf32le", "no such"))


def test_planes_survive_a_frame_with_padded_rows():
    rng = np.random.default_rng(0)
    frame = av.VideoFrame(63, 47, "yuv420p10le")
    planes = [rng.integers(0, 1024, (p.height, p.width)).astype(np.uint16) for p in frame.planes]
    write_planes(frame, planes)
    assert all(np.array_equal(a, b) for a, b in zip(read_planes(frame), planes, strict=True))


# --- the command ------------------------------------------------------------------------------------


def test_pictures_and_clips_in_one_call(command, source, tmp_path, photo):
    Image.fromarray(photo[:64, :96]).save(tmp_path / "photo.png")
    (tmp_path / "bad.mp4").write_bytes(b"")
    out = tmp_path / "out"
    code, text, err = command("run", tmp_path / "photo.png", source, tmp_path / "bad.mp4", "-o", out, "--compare")
    assert code == 1
    assert err.strip().count("\n") == 0
    assert "bad.mp4" in err
    assert sorted(p.name for p in out.iterdir()) == [
        "clip.mp4",
        "clip_compare.mp4",
        "photo.png",
        "photo_compare.jpg",
    ]
    assert "25 frames" in text
    assert text.strip().splitlines()[-1] == "2 derained, 1 failed"
    assert command("run", source, "-o", out / "clip.mp4")[0] == 1  # exists
    code, text, _ = command("run", source, "-o", out, "--overwrite", "--start", "0.2", "--end", "0.4", "--json")
    record = json.loads(text)
    assert (code, record["frames"], record["resumed"], record["notes"]) == (0, 5, 0, [])


def test_a_clip_gets_a_neighbor(command, source):
    assert command("run", source, "--frame-by-frame")[0] == 0
    assert source.with_name("clip_derained.mp4").exists()
    assert command("run", source, "-o", source, "--overwrite")[0] == 1


def test_the_command_gives_what_the_network_gives(command, source, tmp_path, small_weight):
    from derain import Derainer

    goal = tmp_path / "dry.mkv"
    assert command("run", source, "-o", goal, "--codec", "ffv1", "--frame-by-frame")[0] == 0
    with av.open(str(source)) as before, av.open(str(goal)) as after:
        old, new = next(before.decode(video=0)), next(after.decode(video=0))
    layout = layout_of(old)
    rgb = np.clip(layout.rgb(read_planes(old)), 0, 1)
    expected = layout.changed(read_planes(old), Derainer(small_weight)(rgb) - rgb)
    for got, want in zip(read_planes(new), expected, strict=True):
        assert np.abs(got.astype(int) - want).max() <= 1


def test_a_folder_of_frames(command, tmp_path, photo):
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        noisy = np.clip(photo[:64, :96] + rng.normal(0, 8, (64, 96, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i:03d}.png")
    code, text, _ = command("run", folder, "--frames")
    assert code == 0
    assert "8 frames" in text
    out = tmp_path / "frames_derained"
    whole = {p.name: p.read_bytes() for p in out.iterdir()}
    assert sorted(whole) == [f"{i:03d}.png" for i in range(8)]
    command("run", folder, "--frames", "--frame-by-frame", "-o", tmp_path / "single")
    steps = [
        np.mean([np.abs(np.diff([np.asarray(Image.open(p), float) for p in sorted(place.iterdir())], axis=0))])
        for place in (tmp_path / "single", out)
    ]
    assert steps[1] < 0.7 * steps[0]  # the neighbors took noise away
    # A stopped one goes on, and ends as if it had not stopped.
    for name in ("003.png", "007.png"):
        (out / name).unlink()
    assert command("run", folder, "--frames")[0] == 1
    code, text, _ = command("run", folder, "--frames", "--skip-existing")
    assert (code, "2 frames" in text) == (0, True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == whole
    assert command("run", folder / "000.png", "--frames")[0] == 1


def test_without_pyav_there_is_one_clear_line(command, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    code, _, err = command("run", source)
    assert code == 1
    assert err.strip() == 'error: clips need PyAV; install it: pip install "derain[video]"'


@pytest.mark.slow
def test_an_interrupt_leaves_only_segments_and_says_so(tmp_path, photo, small_weight):
    source = make_clip(tmp_path / "clip.mp4", [photo[i % 40 : i % 40 + 64, :96] for i in range(400)])
    goal = tmp_path / "dry.mp4"
    words = [sys.executable, "-m", "derain", "run", str(source), "-o", str(goal), "--model", str(small_weight)]
    process = subprocess.Popen([*words, "--frame-by-frame"], stderr=subprocess.PIPE, text=True)
    parts = parts_folder(goal)
    for _ in range(6000):
        if (parts / "000000.npz").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in err
    assert not goal.exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".derain-")]
    again = subprocess.run([*words, "--frame-by-frame"], capture_output=True, text=True)
    assert "from a stopped run" in again.stdout
    assert len(decoded(goal)) == 400
    assert not parts.exists()


def test_the_clip_knows_its_frames(source):
    clip = Clip(source)
    assert clip.times.tolist() == [512 * i for i in range(25)]
    assert [t for t, _ in clip.frames(512 * 20)] == [512 * i for i in range(20, 25)]
    assert [t for t, _ in clip.frames(512 * 3, 512 * 5)] == [512 * 3, 512 * 4]
    assert clip.duration(512 * 24) == 512
