"""``derain rain2avoid``: the full method, and its stages one by one, also on the authors' folder layout."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from derain.arrays import to_uint8
from derain.errors import InputError, OutputError
from derain.files import check_output
from derain.rain2avoid.folders import StageFiles, write_png, write_references
from derain.sources import Source, find_conflicts

from . import options as opt
from .console import Report, interruptible, wrong_usage
from .inputs import report_sources
from .rain2avoid_names import AuthorsOptions
from .rain2avoid_run import BACKBONE, DIRECTIONS, MODE, SCHEDULE, STEPS, run, training_settings

if TYPE_CHECKING:
    from derain.derainer import Derainer
    from derain.rain2avoid import Settings

app = typer.Typer(
    cls=AuthorsOptions,
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
EPOCH = Annotated[int | None, Option("--epoch", min=1, hidden=True)]
_RAIN = 10  # map values above are rain


@app.command("ldgp")
def ldgp_(
    inputs: STAGE_INPUTS,
    output: STAGE_OUTPUT = None,
    mode: MODE = None,
    patch_size: Annotated[int, Option("--patch_size", "--patch-size", help="For mode authors.")] = 80,
    kernel_size: Annotated[int | None, Option("--kernel_size", "--kernel-size", min=1, help="Minimum streak.")] = None,
    directions: DIRECTIONS = 1,
    overwrite: opt.OVERWRITE = False,
    skip_existing: opt.SKIP_EXISTING = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Find the rain: gray maps, 0 is clean and more than 10 is rain. Mode authors also writes ROOT/bf."""
    from derain.rain2avoid import ldgp, rain_angles

    size: Any = {"mode": mode or "streaks", "patch_size": patch_size}

    def process(files: StageFiles, path: Path, _on_step: OnStep) -> str:
        image = files.read()
        angles = rain_angles(image, **size, count=directions)
        if mode == "authors" and files.root is not None and output is None:
            before = files.output("bf")
            if overwrite or not before.exists():  # the opening with a single pixel changes nothing
                write_png(ldgp(image, **size, kernel_size=1, angles=angles), before, overwrite=True)
        rain_map = ldgp(image, **size, kernel_size=kernel_size, angles=angles)
        write_png(rain_map, path, overwrite=overwrite)
        return f"{path} ({size['mode']}, {(rain_map > _RAIN).mean():.0%} rain)"

    batch = _Batch(inputs, {"ldgp": output}, Report(quiet, debug))
    batch.run("ldgp", "finding rain", process, overwrite=overwrite, skip_existing=skip_existing)


