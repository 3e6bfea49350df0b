"""What ``derain run`` on images, clips, frames and pipes shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derain.weights.manifest import imported_files, manifest
from derain.weights.store import is_file_name

from .console import Report

if TYPE_CHECKING:
    from derain.derainer import Derainer
    from derain.video.clip import Settings


@dataclass(frozen=True)
class RunOptions:
    """How to derain; see ``derain run --help``. ``clip`` holds strength and comparison, also for images."""

    model: str
    clip: Settings
    adapt: bool
    quality: int
    overwrite: bool
    skip_existing: bool
    jobs: int
    verbose: bool


def load_derainer(options: RunOptions, report: Report, **settings: Any) -> Derainer:
    """The model of the options, with settings of ``Derainer``; an unknown name is an error before torch is imported."""
    is_file = is_file_name(options.model) or options.model in imported_files()
    entry = None if is_file else manifest().find(options.model)
    from derain.derainer import Derainer

    derainer = Derainer(options.model, **settings)
    if options.adapt:
        derainer.torch_runtime()  # a model that cannot be adapted is reported once, not for each file
    if options.verbose:
        report.note(f"model {options.model} on {derainer.runtime.device}, {derainer.runtime.precision}")
        if entry is not None:
            report.note(f"license: {entry.license}")
    return derainer
