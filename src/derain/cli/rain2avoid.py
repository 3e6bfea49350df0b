"""``derain rain2avoid``: the stages of Rain2Avoid one by one, also on the authors' folder layout.

``ROOT/input`` holds rainy pictures; stages write and read ``ROOT/ldgp`` (rain maps), ``ROOT/sdr/NAME/0.png``
and on (references), ``ROOT/fuse`` (their means) and ``ROOT/result``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from derain import images
from derain.data.layouts import read_rgb
from derain.errors import InputError, OutputError
from derain.files import write_bytes

from .console import Report, follow
from .inputs import Source, find_sources
from .run import terminate_like_interrupt

if TYPE_CHECKING:
    from derain.rain2avoid.sdrl import Settings

Eight = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StageOptions:
    """The options of all stages, as typed; each stage reads its own."""

    inputs: list[str]
    output: Path | None = None
    ldgp: Path | None = None
    sdr: Path | None = None
    fuse: Path | None = None
    mode: str = "streaks"
    patch_size: int = 80
    kernel_size: int | None = None
    directions: int = 1
    count: int = 50
    power: float = 0.5
    threshold: int = 10
    neighbors: int = 7
    similarity: int = 3
    independent: bool = False
    schedule: str = "fast"
    backbone: str | None = None
    steps: int | None = None
    seed: int = 0
    model: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    overwrite: bool = False
    quiet: bool = False
    debug: bool = False


def ldgp_command(options: StageOptions) -> int:
    """Rain maps."""
    from derain.rain2avoid import ldgp

    def one(job: _Job) -> str:
        found = ldgp(
            job.read(),
            mode=options.mode,  # type: ignore[arg-type]
            patch_size=options.patch_size,
            kernel_size=options.kernel_size,
            directions=options.directions,
        )
        goal = job.goal("ldgp")
        _write(found, goal, options.overwrite)
        return f"{goal} ({(found > options.threshold).mean():.0%} rain)"

    return _each(options, "finding rain", one)


def nss_command(options: StageOptions) -> int:
    """References and their mean."""
    from derain.rain2avoid import Sampler

    def one(job: _Job) -> str:
        picture = job.read()
        folder, mean = job.goal("sdr").with_suffix(""), job.goal("fuse", options.fuse)
        if mean.exists() and not options.overwrite:
            raise OutputError(f"{mean}: exists already; add --overwrite or choose another output")
        sampler = Sampler(
            picture,
            job.rain_map(picture),
            threshold=options.threshold,
            neighbors=options.neighbors,
            similarity=options.similarity,
            power=options.power,
        )
        total = np.zeros(picture.shape, np.int64)
        drawn = sampler.references(options.count, seed=options.seed, independent=options.independent)
        for number, reference in enumerate(drawn):
            _write(reference, folder / f"{number}.png", options.overwrite)
            total += reference
        _write(np.rint(total / options.count).astype(np.uint8), mean, options.overwrite)
        return f"{folder} ({options.count} references), {mean}"

    return _each(options, "drawing references", one)


def learn_command(options: StageOptions) -> int:
    """A network for each picture."""
    from derain.rain2avoid.sdrl import adapt

    settings = _settings(options)

    def one(job: _Job) -> str:
        picture = job.read()
        goal = job.goal("result")
        learned = adapt(
            picture, settings=settings, rain_map=job.rain_map(picture), references=job.references(), on_step=job.on_step
        )
        _write(_eight(learned.pixels), goal, options.overwrite)
        return f"{goal} ({learned.steps} steps, {learned.seconds:.0f} s)"

    return _each(options, "learning", one)


def train_command(options: StageOptions) -> int:
    """One network for all the pictures."""
    assert options.model is not None
    goal = options.model
    if goal.suffix != ".safetensors":
        raise OutputError(f"{goal}: cannot hold weights; use a name that ends in .safetensors")
    if goal.exists() and not options.overwrite:
        raise OutputError(f"{goal}: exists already; add --overwrite or choose another name")
    return _interruptible(lambda: _train(options, goal))


def _train(options: StageOptions, goal: Path) -> int:
    from derain.rain2avoid.sdrl import train_set
    from derain.weights.store import save_file

    settings = _settings(options)
    report = Report(quiet=options.quiet, debug=options.debug)
    lessons = []
    for job in _jobs(options, report):
        try:
            picture = job.read()
            lessons.append((picture, job.rain_map(picture), job.references()))
        except Exception as error:
            report.fail(error)
    start = time.perf_counter()
    if lessons:
        with report.progress(1, "learning") as bar:
            network = train_set(lessons, settings, on_step=follow(bar))
        name, made_with = settings.network
        goal.parent.mkdir(parents=True, exist_ok=True)
        origin = {"trained_by": "derain rain2avoid train", "schedule": settings.schedule}
        save_file(network, goal, model=name, settings=made_with, half=False, origin=origin)
        report.succeed(f"{goal}: {name} from {len(lessons)} pictures, {time.perf_counter() - start:.0f} s")
    return report.close("trained")


def infer_command(options: StageOptions) -> int:
    """Derain by a network of ``train``."""
    from derain.derainer import Derainer

    assert options.model is not None
    derainer = Derainer(options.model, device=options.device, precision=options.precision)

    def one(job: _Job) -> str:
        goal = job.goal("result")
        _write(derainer(job.read()), goal, options.overwrite)
        return str(goal)

    return _each(options, "deraining", one)


# --- shared --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One picture; ``root`` is the folder of the authors' layout that it came from."""

    source: Source
    root: Path | None
    options: StageOptions
    on_step: Callable[[int, int], None] | None = None

    def read(self) -> Eight:
        return read_rgb(self.source.path)

    def goal(self, stage: str, chosen: Path | None = None) -> Path:
        """Where a stage's PNG goes."""
        below = self._below(stage, chosen if stage == "fuse" else self.options.output)
        if below is None:
            option = "--fuse" if stage == "fuse" else "-o"
            raise OutputError(f"{self.source.path}: no place for its {stage}; give {option}, or a folder with input/")
        return below / self.source.relative.with_suffix(".png")

    def rain_map(self, picture: Eight) -> Eight:
        """As an earlier stage left it; made if it did not."""
        from derain.rain2avoid import ldgp

        options = self.options
        folder = self._below("ldgp", options.ldgp)
        path = folder / self.source.relative.with_suffix(".png") if folder is not None else None
        if path is not None and (path.exists() or options.ldgp is not None):
            found = np.array(images.read(path).to_pil().convert("L"))
            if found.shape != picture.shape[:2]:
                raise InputError(f"{path}: its size is not that of {self.source.path}; make it anew")
            return found
        return ldgp(picture, mode=options.mode, directions=options.directions)  # type: ignore[arg-type]

    def references(self) -> list[Eight] | None:
        """Those an earlier stage left, in the authors' order: 0, 1, 10, 11, …"""
        folder = self._below("sdr", self.options.sdr)
        if folder is None:
            return None
        files = sorted((folder / self.source.relative.with_suffix("")).glob("*.png"), key=lambda p: p.stem)
        if not files and self.options.sdr is not None:
            raise InputError(f"{folder / self.source.relative.stem}: no references in it; run derain rain2avoid nss")
        return [read_rgb(f) for f in files] or None

    def _below(self, stage: str, chosen: Path | None) -> Path | None:
        if chosen is not None:
            return chosen
        return self.root / stage if self.root is not None else None