@app.command()
def nss(
    inputs: STAGE_INPUTS,
    output: STAGE_OUTPUT = None,
    ldgp: LDGP = None,
    fuse: Annotated[Path | None, Option(metavar="DIR", help="Mean references, instead of ROOT/fuse.")] = None,
    mode: MODE = None,
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
    """Sample references without rain, 50 per image, and their mean. Images that have a mean are skipped."""
    from derain.rain2avoid import Sampler, Settings

    settings = Settings(map_mode=mode, directions=directions)  # type: ignore[arg-type]

    def process(files: StageFiles, path: Path, _on_step: OnStep) -> str:
        image, folder = files.read(), files.output("sdr").with_suffix("")
        found = files.rain_map(image)
        rain_map, origin = (found[0], str(found[1])) if found else (settings.rain_map(image), f"new, {settings.mode}")
        sampler = Sampler(image, rain_map, threshold=threshold, neighbors=neighbors, similarity=similarity, power=power)
        references = sampler.references(count, seed=seed, independent=independent)
        write_png(write_references(references, folder, overwrite=overwrite), path, overwrite=overwrite)
        return f"{folder} ({count} references), {path} (map: {origin})"

    batch = _Batch(inputs, {"sdr": output, "ldgp": ldgp, "fuse": fuse}, Report(quiet, debug), mode)
    batch.run("fuse", "sampling references", process, overwrite=overwrite, skip_existing=True)


@app.command()
def learn(
    inputs: STAGE_INPUTS,
    output: STAGE_OUTPUT = None,
    ldgp: LDGP = None,
    sdr: SDR = None,
    mode: MODE = None,
    schedule: SCHEDULE = "fast",
    backbone: BACKBONE = None,
    steps: STEPS = None,
    epoch: EPOCH = None,
    seed: opt.SEED = 0,
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    overwrite: opt.OVERWRITE = False,
    skip_existing: opt.SKIP_EXISTING = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Train a network for each image and write the derained image."""
    settings = training_settings(schedule, backbone, steps, seed, device, precision, mode=mode, epochs=epoch)
    batch = _Batch(inputs, {"result": output, "ldgp": ldgp, "sdr": sdr}, Report(quiet, debug), mode)
    _learn(batch, settings, "single", overwrite, skip_existing)


@app.command()
def online(
    inputs: STAGE_INPUTS,
    output: STAGE_OUTPUT = None,
    ldgp: LDGP = None,
    mode: MODE = None,
    schedule: SCHEDULE = "fast",
    backbone: BACKBONE = None,
    steps: STEPS = None,
    epoch: EPOCH = None,
    seed: opt.SEED = 0,
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    overwrite: opt.OVERWRITE = False,
    skip_existing: opt.SKIP_EXISTING = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """As `learn`, with references that are sampled while training instead of those of `nss`."""
    settings = training_settings(schedule, backbone, steps, seed, device, precision, mode=mode, epochs=epoch)
    batch = _Batch(inputs, {"result": output, "ldgp": ldgp}, Report(quiet, debug), mode)
    _learn(batch, settings, "online", overwrite, skip_existing)


def _learn(batch: _Batch, settings: Settings, method: Any, overwrite: bool, skip_existing: bool) -> None:
    from derain.rain2avoid import adapt

    # The authors' script truncates to 8 bits, as matplotlib does.
    quantizer: Any = "truncate" if settings.schedule == "authors" else "round"

    def process(files: StageFiles, path: Path, on_step: OnStep) -> str:
        sample = files.sample(settings, online=method == "online")
        learned = adapt(
            sample.image,
            method=method,
            settings=settings,
            rain_map=sample.rain_map,
            references=sample.references,
            on_step=on_step,
        )
        write_png(to_uint8(learned.pixels, quantizer), path, overwrite=overwrite)
        refused = f": {learned.refused}; copied" if learned.refused else ""
        return f"{path} ({sample.origin}; {learned.steps} steps, {learned.seconds:.0f} s){refused}"

    batch.run("result", "training", process, overwrite=overwrite, skip_existing=skip_existing)


@app.command()
def train(
    inputs: STAGE_INPUTS,
    model: Annotated[Path, Option("-o", "--model", metavar="FILE", help="The .safetensors file to write.")],
    ldgp: LDGP = None,
    sdr: SDR = None,
    mode: MODE = None,
    schedule: SCHEDULE = "fast",
    backbone: BACKBONE = None,
    steps: STEPS = None,
    epoch: EPOCH = None,
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

    settings = training_settings(schedule, backbone, steps, seed, device, precision, mode=mode, epochs=epoch)
    report = Report(quiet, debug)
    samples = []
    with interruptible():
        for files in _Batch(inputs, {"ldgp": ldgp, "sdr": sdr}, report, mode).files:
            with report.catch():
                sample = files.sample(settings)
                report.note(f"{files.path}: {sample.origin}")
                samples.append((sample.image, sample.rain_map, sample.references))
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
    model: Annotated[str, Option(metavar="MODEL", help="A file of `train`, the authors' model.pkl, or as of `run`.")],
    output: STAGE_OUTPUT = None,
    as_authors: Annotated[
        bool, Option("--as-authors", help="As test_all.py: each image's own batch statistics, fp32, truncated.")
    ] = False,
    device: opt.DEVICE = "auto",
    precision: opt.PRECISION = "auto",
    overwrite: opt.OVERWRITE = False,
    skip_existing: opt.SKIP_EXISTING = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Derain with a network of `train`, or any other model."""
    derainer = _load(model, device, "fp32" if as_authors and precision == "auto" else precision)
    derain: Callable[[Any], Any] = derainer
    if as_authors:
        from derain.rain2avoid.run import derain_as_authors

        runtime = derainer.torch_runtime()

        def derain(image: Any) -> Any:
            return derain_as_authors(runtime.network, image, derainer.info.size, runtime.device)

    def process(files: StageFiles, path: Path, _on_step: OnStep) -> str:
        write_png(derain(files.read()), path, overwrite=overwrite)
        return str(path)

    batch = _Batch(inputs, {"result": output}, Report(quiet, debug))
    batch.run("result", "deraining", process, overwrite=overwrite, skip_existing=skip_existing)


def _load(model: str, device: str, precision: str) -> Derainer:
    """A model that ``run`` takes, or a file of the authors."""
    from derain.derainer import Derainer

    if Path(model).suffix not in (".pkl", ".pth", ".pt"):
        return Derainer(model, device=device, precision=precision)
    from derain.models import model_info
    from derain.rain2avoid.run import load_authors
    from derain.runtime.torch import TorchRuntime

    network, name = load_authors(Path(model))
    return Derainer(model, runtime=TorchRuntime(network, device, precision, model_info(name)))


OnStep = Callable[[int, int], None]
Process = Callable[[StageFiles, Path, OnStep], str]


class _Batch:
    """The images of files, globs, folders, and folders with ``input/``; errors go to the report.

    Args:
        inputs: as typed.
        folders: a stage's folder where it was given.
        report: where outcomes go.
        mode: of the rain maps; if given, maps and references that are there are not used.
    """

    def __init__(
        self, inputs: list[str], folders: dict[str, Path | None], report: Report, mode: str | None = None
    ) -> None:
        if mode is not None and folders.get("ldgp") is not None:
            raise wrong_usage("--mode makes new rain maps, --ldgp takes existing ones; give one of them")
        self.report = report
        self.files: list[StageFiles] = []
        for text in inputs:
            below = Path(text) / "input"
            root = Path(text) if below.is_dir() else None
            for source in report_sources([str(below) if root is not None else text], report):
                self.files.append(StageFiles(source.path, source.relative, root, folders, reuse=mode is None))

    def run(self, stage: str, what: str, process: Process, *, overwrite: bool, skip_existing: bool) -> None:
        """Process the images one by one; ``process`` returns what it wrote. Ends the command."""
        report = self.report
        with interruptible():
            work = []
            for files in self.files:
                with report.catch():
                    work.append((files, files.output(stage)))
            sources = [Source(files.path, files.relative) for files, _ in work]
            conflicts = find_conflicts(sources, [path for _, path in work])
            with report.progress(len(work), what) as bar:
                for (files, path), conflict in zip(work, conflicts, strict=True):
                    with bar.item() as on_step, report.catch():
                        if conflict is not None:
                            raise conflict
                        if not files.path.exists():
                            raise InputError(f"{files.path}: no such file; check the name")
                        if skip_existing and not overwrite and path.exists():
                            report.skip(f"{files.path} skipped: {path} exists; --overwrite makes it again")
                            continue
                        check_output(path, overwrite)  # before hours of work
                        report.succeed(f"{files.path} → {process(files, path, on_step)}")
            raise typer.Exit(report.close("done"))
