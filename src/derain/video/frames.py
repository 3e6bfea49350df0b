"""Folders of frames: image files, in order, derained as one clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from derain import images
from derain.errors import DerainError

from .fusion import RADIUS
from .sequence import FrameNetwork, OnFrame, blend, consecutive_runs, restore_sequence

#: Called with the number of a frame that failed, and the reason.
OnError = Callable[[int, DerainError], None]


def derain_frames(
    sources: Sequence[Path],
    outputs: Sequence[Path],
    network: FrameNetwork,
    *,
    temporal_fuse: bool = True,
    strength: float = 1.0,
    quality: int = 95,
    selected: Sequence[bool] | None = None,
    on_frame: OnFrame | None = None,
    on_error: OnError | None = None,
) -> int:
    """Derain images that are the frames of a clip, in order.

    Frames on both sides of one that cannot be read, and frames of different sizes, are not fused with each other.

    Args:
        sources: the frames.
        outputs: the path of each result; existing files are replaced.
        network: maps ``(H, W, 3)`` RGB in [0, 1] to the same, such as :class:`~derain.derainer.Derainer`.
        temporal_fuse: fuse each frame with its neighbors.
        strength: 0 gives the source frames, 1 the derained ones, values between a blend.
        quality: of JPEG, WebP and AVIF, 1 to 100.
        selected: which frames to write, all by default; their neighbors are derained too, but not written.
        on_frame: called with (frames done, frames in total), failed frames included.
        on_error: called for each frame that fails; the others are derained nevertheless. ``None``: the first error
            is raised.

    Returns:
        The number of frames that were written.

    Raises:
        InputError: a frame cannot be read, and there is no ``on_error``.
        OutputError: a frame cannot be written, and there is no ``on_error``.
    """
    selected = selected or [True] * len(sources)
    margin = RADIUS if temporal_fuse else 0
    needed = [i for i in range(len(sources)) if any(selected[max(0, i - margin) : i + margin + 1])]
    done = failed = 0

    def fail(number: int, error: DerainError) -> None:
        nonlocal failed
        if on_error is None:
            raise error
        if selected[number]:
            failed += 1
        on_error(number, error)

    for run in consecutive_runs(needed):
        frames = _Frames(sources, run, fail)
        while frames.has_more():
            part = frames.alike()
            for (i, frame), pixels in restore_sequence(part, lambda item: network(item[1].pixels), fuse=temporal_fuse):
                if not selected[i]:
                    continue
                try:
                    result = frame.with_pixels(blend(frame.pixels, pixels, strength))
                    result.save(outputs[i], quality=quality, overwrite=True)
                    done += 1
                except DerainError as error:
                    fail(i, error)
                if on_frame is not None:
                    on_frame(done + failed, sum(selected))
    return done


class _Frames:
    """Reads the frames of a run in parts that can be fused: without a gap and of one size.

    Args:
        sources: of all frames.
        run: numbers of the frames to read.
        on_error: called for a frame that cannot be read.
    """

    def __init__(self, sources: Sequence[Path], run: Sequence[int], on_error: OnError) -> None:
        self._items = self._read(sources, run, on_error)
        self._next = next(self._items, None)

    def _read(
        self, sources: Sequence[Path], run: Sequence[int], on_error: OnError
    ) -> Iterator[tuple[int, images.Picture]]:
        for i in run:
            try:
                picture = images.read(sources[i])
            except DerainError as error:
                on_error(i, error)
            else:
                yield i, picture

    def has_more(self) -> bool:
        """Whether a frame is left."""
        return self._next is not None

    def alike(self) -> Iterator[tuple[int, images.Picture]]:
        """The frames of the next part, with their numbers."""
        last: tuple[int, images.Picture] | None = None
        while (item := self._next) is not None:
            if last is not None and (item[0] != last[0] + 1 or item[1].pixels.shape != last[1].pixels.shape):
                return
            last = item
            yield item
            self._next = next(self._items, None)
