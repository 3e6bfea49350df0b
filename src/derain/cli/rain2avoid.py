"""``derain rain2avoid``: the full method, and its stages one by one, also on the authors' folder layout."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from typer import Argument, Option

from derain.arrays import UInt8Array
from derain.errors import OutputError
from derain.files import check_output
from derain.rain2avoid.folders import StageFiles, write_png

from . import options as opt
from .console import Report, interruptible
from .inputs import report_sources
from .rain2avoid_run import BACKBONE, DIRECTIONS, SCHEDULE, STEPS, run, training_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Rain2Avoid: derain by a network that learns from the images alone. Stages use ROOT/input, ldgp, sdr, fuse "
    "and result.",
)
app.command("run")(run)

STAGE_INPUTS = Annotated[list[str], Argument(metavar="INPUT...", help="A folder with input/ in it, or images with -o.")]
STAGE_OUTPUT = Annotated[Path | None, Option("-o", "--output", metavar="DIR", help="Instead of the folder in ROOT.")]
LDGP = Annotated[Path | None, Option("--ldgp", metavar="DIR", help="Rain maps, instead of ROOT/ldgp or new ones.")]
SDR = Annotated[Path | None, Option("--sdr", metavar="DIR", help="References, instead of ROOT/sdr or new ones.")]
_MODE_HELP = "streaks, or authors: the published maps, bit for bit."
MODE = Annotated[str, Option("--mode", callback=opt.one_of("streaks", "authors"), help=_MODE_HELP)]
_RAIN = 10  # map values above are rain


@app.command("ldgp")
def ldgp_(
    inputs: STAGE_INPUTS,
    output: STAGE_OUTPUT = None,
    mode: MODE = "streaks",
    patch_size: Annotated[int, Option("--patch_size", "--patch-size", help="For mode authors.")] = 80,
    kernel_size: Annotated[int | None, Option("--kernel_size", "--kernel-size", min=1, help="Minimum streak.")] = None,
    directions: DIRECTIONS = 1,
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Find the rain: gray maps, 0 is clean and more than 10 is rain."""
    from derain.rain2avoid import ldgp

    def process(files: StageFiles, _on_step: OnStep) -> str:
        size = {"patch_size": patch_size, "kernel_size": kernel_size, "directions": directions}
        rain_map = ldgp(files.read(), mode=mode, **size)  # type: ignore[arg-type]
        path = files.output("ldgp")
        write_png(rain_map, path, overwrite=overwrite)
        return f"{path} ({(rain_map > _RAIN).mean():.0%} rain)"

    _each(inputs, {"ldgp": output}, "finding rain", process, Report(quiet, debug))


