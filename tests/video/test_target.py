"""What stays of a clip besides its frames, and what a container refuses."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

av = pytest.importorskip("av")

from derain.errors import OutputError  # noqa: E402
from derain.video.clip import Settings, derain_clip, parts_folder  # noqa: E402
from support.clips import decoded, make_clip, packets, unchanged  # noqa: E402
from support.containers import (  # noqa: E402
    SPHERICAL,
    add_boxes,
    add_chapters,
    add_cover,
    add_font,
    as_metadata_track,
    as_unknown_sound,
    box,
    make_adpcm,
    remux,
)

SETTINGS = Settings(temporal_fuse=False)


@pytest.fixture
def short(moving) -> list[np.ndarray]:
    return moving[:5]


def streams_of(path) -> list[str]:
    with av.open(str(path)) as container:
        return [s.type for s in container.streams]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "m4v", "mkv"])
def test_chapters_are_kept(tmp_path, moving, suffix):
    source = remux(make_clip(tmp_path / "plain.mp4", moving, audio="aac"), tmp_path / "clip.mp4", add_chapters)
    assert streams_of(source) == ["video", "audio", "data"]  # the titles
    output = tmp_path / f"derained.{suffix}"
    assert derain_clip(source, output, unchanged, SETTINGS).notes == []
    with av.open(str(output)) as container:
        chapters = [(float(c["start"] * c["time_base"]), c["metadata"]["title"]) for c in container.chapters()]
    assert chapters == [(0, "One"), (0.5, "Two")]
    assert packets(output, "audio") == packets(source, "audio") or suffix == "mkv"
    part = derain_clip(source, tmp_path / f"part.{suffix}", unchanged, Settings(start=0.4, temporal_fuse=False))
    assert part.notes == []


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_a_time_code_is_kept(tmp_path, short, suffix):
    source = make_clip(tmp_path / "clip.mov", short, timecode="01:02:03:04")
    assert streams_of(source) == ["video", "data"]
    output = tmp_path / f"derained.{suffix}"
    assert derain_clip(source, output, unchanged, SETTINGS).notes == []
    with av.open(str(output)) as container:
        metadata = {key.lower(): value for key, value in container.streams.video[0].metadata.items()}
    assert metadata["timecode"] == "01:02:03:04"
    assert streams_of(output) == (["video"] if suffix == "mkv" else ["video", "data"])
    result = derain_clip(source, tmp_path / f"part.{suffix}", unchanged, Settings(start=0.08, temporal_fuse=False))
    assert any("time code" in note for note in result.notes)
    with av.open(str(tmp_path / f"part.{suffix}")) as container:
        assert not any("timecode" in key.lower() for key in container.streams.video[0].metadata)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_tracks_that_ffmpeg_does_not_know_are_left_out_by_name(tmp_path, short, suffix):
    source = remux(make_clip(tmp_path / "plain.mov", short, audio="aac"), tmp_path / "clip.mov", add_chapters)
    as_metadata_track(source)
    output = tmp_path / f"derained.{suffix}"
    notes = derain_clip(source, output, unchanged, SETTINGS).notes
    assert notes == [f".{suffix} cannot hold data stream 2 (unknown codec): left out"]
    assert len(decoded(output)) == 5
    assert len(packets(output, "audio")) == len(packets(source, "audio")) > 0


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_an_unknown_second_sound_track_is_left_out_by_name(tmp_path, short, suffix):
    plain = make_clip(tmp_path / "plain.mov", short, audio="aac")
    source = tmp_path / "clip.mov"
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        video, first = (new.add_stream_from_template(s) for s in old.streams)
        second = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux():
            if packet.size:
                packet.stream = video if packet.stream.type == "video" else first
                new.mux(packet)
                if packet.stream is first:
                    packet.stream = second
                    new.mux(packet)
    as_unknown_sound(source)
    output = tmp_path / f"derained.{suffix}"
    notes = derain_clip(source, output, unchanged, SETTINGS).notes
    assert notes == [f".{suffix} cannot hold audio stream 2 (unknown codec): left out"]
    assert streams_of(output) == ["video", "audio"]
    assert [p[3] for p in packets(output, "audio")] == [p[3] for p in packets(plain, "audio")]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_attached_fonts(tmp_path, short, suffix):
    source = remux(make_clip(tmp_path / "plain.mkv", short), tmp_path / "clip.mkv", add_font)
    output = tmp_path / f"derained.{suffix}"
    notes = derain_clip(source, output, unchanged, SETTINGS).notes
    if suffix == "mkv":
        assert notes == []
        with av.open(str(output)) as container:
            (font,) = container.streams.attachments
            assert (font.name, font.mimetype) == ("font.ttf", "application/x-truetype-font")
            assert font.data == bytes(range(64))
    else:
        assert notes == [f".{suffix} cannot hold attachment stream 1 (font.ttf): left out"]


@pytest.mark.parametrize("suffix", ["m4v", "mp4", "mkv", "mov"])
def test_cover_art(tmp_path, short, suffix):
    plain = make_clip(tmp_path / "plain.mp4", short, audio="aac")
    source = remux(plain, tmp_path / "clip.mp4", lambda new: (add_chapters(new), add_cover(new)))
    source = source.rename(tmp_path / "clip.m4v")
    output = tmp_path / f"derained.{suffix}"
    notes = derain_clip(source, output, unchanged, SETTINGS).notes
    with av.open(str(output)) as container:
        covers = [s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        assert len(container.chapters()) == 2
        if suffix == "mov":
            assert (covers, len(notes)) == ([], 1)
            return
        image = next(container.decode(covers[0])).to_ndarray(format="rgb24")
        assert np.abs(image.mean((0, 1)) - (254, 0, 0)).max() < 3
        assert container.metadata.get("major_brand", "") == {"m4v": "M4V ", "mp4": "isom", "mkv": ""}[suffix]
    assert notes == []
    # And again, also from Matroska, where the cover is an attachment.
    derain_clip(output, tmp_path / f"again.{suffix}", unchanged, Settings(start=0.04, temporal_fuse=False))
    with av.open(str(tmp_path / f"again.{suffix}")) as container:
        assert any(s.disposition & av.stream.Disposition.attached_pic for s in container.streams.video)


def test_adpcm_is_copied_to_matroska(tmp_path, moving):
    source = make_adpcm(tmp_path / "clip.avi", moving)
    output = tmp_path / "a [f=null] | 'strange' \\ name.mkv"  # the tee muxer's own syntax
    assert derain_clip(source, output, unchanged, SETTINGS).notes == []
    assert [p[3] for p in packets(output, "audio")] == [p[3] for p in packets(source, "audio")]
    with av.open(str(source)) as old, av.open(str(output)) as new:
        assert new.streams.audio[0].codec_context.name == "adpcm_ms"
        before, after = (
            np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1) for container in (old, new)
        )
    assert np.array_equal(before, after)
    with pytest.raises(OutputError, match="cannot hold the sound"):
        derain_clip(source, tmp_path / "derained.mp4", unchanged, SETTINGS)


def test_nothing_is_derained_before_the_container_is_known_to_hold_the_clip(tmp_path, short):
    source = make_adpcm(tmp_path / "clip.avi", short * 5)

    def network(frame: np.ndarray) -> np.ndarray:
        raise AssertionError("a frame was derained")

    with pytest.raises(OutputError, match=r"use \.mkv"):
        derain_clip(source, tmp_path / "derained.mp4", network, SETTINGS)
    assert not parts_folder(tmp_path / "derained.mp4").exists()


@pytest.mark.parametrize(("tag", "suffix"), [("hvc1", "mp4"), ("hvc1", "mov"), ("hev1", "mp4")])
def test_the_tag_of_hevc_is_kept(tmp_path, short, tag, suffix):
    plain = make_clip(tmp_path / "plain.mp4", short, codec="libx265")

    def retag(container) -> None:
        container.streams.video[0].codec_context.codec_tag = tag

    source = remux(plain, tmp_path / f"clip.{suffix}", retag)
    output = tmp_path / f"derained.{suffix}"
    derain_clip(source, output, unchanged, SETTINGS)
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.codec_tag == tag
    assert len(decoded(output)) == 5


def test_new_hevc_is_written_for_every_player(source, tmp_path):
    derain_clip(source, tmp_path / "derained.mp4", unchanged, Settings(codec="hevc", temporal_fuse=False))
    with av.open(str(tmp_path / "derained.mp4")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("suffix", ["mov", "mp4", "mkv"])
def test_quicktime_keys_are_kept(tmp_path, short, suffix):
    keys = {
        "com.apple.quicktime.location.ISO6709": "+48.2082+016.3738/",
        "com.apple.quicktime.make": "ACME",
        "com.apple.quicktime.creationdate": "2024-05-06T09:08:09+0200",
    }
    plain = make_clip(tmp_path / "plain.mov", short)
    source = remux(plain, tmp_path / "clip.mov", lambda new: new.metadata.update(keys), movflags="use_metadata_tags")
    output = tmp_path / f"derained.{suffix}"
    derain_clip(source, output, unchanged, SETTINGS)
    with av.open(str(output)) as container:
        metadata = {key.lower(): value for key, value in container.metadata.items()}
    assert {key: metadata.get(key.lower()) for key in keys} == keys


def test_spherical_and_hdr_descriptions_are_copied_between_mp4_and_mov(tmp_path, short):
    source = make_clip(tmp_path / "clip.mp4", short, audio="aac")
    plain = decoded(source)
    uuid = box(b"uuid", SPHERICAL + b"<rdf:SphericalVideo/>")
    projection = box(b"st3d", bytes(5)) + box(b"sv3d", box(b"svhd", bytes(5)))
    levels = box(b"clli", (1000).to_bytes(2, "big") + (400).to_bytes(2, "big"))
    add_boxes(source, uuid, projection + levels)
    for suffix in ("mp4", "mov"):
        output = tmp_path / f"derained.{suffix}"
        assert derain_clip(source, output, unchanged, SETTINGS).notes == []
        data = output.read_bytes()
        assert data.count(uuid) == data.count(projection + levels) == 1
        assert [t for t, _ in decoded(output)] == [t for t, _ in plain]
        assert packets(output, "audio") == packets(source, "audio")
        # A second pass reads what the first wrote, and does not double it.
        derain_clip(output, tmp_path / f"again.{suffix}", unchanged, SETTINGS)
        again = (tmp_path / f"again.{suffix}").read_bytes()
        assert again.count(uuid) == again.count(projection + levels) == 1
    notes = derain_clip(source, tmp_path / "derained.mkv", unchanged, SETTINGS).notes
    assert any("spherical" in note for note in notes)


def test_a_clip_without_such_descriptions_is_left_as_ffmpeg_wrote_it(source, tmp_path, monkeypatch):
    derain_clip(source, tmp_path / "first.mp4", unchanged, Settings(codec="ffv1", temporal_fuse=False))
    monkeypatch.setattr("derain.video.muxer.copy_descriptions", lambda *_: False)
    derain_clip(source, tmp_path / "second.mp4", unchanged, Settings(codec="ffv1", temporal_fuse=False))
    assert (tmp_path / "first.mp4").read_bytes() == (tmp_path / "second.mp4").read_bytes()


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_the_transparency_of_webm_is_kept(tmp_path, short, codec, monkeypatch):
    monkeypatch.setattr("derain.video.clip.SEGMENT_FRAMES", 2)
    source = make_clip(tmp_path / "clip.webm", short, codec=codec, pix_fmt="yuva420p", alpha=True)
    results = []
    for path in (source, tmp_path / "derained.webm", tmp_path / "derained.mkv"):
        if path != source:
            assert derain_clip(source, path, unchanged, SETTINGS).notes == []
        decoder = av.CodecContext.create(codec, "r")
        with av.open(str(path)) as container:
            frames = [f for packet in container.demux(video=0) for f in decoder.decode(packet)]
        results.append(np.array([f.to_ndarray(format="rgba")[..., 3] for f in frames], float))
    assert results[0].shape == results[1].shape == results[2].shape == (5, 64, 96)
    assert results[0][..., 0].mean() < 20 < 230 < results[0][..., -1].mean()
    assert all(np.abs(result - results[0]).mean() < 3 for result in results[1:])
    notes = derain_clip(source, tmp_path / "derained.mp4", unchanged, Settings(codec="h264")).notes
    assert any("transparency" in note for note in notes)


def test_svt_is_silent(tmp_path, short):
    source = make_clip(tmp_path / "clip.mkv", short)
    code = (
        "import sys; from pathlib import Path; from derain.video.clip import Settings, derain_clip\n"
        "derain_clip(Path(sys.argv[1]), Path(sys.argv[2]), lambda f: f, Settings(codec='av1', temporal_fuse=False))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "SVT_LOG"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path / "derained.mkv")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with av.open(str(tmp_path / "derained.mkv")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == "av1"
