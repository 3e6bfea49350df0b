"""Encoded segments of a clip, and the folder in which finished ones survive an interrupted run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from derain.arrays import FloatArray
from derain.errors import OutputError
from derain.files import TEMPORARY_PREFIX, atomic_write, write_text

from .encoding import Encoding
from .yuv import SourceFrame, write_planes

if TYPE_CHECKING:
    import av

_PLAN = "plan.json"
_ALPHA: Literal["matroska_block_additional"] = "matroska_block_additional"
_DIVIDER = 2  # width of the line between both halves of a comparison, pixels


@dataclass
class Segment:
    """Encoded frames as arrays; the first is a key frame.

    Attributes:
        times: ``(N, 3)`` int64: presentation time, decoding time and duration of each packet, ticks.
        keys: ``(N,)`` bool: key frames.
        sizes: ``(N,)`` int64: bytes of each packet.
        data: uint8: the packets' bytes, concatenated.
        alpha_sizes: ``(N,)`` int64: bytes of transparency beside each packet; VP8 and VP9 put it there.
        alpha: uint8: these bytes, concatenated.
    """

    times: npt.NDArray[np.int64]
    keys: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]
    alpha_sizes: npt.NDArray[np.int64]
    alpha: npt.NDArray[np.uint8]

    @classmethod
    def from_packets(cls, packets: list[av.Packet[Any]]) -> Segment:
        """Copy what an encoder returned."""
        rows = [(p.pts or 0, p.dts if p.dts is not None else p.pts or 0, p.duration or 0) for p in packets]
        alpha = [bytes(p.get_sidedata(_ALPHA)) if p.has_sidedata(_ALPHA) else b"" for p in packets]
        return cls(
            np.array(rows, np.int64).reshape(-1, 3),
            np.array([p.is_keyframe for p in packets], bool),
            np.array([p.size for p in packets], np.int64),
            np.frombuffer(b"".join(bytes(p) for p in packets), np.uint8),
            np.array([len(part) for part in alpha], np.int64),
            np.frombuffer(b"".join(alpha), np.uint8),
        )

    def packets(self) -> Iterator[av.Packet[Any]]:
        """The packets, in decoding order."""
        import av
        from av.packet import PacketSideData, packet_sidedata_type_from_literal

        data, alpha = _split(self.data, self.sizes), _split(self.alpha, self.alpha_sizes)
        for (pts, dts, duration), key in zip(self.times, self.keys, strict=True):
            packet = av.Packet(next(data))
            packet.pts, packet.dts, packet.duration = int(pts), int(dts), int(duration)
            packet.is_keyframe = bool(key)
            if part := next(alpha):
                # The constructor takes FFmpeg's code of the kind, and the size; PyAV's types do not mention it.
                side_data: Any = cast(Any, PacketSideData)(packet_sidedata_type_from_literal(_ALPHA), len(part))
                side_data.update(part)
                packet.set_sidedata(side_data)
            yield packet


def _split(data: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64]) -> Iterator[bytes]:
    for size, end in zip(sizes, np.cumsum(sizes), strict=True):
        yield data[end - size : end].tobytes()


_FIELDS = tuple(field.name for field in fields(Segment))


class SegmentStore:
    """Finished segments in a folder, together with the plan that they belong to.

    Args:
        folder: is created; segments of another plan in it are deleted.
        plan: everything that the segments depend on, as plain data.

    Raises:
        OutputError: the folder cannot be written, or holds files of somebody else.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        text = json.dumps(plan, sort_keys=True)
        file = folder / _PLAN
        try:
            if folder.exists() and (not file.exists() or file.read_text("utf-8") != text):
                if not all(_is_own(path) for path in folder.iterdir()):
                    raise OutputError(f"{folder}: holds files that are not derain's; move it or choose another output")
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(text, file)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another output") from None

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def has(self, number: int) -> bool:
        """Whether a segment is finished."""
        return self._file(number).exists()

    def put(self, number: int, segments: dict[str, Segment]) -> None:
        """Write a finished segment, atomically.

        Args:
            number: of the segment.
            segments: one for each stream that is encoded, by name.

        Raises:
            OutputError: it cannot be written.
        """
        arrays = {f"{name}_{key}": value for name, part in segments.items() for key, value in vars(part).items()}
        with atomic_write(self._file(number)) as file:
            np.savez(file, **arrays)

    def segments(self, count: int, name: str) -> Iterator[Segment]:
        """The first ``count`` segments of a stream, read one by one."""
        for number in range(count):
            with np.load(self._file(number)) as arrays:
                yield Segment(**{key: arrays[f"{name}_{key}"] for key in _FIELDS})

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_own(path: Path) -> bool:
    return path.name == _PLAN or path.suffix == ".npz" or path.name.startswith(TEMPORARY_PREFIX)


class SegmentWriter:
    """Encodes derained frames into consecutive segments; each is stored as soon as it is complete.

    Args:
        store: receives the segments.
        encoding: of the frames.
        limits: the number of each segment, and the time before which its frames lie, ``None`` for no limit.
        compare: encode the stream ``sheet`` too, of which the left half shows the source.
    """

    def __init__(
        self, store: SegmentStore, encoding: Encoding, limits: list[tuple[int, int | None]], *, compare: bool
    ) -> None:
        self._store, self._encoding = store, encoding
        self._pending = list(limits)
        self._names = ["frames", "sheet"] if compare else ["frames"]
        self._open()

    def _open(self) -> None:
        self._encoders = {name: self._encoding.create_context() for name in self._names}
        self._packets: dict[str, list[av.Packet[Any]]] = {name: [] for name in self._names}

    def add(self, frame: SourceFrame, result: FloatArray) -> None:
        """Encode the next frame.

        Args:
            frame: the source.
            result: ``(H, W, 3)`` derained RGB, upright.

        Raises:
            OutputError: the encoder does not accept such frames.
        """
        while (limit := self._pending[0][1]) is not None and frame.time >= limit:
            self._finish()
        change = np.clip(result, 0, 1) - frame.rgb
        self._encode("frames", frame, change)
        if "sheet" in self._names:
            middle = change.shape[1] // 2
            divider = slice(middle - _DIVIDER // 2, middle + _DIVIDER // 2)
            change[:, :middle] = 0
            change[:, divider] = 1 - frame.rgb[:, divider]
            self._encode("sheet", frame, change)

    def _encode(self, name: str, source: SourceFrame, change: FloatArray) -> None:
        import av

        encoding = self._encoding
        frame = av.VideoFrame(encoding.width, encoding.height, encoding.planar)
        write_planes(frame, source.changed_planes(change))
        if encoding.pix_fmt != encoding.planar:
            frame = frame.reformat(format=encoding.pix_fmt)
        frame.pts, frame.time_base = source.time, encoding.source.time_base
        frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = encoding.color
        try:
            self._packets[name] += self._encoders[name].encode(frame)
        except av.error.FFmpegError as error:
            raise encoding.rejected(error) from None

    def _finish(self) -> None:
        segments = {}
        for name, encoder in self._encoders.items():
            if encoder.is_open:
                self._packets[name] += encoder.encode(None)
            segments[name] = Segment.from_packets(self._packets[name])
        self._store.put(self._pending.pop(0)[0], segments)
        if self._pending:
            self._open()

    def close(self) -> None:
        """Store the remaining segments; those without a frame are empty."""
        while self._pending:
            self._finish()
