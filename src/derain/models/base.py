"""Interfaces of the networks: the forward pass that all share, and mixins for optional capabilities.

The ``forward`` of every network maps ``(N, 3, H, W)`` float RGB in [0, 1] to the same shape. Training, import
and export test for the optional capabilities with ``isinstance``, never by attribute name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn


class Network(Protocol):
    """The part of ``nn.Module`` that inference needs."""

    def __call__(self, rainy: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to derained images of the same shape, not necessarily clamped."""


class HasStages(ABC):
    """A network that exposes intermediate results, for example to losses."""

    @property
    @abstractmethod
    def stage_names(self) -> tuple[str, ...]:
        """The keys of :meth:`stages`, in order."""

    @abstractmethod
    def stages(self, rainy: Tensor) -> dict[str, Tensor]:
        """All intermediate results by name; the last one is the output of ``forward``."""


class HasIterations(ABC):
    """A progressive network, whose weights are shared by any number of iterations.

    Attributes:
        iterations: how many times the network is unrolled; may be changed at any time.
    """

    iterations: int


class Unrolled(HasStages, HasIterations):
    """A progressive network whose stages are the outputs of its iterations."""

    @abstractmethod
    def _unroll(self, rainy: Tensor) -> Iterator[Tensor]:
        """The derained image after each iteration."""

    def forward(self, rainy: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to the output of the last iteration, same shape, not clamped."""
        *_, derained = self._unroll(rainy)
        return derained

    @property
    def stage_names(self) -> tuple[str, ...]:
        """``stage1``, ``stage2``, …, one per iteration."""
        return tuple(f"stage{number}" for number in range(1, self.iterations + 1))

    def stages(self, rainy: Tensor) -> dict[str, Tensor]:
        """The outputs of all iterations, in order."""
        return dict(zip(self.stage_names, self._unroll(rainy), strict=True))


class HasSegmenter(ABC):
    """A network that contains a frozen segmenter, which is part of its state dictionary."""

    #: File names of the segmenter's official checkpoint, which is expected next to the network's own.
    segmenter_files: ClassVar[tuple[str, ...]]

    @abstractmethod
    def load_segmenter(self, state: Mapping[str, Tensor]) -> None:
        """Load the segmenter from its own state dictionary or from a published one.

        Raises:
            RuntimeError: the tensors do not fit.
        """

    @abstractmethod
    def soft_segmentation(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, classes, H, W)`` in [0, 1], differentiably."""


class HasOfficialCheckpoints(ABC):
    """A network whose authors published checkpoints that derain can import."""

    @staticmethod
    @abstractmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings implied by an official state dictionary; ``None`` if it belongs to another network."""

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert an official state dictionary (``module.`` removed) to derain's key names; unchanged by default.

        Raises:
            KeyError: the state has a key that official checkpoints do not have.
        """
        return state


class HasMemoryEstimate(ABC):
    """A network whose memory use depends on its settings.

    Attributes:
        memory_per_pixel: bytes of working memory per pixel, without gradients, in fp32.
    """

    memory_per_pixel: int


class PrefersContiguous:
    """A network that runs faster in contiguous (NCHW) than in channels-last layout, in fp32 on a CPU."""


class InitializesFromOther(ABC):
    """A network that can start from the weights of a larger or smaller one of its kind."""

    @abstractmethod
    def init_from(self, other: nn.Module) -> None:
        """Copy what fits of the weights of ``other``.

        Raises:
            ValueError: another kind of network, or sizes that do not fit.
        """
