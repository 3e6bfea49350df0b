"""Settings of Rain2Avoid's training, and the backbones it may train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

from derain.errors import InputError

from .ldgp import Map, Mode, ldgp

Method = Literal["single", "online"]
Schedule = Literal["fast", "authors"]

#: Backbone -> network and settings. ``small`` is derain's gated U-Net with 229,436 parameters.
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "small": ("gated-unet", {"channels": (16, 32, 64), "blocks": (1, 1, 2)}),
    **{name: (name, {}) for name in ("unet", "resnet", "dncnn", "restormer", "drsformer")},
}


@dataclass(frozen=True)
class Settings:
    """How the network is trained.

    Attributes:
        schedule: ``fast`` or ``authors``.
        backbone: a key of :data:`BACKBONES` in any case (the authors write ``Unet``); ``None`` is ``small``, or
            ``unet`` in the authors' schedule.
        map_mode: mode of the rain map, see :func:`derain.rain2avoid.ldgp`; ``None`` is ``streaks``, or
            ``authors`` in the authors' schedule.
        directions: how many directions of rain the map covers.
        references: how many are sampled, where they are sampled (the authors' N).
        steps: maximum optimizer steps; ``None`` is the schedule's default.
        epochs: of the authors' schedule, instead of ``steps``: passes over the references of an image or over the
            images of a set; steps for ``online``.
        seed: of all randomness, including the network's initial weights.
        device, precision: as for :class:`derain.Derainer`; ``auto`` is ``fp32`` in the authors' schedule.
    """

    schedule: Schedule = "fast"
    backbone: str | None = None
    map_mode: Mode | None = None
    directions: int = 1
    references: int = 50
    steps: int | None = None
    epochs: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.schedule not in ("fast", "authors"):
            raise InputError(f"unknown schedule {self.schedule!r}; choose fast or authors")
        if self.backbone is not None:
            object.__setattr__(self, "backbone", self.backbone.lower())
        if self.backbone is not None and self.backbone not in BACKBONES:
            raise InputError(f"unknown backbone {self.backbone!r}; choose one of {', '.join(BACKBONES)}")
        if any(n is not None and n < 1 for n in (self.references, self.steps, self.epochs)):
            raise InputError("references, steps and epochs must be at least 1")
        if self.epochs is not None and (self.schedule != "authors" or self.steps is not None):
            raise InputError("epochs belong to the authors' schedule, in place of steps; use --schedule authors")
        if self.schedule == "authors" and self.precision == "auto":
            object.__setattr__(self, "precision", "fp32")

    @property
    def network(self) -> tuple[str, dict[str, Any]]:
        """The backbone's network and its settings."""
        return BACKBONES[self.backbone or ("small" if self.schedule == "fast" else "unet")]

    @property
    def mode(self) -> Mode:
        """The mode of the rain maps that are computed."""
        return self.map_mode or ("streaks" if self.schedule == "fast" else "authors")

    def rain_map(self, image: npt.NDArray[Any]) -> Map:
        """The rain map of an image by these settings."""
        return ldgp(image, mode=self.mode, directions=self.directions)
