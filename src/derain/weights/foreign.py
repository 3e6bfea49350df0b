"""Official checkpoints of other repositories, turned into derain's state dictionaries."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from derain.errors import ModelError
from derain.models.registry import model_class


def convert_official(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an official checkpoint.

    Args:
        name: key of the network, ``prenet`` or ``sapnet``.
        state: the official state dictionary, with or without ``module.`` before its keys.

    Returns:
        A state dictionary for ``create_model(name)``.

    Raises:
        ModelError: the network has no official layout, or a key does not belong to it.
    """
    rename = getattr(model_class(name), "rename_official_key", None)
    if rename is None:
        raise ModelError(f"{name}: no official checkpoints are known for it")
    converted = {}
    for key, value in state.items():
        try:
            converted[rename(key.removeprefix("module."))] = value
        except KeyError:
            raise ModelError(f"{name}: {key!r} is not a key of its official checkpoints") from None
    return converted
