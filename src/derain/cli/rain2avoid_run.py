"""``derain rain2avoid run``: images derained by a network that learns from them alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from typer import Option

from derain import images
from derain.arrays import FloatArray, UInt8Array, to_float
from derain.images import Picture

from . import options as opt
from .console import Report, interruptible, wrong_usage
from .inputs import Work, plan

if TYPE_CHECKING:
    from derain.rain2avoid import Settings


def _backbone(name: str | None) -> str | None:
    """Check ``--backbone``; the authors write ``Unet``, ``DnCNN``, …"""
    checked: str | None = opt.one_of(*opt.BACKBONES)(name.lower() if name else name)
    return checked


_SCHEDULE_HELP = "fast, or the authors' training (thousands of steps per image)."
SCHEDULE = Annotated[str, Option("--schedule", callback=opt.one_of("fast", "authors"), help=_SCHEDULE_HELP)]
_BACKBONE_HELP = f"The network that learns: {', '.join(opt.BACKBONES)}."
BACKBONE = Annotated[str | None, Option("--backbone", callback=_backbone, help=_BACKBONE_HELP)]
_MODE_HELP = "New rain maps: streaks, or authors (default of --schedule authors): the published ones, bit for bit."
MODE = Annotated[str | None, Option("--mode", callback=opt.one_of("streaks", "authors"), help=_MODE_HELP)]
STEPS = Annotated[int | None, Option("--steps", min=1, help="Maximum number of steps, instead of the schedule's.")]
_METHOD_HELP = "single: one network per image; online: with references sampled anew; multiple: one for all images."
DIRECTIONS = Annotated[int, Option("--directions", min=1, help="Number of rain directions to look for.")]


def run(
    inputs: opt.INPUTS,
    output: opt.OUTPUT = None,
    recursive: opt.RECURSIVE = False,
    method: Annotated[str, Option(callback=opt.one_of("single", "online", "multiple"), help=_METHOD_HELP)] = "single",
    mode: MODE = None,
    schedule: SCHEDULE = "fast",
    backbone: BACKBONE = None,
    directions: DIRECTIONS = 1,
    steps: STEPS = None,
    seed: opt.SEED = 0,
    save_mask: Annotated[bool, Option("--save-mask", help="Also write …_rainmask.png.")] = False,
    save_reference: Annotated[bool, Option("--save-reference", help="Also write …_reference.png.")] = False,
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    quality: opt.QUALITY = 95,
    overwrite: opt.OVERWRITE = False,
    skip_existing: opt.SKIP_EXISTING = False,
    as_json: opt.JSON_LINES = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Derain images by a network that learns from them alone.

    Slower than `derain run`, and without a pretrained model; for rain that those have never seen.
    """
    if "-" in inputs:
        raise wrong_usage("rain2avoid takes files, not a pipe; give the name of an image")
    if method == "multiple" and save_reference:
        raise wrong_usage("--save-reference goes with --method single or online")
    report = Report(quiet, debug, as_json=as_json)
    writer = _Writer(quality, overwrite, save_mask, save_reference)
    with interruptible():
        work = plan(inputs, output, report, recursive=recursive, overwrite=overwrite, skip_existing=skip_existing)
        if work:
            settings = training_settings(schedule, backbone, steps, seed, device, precision, directions, mode)
            if method == "multiple":
                _run_together(work, settings, writer, report)
            else:
                _run_each(work, method, settings, writer, report)
        raise typer.Exit(report.close("derained"))


def training_settings(
    schedule: str,
    backbone: str | None,
    steps: int | None,
    seed: int,
    device: str,
    precision: str,
    directions: int = 1,
    mode: str | None = None,
    epochs: int | None = None,
) -> Settings:
    """The options of training, as Rain2Avoid takes them."""
    from derain.rain2avoid import Settings

    return Settings(
        schedule=schedule,  # type: ignore[arg-type]
        backbone=backbone,
        map_mode=mode,  # type: ignore[arg-type]
        directions=directions,
        steps=steps,
        epochs=epochs,
        seed=seed,
        device=device,
        precision=precision,
    )


@dataclass(frozen=True)
class _Writer:
    """Writes results, and the maps and references that were asked for."""

    quality: int
    overwrite: bool
    save_mask: bool
    save_reference: bool

    def write(self, before: Picture, pixels: FloatArray, path: Path) -> None:
        """Write the derained image."""
        before.with_pixels(pixels).save(path, quality=self.quality, overwrite=self.overwrite)

    def write_mask(self, rain_map: UInt8Array, path: Path, record: dict[str, Any]) -> None:
        """Write the rain map next to a result, if asked; its name goes into the record."""
        if self.save_mask:
            file = path.with_name(f"{path.stem}_rainmask.png")
            gray = np.repeat(to_float(rain_map)[..., None], 3, axis=2)
            Picture(gray, gray=True).save(file, overwrite=self.overwrite)
            record["mask"] = str(file)

    def write_reference(self, before: Picture, reference: FloatArray, path: Path, record: dict[str, Any]) -> None:
        """Write the reference next to a result, if asked; its name goes into the record."""
        if self.save_reference:
            file = path.with_name(f"{path.stem}_reference.png")
            before.with_pixels(reference).save(file, overwrite=self.overwrite)
            record["reference"] = str(file)


def _run_each(work: Work, method: str, settings: Settings, writer: _Writer, report: Report) -> None:
    """One network per image."""
    from derain.rain2avoid import adapt

    with report.progress(len(work), "training") as bar:
        for source, path in work:
            with bar.item() as on_step, report.catch(input=str(source.path)) as record:
                images.format_for(path)  # an unsupported suffix is reported before the work is done
                before = images.read(source.path)
                learned = adapt(before.pixels, method=method, settings=settings, on_step=on_step)  # type: ignore[arg-type]
                writer.write(before, learned.pixels, path)
                writer.write_mask(learned.rain_map, path, record)
                writer.write_reference(before, learned.reference, path, record)
                record.update(output=str(path), seconds=round(learned.seconds, 2), steps=learned.steps)
                line = f"{source.path} → {path} ({learned.steps} steps, {learned.seconds:.0f} s)"
                if learned.refused:
                    record.update(refused=learned.refused)
                    line += f": {learned.refused}; copied"
                report.succeed(line, **record)


def _run_together(work: Work, settings: Settings, writer: _Writer, report: Report) -> None:
    """One network for all images."""
    from derain.rain2avoid.run import derain_with, train_set

    readable: Work = []
    samples: list[tuple[FloatArray, UInt8Array, None]] = []
    for source, path in work:
        with report.catch(input=str(source.path)):
            images.format_for(path)
            pixels = images.read(source.path).pixels
            samples.append((pixels, settings.rain_map(pixels), None))
            readable.append((source, path))
    if not readable:
        return
    start = time.perf_counter()
    with report.progress(1, "training") as bar, bar.item() as on_step:
        network = train_set(samples, settings, on_step=on_step)
    report.note(f"one network learned from {len(readable)} images in {time.perf_counter() - start:.0f} s")
    for (source, path), (_, rain_map, _) in zip(readable, samples, strict=True):
        with report.catch(input=str(source.path)) as record:
            before = images.read(source.path)
            writer.write(before, derain_with(network, before.pixels, settings), path)
            writer.write_mask(rain_map, path, record)
            report.succeed(f"{source.path} → {path}", **record, output=str(path))
