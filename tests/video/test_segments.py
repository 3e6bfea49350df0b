"""Segments: resuming an interrupted clip."""

from __future__ import annotations

import numpy as np
import pytest

av = pytest.importorskip("av")

from derain.errors import OutputError  # noqa: E402
from derain.video.clip import Settings, comparison_path, derain_clip, parts_folder  # noqa: E402
from derain.video.encoding import Encoding  # noqa: E402
from derain.video.segments import Segment, SegmentStore  # noqa: E402
from support.clips import darker, packets, unchanged  # noqa: E402


@pytest.mark.parametrize("temporal_fuse", [True, False])
def test_a_resumed_clip_equals_an_uninterrupted_one(source, tmp_path, monkeypatch, temporal_fuse):
    monkeypatch.setattr("derain.video.clip.SEGMENT_FRAMES", 7)
    configure = Encoding.configure

    def without_assembler(self: Encoding, context: av.VideoCodecContext) -> None:
        """x264's AVX-512 code occasionally encodes the same frames to different bytes; its C code does not."""
        configure(self, context)
        context.options = {**context.options, "x264-params": "asm=0"}

    monkeypatch.setattr(Encoding, "configure", without_assembler)
    expected, resumed = tmp_path / "expected.mp4", tmp_path / "resumed.mp4"
    settings = Settings(temporal_fuse=temporal_fuse, compare=True)
    derain_clip(source, expected, darker, settings)

    calls = 0

    def interrupted(frame: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 18:
            raise KeyboardInterrupt
        return darker(frame)

    with pytest.raises(KeyboardInterrupt):
        derain_clip(source, resumed, interrupted, settings)
    assert not resumed.exists()
    assert sorted(p.name for p in parts_folder(resumed).iterdir()) == ["000000.npz", "000001.npz", "plan.json"]
    # A segment that is missing in the middle is encoded again.
    (parts_folder(resumed) / "000000.npz").unlink()
    result = derain_clip(source, resumed, darker, settings)
    assert (result.frames, result.resumed) == (25, 7)
    for path in (expected, comparison_path(expected)):
        other = resumed if path == expected else comparison_path(resumed)
        assert packets(other, "video") == packets(path, "video")
        assert packets(other, "audio") == packets(path, "audio")
    assert sorted(p.name for p in tmp_path.iterdir() if "resumed" in p.name) == ["resumed.mp4", "resumed_compare.mp4"]


def test_segments_of_another_network_are_not_used(source, tmp_path, monkeypatch):
    monkeypatch.setattr("derain.video.clip.SEGMENT_FRAMES", 7)
    calls = 0

    def interrupted(frame: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 18:
            raise KeyboardInterrupt
        return frame

    for change in ({"identity": "b"}, {"settings": Settings(crf=30)}):
        calls = 0
        with pytest.raises(KeyboardInterrupt):
            derain_clip(source, tmp_path / "derained.mp4", interrupted, identity="a")
        assert derain_clip(source, tmp_path / "derained.mp4", unchanged, **{"identity": "a", **change}).resumed == 0
        (tmp_path / "derained.mp4").unlink()


def test_a_folder_with_foreign_files_is_left_alone(source, tmp_path):
    (tmp_path / "derained.mp4.parts").mkdir()
    (tmp_path / "derained.mp4.parts" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not derain's"):
        derain_clip(source, tmp_path / "derained.mp4", unchanged)
    assert (tmp_path / "derained.mp4.parts" / "thesis.txt").read_text() == "mine"


def segment() -> Segment:
    packets = []
    for i, data in enumerate((b"first", b"", b"third")):
        packet = av.Packet(data)
        packet.pts, packet.dts, packet.duration, packet.is_keyframe = 10 * i, 10 * i - 5, 10, i == 0
        packets.append(packet)
    return Segment.from_packets(packets)


def test_stored_segments_give_the_same_packets(tmp_path):
    store = SegmentStore(tmp_path / "parts", {"plan": 1})
    store.put(0, {"frames": segment(), "sheet": Segment.from_packets([])})
    again = SegmentStore(tmp_path / "parts", {"plan": 1})
    assert (again.has(0), again.has(1)) == (True, False)
    (stored,) = again.segments(1, "frames")
    assert [(p.pts, p.dts, p.duration, p.is_keyframe, bytes(p)) for p in stored.packets()] == [
        (0, -5, 10, True, b"first"),
        (10, 5, 10, False, b""),
        (20, 15, 10, False, b"third"),
    ]
    assert not list(next(again.segments(1, "sheet")).packets())
    assert not SegmentStore(tmp_path / "parts", {"plan": 2}).has(0)
    again.remove()
    assert not (tmp_path / "parts").exists()


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    store = SegmentStore(tmp_path / "parts", {})

    def fails(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fails)
    with pytest.raises(OutputError, match="No space left"):
        store.put(0, {"frames": segment()})
    assert [p.name for p in (tmp_path / "parts").iterdir()] == ["plan.json"]
