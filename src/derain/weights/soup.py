"""Averages of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from derain.errors import ModelError

from .store import find_file, load_file


def average(names_or_paths: Sequence[str | Path], shares: Sequence[float] | None = None) -> tuple[nn.Module, str]:
    """One network with the weighted mean of several checkpoints that were trained from the same start.

    A model soup (Wortsman et al., ICML 2022), often better than each of them.

    Args:
        names_or_paths: two or more, as for :func:`load_model`.
        shares: of each, not negative; scaled to a sum of 1. Equal by default.

    Returns:
        The network and its key in the table of networks.

    Raises:
        ModelError: checkpoints of different networks, or invalid shares.
    """
    files = [find_file(name) for name in names_or_paths]
    shares = [1.0] * len(files) if shares is None else list(shares)
    if len(files) < 2 or len(shares) != len(files) or not (min(shares) >= 0 and 0 < sum(shares) < float("inf")):
        raise ModelError(
            f"{len(files)} checkpoints with shares {shares}: give two or more, each with a share of at least 0"
        )
    loaded = [load_file(file) for file in files]
    network, key = loaded[0]
    states = [other.state_dict() for other, _ in loaded]
    kinds = [
        (other_key, {name: value.shape for name, value in s.items()})
        for (_, other_key), s in zip(loaded, states, strict=True)
    ]
    for file, kind in zip(files, kinds, strict=True):
        if kind != kinds[0]:
            raise ModelError(
                f"{file}: a {kind[0]} of another shape than {files[0]}, a {key}; average checkpoints of one run"
            )
    parts = [share / sum(shares) for share in shares]
    network.load_state_dict(
        {name: sum(part * state[name] for part, state in zip(parts, states, strict=True)) for name in states[0]}
    )
    return network, key
