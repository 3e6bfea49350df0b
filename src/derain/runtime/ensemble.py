"""Self-ensemble: a picture through the network in several mirrored forms, averaged (Timofte et al., CVPR 2016)."""

from __future__ import annotations

import numpy as np

from .base import FloatArray, Runtime

#: Beside the picture as it is, by the number of forms: the axes turned round. Never the diagonal, for rain falls.
_MIRRORED: dict[int, tuple[tuple[int, ...], ...]] = {
    1: (),
    2: ((-1,),),
    4: ((-1,), (-2,), (-2, -1)),
}
ENSEMBLES = tuple(_MIRRORED)


def averaged(runtime: Runtime, batch: FloatArray, count: int) -> FloatArray:
    """What a network makes of a batch in ``count`` mirrored forms, each turned back, and the mean of them.

    Args:
        runtime: executes the network, once for each form.
        batch: ``(N, 3, H, W)`` float32, sized as the network wants.
        count: one of ``ENSEMBLES``.
    """
    if count == 1:
        return runtime(batch)
    total = np.clip(runtime(batch), 0, 1)  # what lies outside is no color, and must not weigh in the mean
    for axes in _MIRRORED[count]:
        total += np.flip(np.clip(runtime(np.ascontiguousarray(np.flip(batch, axes))), 0, 1), axes)
    return total / np.float32(count)