def _settings(options: StageOptions) -> Settings:
    from derain.rain2avoid.sdrl import Settings

    return Settings(
        schedule=options.schedule,  # type: ignore[arg-type]
        backbone=options.backbone,
        references=options.count,
        steps=options.steps,
        seed=options.seed,
        device=options.device,
        precision=options.precision,
    )


def _jobs(options: StageOptions, report: Report) -> list[_Job]:
    jobs = []
    for text in options.inputs:
        below = Path(text) / "input"
        root = Path(text) if below.is_dir() else None
        sources, errors = find_sources([str(below) if root is not None else text], recursive=False)
        for error in errors:
            report.fail(error)
        jobs += [_Job(source, root, options) for source in sources]
    return jobs


def _each(options: StageOptions, what: str, one: Callable[[_Job], str]) -> int:
    report = Report(quiet=options.quiet, debug=options.debug)

    def run() -> int:
        jobs = _jobs(options, report)
        with report.progress(len(jobs), what) as bar:
            for job in jobs:
                on_step = follow(bar)
                try:
                    report.succeed(f"{job.source.path} → {one(replace(job, on_step=on_step))}")
                except Exception as error:
                    report.fail(error)
                on_step(1, 1)
        return report.close("done")

    return _interruptible(run)


def _interruptible(run: Callable[[], int]) -> int:
    try:
        with terminate_like_interrupt():
            return run()
    except KeyboardInterrupt:
        print("interrupted; finished files are kept, nothing is half-written", file=sys.stderr)
        return 130


def _write(values: npt.NDArray[Any], goal: Path, overwrite: bool) -> None:
    write_bytes(images.encode(images.from_pil(Image.fromarray(values)), "PNG"), goal, overwrite=overwrite)


def _eight(pixels: npt.NDArray[np.float32]) -> Eight:
    eight: Eight = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return eight
