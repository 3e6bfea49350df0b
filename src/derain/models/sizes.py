"""The image sizes that a network accepts, with padding and cropping; does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from derain.arrays import pad_reflect


@dataclass(frozen=True)
class SizeRule:
    """Height and width must be multiples of ``multiple_of`` and at least ``minimum``.

    Inputs of other sizes are padded by reflection at the bottom and right, and outputs cropped.
    """

    multiple_of: int = 1
    minimum: int = 1

    def fit(self, side: int) -> int:
        """The smallest allowed side that is at least ``side``."""
        return -(-max(side, self.minimum) // self.multiple_of) * self.multiple_of

    def pad(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Pad ``(…, H, W)`` to the next allowed size; returns the same array if its size is allowed."""
        height, width = values.shape[-2:]
        return pad_reflect(values, self.fit(height), self.fit(width))

    @staticmethod
    def crop(values: Any, like: Any) -> Any:
        """Crop ``(…, H, W)``, an array or tensor, to the height and width of ``like``, the input before padding."""
        return values[..., : like.shape[-2], : like.shape[-1]]
