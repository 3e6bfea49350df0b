"""``derain adapt``: pictures derained by a network that learns from them alone (Rain2Avoid)."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from derain import images
from derain.images import Picture

from .console import Report, follow
from .inputs import Source
from .run import plan, terminate_like_interrupt

if TYPE_CHECKING:
    from derain.rain2avoid.sdrl import Adapted, Settings


@dataclass(frozen=True)
class AdaptOptions:
    """The command's options, as typed."""

    inputs: list[str]
    output: Path | None = None
    recursive: bool = False
    method: str = "single"
    schedule: str = "fast"
    backbone: str | None = None
    directions: int = 1
    steps: int | None = None
    seed: int = 0
    save_mask: bool = False
    save_reference: bool = False
    device: str = "auto"
    precision: str = "auto"
    quality: int = 95
    overwrite: bool = False
    skip_existing: bool = False
    as_json: bool = False
    quiet: bool = False
    debug: bool = False


def adapt_command(options: AdaptOptions) -> int:
    """Run the command; returns the exit code."""
    report = Report(quiet=options.quiet, as_json=options.as_json, debug=options.debug)
    if "-" in options.inputs:
        print("error: adapt takes files, not a pipe; give the name of a picture", file=sys.stderr)
        return 2
    if options.method == "multiple" and options.save_reference:
        print("error: --save-reference goes with --method single or online", file=sys.stderr)
        return 2
    try:
        with terminate_like_interrupt():
            work = plan(options, report)
            if work is None:
                return 2
            if work:
                (_together if options.method == "multiple" else _one_by_one)(work, options, report)
            return report.close("derained")
    except KeyboardInterrupt:
        print("interrupted; finished files are kept, nothing is half-written", file=sys.stderr)
        return 130


def _settings(options: AdaptOptions) -> Settings:
    from derain.rain2avoid.sdrl import Settings

    return Settings(
        schedule=options.schedule,  # type: ignore[arg-type]
        backbone=options.backbone,
        directions=options.directions,
        steps=options.steps,
        seed=options.seed,
        device=options.device,
        precision=options.precision,
    )


def _one_by_one(work: list[tuple[Source, Path]], options: AdaptOptions, report: Report) -> None:
    from derain.rain2avoid.sdrl import adapt

    settings = _settings(options)
    with report.progress(len(work), "learning") as bar:
        for source, goal in work:
            on_step = follow(bar)
            record: dict[str, Any] = {"input": str(source.path)}
            try:
                images.format_for(goal)  # an impossible suffix is told before the work is done
                before = images.read(source.path)
                learned = adapt(before.pixels, method=options.method, settings=settings, on_step=on_step)  # type: ignore[arg-type]
                _save(before, learned.pixels, goal, options)
                _save_extras(before, learned, goal, options, record)
            except Exception as error:
                report.fail(error, **record)
                on_step(1, 1)
            else:
                record.update(output=str(goal), seconds=round(learned.seconds, 2), steps=learned.steps)
                words = f"{source.path} → {goal} ({learned.steps} steps, {learned.seconds:.0f} s)"
                if learned.refused:
                    record.update(refused=learned.refused)
                    words += f": {learned.refused}; copied"
                report.succeed(words, **record)


def _together(work: list[tuple[Source, Path]], options: AdaptOptions, report: Report) -> None:
    """One network for all the pictures."""
    from derain.rain2avoid.sdrl import derain_with, train_set

    settings = _settings(options)
    kept: list[tuple[Source, Path]] = []
    pictures: list[npt.NDArray[np.float32]] = []
    for source, goal in work:
        try:
            images.format_for(goal)
            pictures.append(images.read(source.path).pixels)
            kept.append((source, goal))
        except Exception as error:
            report.fail(error, input=str(source.path))
    if not kept:
        return
    start = time.perf_counter()
    with report.progress(1, "learning") as bar:
        maps = [settings.rain_map(p) for p in pictures]
        lessons = [(p, m, None) for p, m in zip(pictures, maps, strict=True)]
        network = train_set(lessons, settings, on_step=follow(bar))
    report.note(f"one network learned from {len(kept)} pictures in {time.perf_counter() - start:.0f} s")
    for (source, goal), rain_map in zip(kept, maps, strict=True):
        record: dict[str, Any] = {"input": str(source.path)}
        try:
            before = images.read(source.path)
            _save(before, derain_with(network, before.pixels, settings), goal, options)
            if options.save_mask:
                _save_mask(rain_map, goal, options, record)
        except Exception as error:
            report.fail(error, **record)
        else:
            report.succeed(f"{source.path} → {goal}", **record, output=str(goal))


def _save(before: Picture, pixels: npt.NDArray[np.float32], goal: Path, options: AdaptOptions) -> None:
    before.with_pixels(pixels).save(goal, quality=options.quality, overwrite=options.overwrite)


def _save_extras(before: Picture, learned: Adapted, goal: Path, options: AdaptOptions, record: dict[str, Any]) -> None:
    if options.save_mask:
        _save_mask(learned.rain_map, goal, options, record)
    if options.save_reference:
        path = goal.with_name(f"{goal.stem}_reference.png")
        before.with_pixels(learned.reference).save(path, overwrite=options.overwrite)
        record["reference"] = str(path)


def _save_mask(rain_map: npt.NDArray[np.uint8], goal: Path, options: AdaptOptions, record: dict[str, Any]) -> None:
    path = goal.with_name(f"{goal.stem}_rainmask.png")
    gray = (rain_map / 255).astype(np.float32)
    Picture(np.repeat(gray[..., None], 3, axis=2), gray=True).save(path, overwrite=options.overwrite)
    record["mask"] = str(path)
