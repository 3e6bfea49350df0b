"""Folders of frames: image files, in order, derained as one clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from derain import images

from .fusion import RADIUS
from .sequence import FrameNetwork, OnFrame, blend, consecutive_runs, restore_sequence


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
) -> None:
    """Derain images that are the frames of a clip, in order.

    Args:
        sources: the frames.
        outputs: the path of each result; existing files are replaced.
        network: maps ``(H, W, 3)`` RGB in [0, 1] to the same, such as :class:`~derain.derainer.Derainer`.
        temporal_fuse: fuse each frame with its neighbors.
        strength: 0 gives the source frames, 1 the derained ones, values between a blend.
        quality: of JPEG, WebP and AVIF, 1 to 100.
        selected: which frames to write, all by default; their neighbors are derained too, but not written.
        on_frame: called with (frames done, frames in total).

    Raises:
        InputError: a frame cannot be read.
        OutputError: a frame cannot be written.
    """
    selected = selected or [True] * len(sources)
    margin = RADIUS if temporal_fuse else 0
    needed = [i for i in range(len(sources)) if any(selected[max(0, i - margin) : i + margin + 1])]
    done = 0
    for run in consecutive_runs(needed):
        frames = ((i, images.read(sources[i])) for i in run)
        for (i, frame), pixels in restore_sequence(frames, lambda item: network(item[1].pixels), fuse=temporal_fuse):
            if not selected[i]:
                continue
            result = frame.with_pixels(blend(frame.pixels, pixels, strength))
            result.save(outputs[i], quality=quality, overwrite=True)
            done += 1
            if on_frame is not None:
                on_frame(done, sum(selected))