@app.command()
def nss(
    inputs: STAGE_INPUTS,
    output: STAGE_OUTPUT = None,
    ldgp: LDGP = None,
    fuse: Annotated[Path | None, Option(metavar="DIR", help="Mean references, instead of ROOT/fuse.")] = None,
    mode: MODE = "streaks",
    directions: DIRECTIONS = 1,
    count: Annotated[int, Option("--sdr_num", "--sdr-num", min=1, help="References per image.")] = 50,
    power: Annotated[float, Option("--pow", min=0, help="Exponent of the similarity, η.")] = 0.5,
    threshold: Annotated[int, Option(min=0, max=254, help="Map values above are rain.")] = _RAIN,
    neighbors: Annotated[int, Option("--K", help="Side of the square of candidates.")] = 7,
    similarity: Annotated[int, Option("--k", help="Minimum side of the square that is compared.")] = 3,
    independent: Annotated[bool, Option("--independent", help="Sample each pixel independently.")] = False,
    seed: opt.SEED = 0,
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Sample references without rain, 50 per image, and their mean."""
    from derain.rain2avoid import Sampler
    from derain.rain2avoid import ldgp as find_rain

    def new_map(image: UInt8Array) -> UInt8Array:
        return find_rain(image, mode=mode, directions=directions)  # type: ignore[arg-type]

    def process(files: StageFiles, _on_step: OnStep) -> str:
        image = files.read()
        folder, mean = files.output("sdr").with_suffix(""), files.output("fuse")
        check_output(mean, overwrite)
        rain_map = files.rain_map(image, new_map)
        sampler = Sampler(image, rain_map, threshold=threshold, neighbors=neighbors, similarity=similarity, power=power)
        total = np.zeros(image.shape, np.int64)
        for number, reference in enumerate(sampler.references(count, seed=seed, independent=independent)):
            write_png(reference, folder / f"{number}.png", overwrite=overwrite)
            total += reference
        write_png(np.rint(total / count).astype(np.uint8), mean, overwrite=overwrite)
        return f"{folder} ({count} references), {mean}"

    folders = {"sdr": output, "ldgp": ldgp, "fuse": fuse}
    _each(inputs, folders, "sampling references", process, Report(quiet, debug))


@app.command()
def learn(
    inputs: STAGE_INPUTS,
    output: STAGE_OUTPUT = None,
    ldgp: LDGP = None,
    sdr: SDR = None,
    schedule: SCHEDULE = "fast",
    backbone: BACKBONE = None,
    steps: STEPS = None,
    seed: opt.SEED = 0,
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Train a network for each image and write the derained image."""
    from derain.rain2avoid import adapt

    settings = training_settings(schedule, backbone, steps, seed, device, precision)

    def process(files: StageFiles, on_step: OnStep) -> str:
        image, path = files.read(), files.output("result")
        rain_map = files.rain_map(image, settings.rain_map)
        learned = adapt(image, settings=settings, rain_map=rain_map, references=files.references(), on_step=on_step)
        write_png(np.rint(np.clip(learned.pixels, 0, 1) * 255).astype(np.uint8), path, overwrite=overwrite)
        return f"{path} ({learned.steps} steps, {learned.seconds:.0f} s)"

    folders = {"result": output, "ldgp": ldgp, "sdr": sdr}
    _each(inputs, folders, "training", process, Report(quiet, debug))


@app.command()
def train(
    inputs: STAGE_INPUTS,
    model: Annotated[Path, Option("-o", "--model", metavar="FILE", help="The .safetensors file to write.")],
    ldgp: LDGP = None,
    sdr: SDR = None,
    schedule: SCHEDULE = "fast",
    backbone: BACKBONE = None,
    steps: STEPS = None,
    seed: opt.SEED = 0,
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Train one network for all images; `infer`, or `derain run --model FILE`, uses it."""
    if model.suffix != ".safetensors":
        raise OutputError(f"{model}: cannot hold a network; use a name that ends in .safetensors")
    check_output(model, overwrite)
    from derain.rain2avoid.run import train_set
    from derain.weights.store import save_file

    settings = training_settings(schedule, backbone, steps, seed, device, precision)
    report = Report(quiet, debug)
    samples = []
    with interruptible():
        for files in _find_images(inputs, {"ldgp": ldgp, "sdr": sdr}, report):
            with report.catch():
                image = files.read()
                samples.append((image, files.rain_map(image, settings.rain_map), files.references()))
        start = time.perf_counter()
        if samples:
            with report.progress(1, "training") as bar, bar.item() as on_step:
                network = train_set(samples, settings, on_step=on_step)
            name, network_settings = settings.network
            origin = {"trained_by": "derain rain2avoid train", "schedule": settings.schedule}
            save_file(network, model, model=name, settings=network_settings, half=False, origin=origin)
            report.succeed(f"{model}: {name} from {len(samples)} images, {time.perf_counter() - start:.0f} s")
        raise typer.Exit(report.close("trained"))


@app.command()
def infer(
    inputs: STAGE_INPUTS,
    model: Annotated[Path, Option(metavar="FILE", help="The file that `train` wrote.")],
    output: STAGE_OUTPUT = None,
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Derain with a network of `train`."""
    from derain.derainer import Derainer

    derainer = Derainer(model, device=device, precision=precision)

    def process(files: StageFiles, _on_step: OnStep) -> str:
        path = files.output("result")
        write_png(derainer(files.read()), path, overwrite=overwrite)
        return str(path)

    _each(inputs, {"result": output}, "deraining", process, Report(quiet, debug))


OnStep = Callable[[int, int], None]
Process = Callable[[StageFiles, OnStep], str]


def _each(inputs: list[str], folders: dict[str, Path | None], what: str, process: Process, report: Report) -> None:
    """Process the images one by one; ``process`` returns what it wrote. Ends the command."""
    with interruptible():
        found = _find_images(inputs, folders, report)
        with report.progress(len(found), what) as bar:
            for files in found:
                with bar.item() as on_step, report.catch():
                    report.succeed(f"{files.path} → {process(files, on_step)}")
        raise typer.Exit(report.close("done"))


def _find_images(inputs: list[str], folders: dict[str, Path | None], report: Report) -> list[StageFiles]:
    """The images of files, globs, folders, and folders with ``input/``; errors go to the report."""
    found = []
    for text in inputs:
        below = Path(text) / "input"
        root = Path(text) if below.is_dir() else None
        sources = report_sources([str(below) if root is not None else text], report)
        found += [StageFiles(source.path, source.relative, root, folders) for source in sources]
    return found
