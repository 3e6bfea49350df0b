"""``derain``: the commands and their options. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional

import typer

from derain import __version__
from derain.errors import DerainError

# The names of derain.metrics.PROTOCOLS, derain.rain.PRESETS and derain.selfsupervised's BACKBONES, here because
# importing those is slow; tests compare.
_PRESETS = ("light", "heavy", "mixed", "noise", "real")
_BACKBONES = ("small", "unet", "resnet", "dncnn", "restormer", "drsformer")
_PROTOCOLS = ("y", "rgb", "y-downsampled", "rgb-uniform", "float", "y-full")

app = typer.Typer(
    name="derain",
    help="Take the rain out of photographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"derain {__version__}")
        raise typer.Exit


def _one_of(*words: str) -> Callable[[str], str]:
    """Check an option against its words; anything else is wrong usage (exit code 2)."""

    def check(value: str) -> str:
        if value not in words:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(words)}.")
        return value

    return check


def _tile(value: str) -> str:
    """Check ``--tile``; :func:`derain.cli.files.tile_option` reads it."""
    if value in ("auto", "off") or (value.isdigit() and int(value) > 0):
        return value
    raise typer.BadParameter(f"{value!r} is not auto, off or a number of pixels.")


# Options that several commands share.
_DEVICE = Annotated[
    str, typer.Option("--device", callback=_one_of("auto", "cpu", "cuda", "mps"), help="auto, cpu, cuda or mps.")
]
_PRECISION = Annotated[
    str, typer.Option("--precision", callback=_one_of("auto", "fp32", "bf16"), help="auto, fp32 or bf16.")
]
_RUNTIME = Annotated[
    str,
    typer.Option(
        "--runtime",
        callback=_one_of("auto", "torch", "onnx", "openvino"),
        help="auto (torch, or what an exported file needs), torch, onnx or openvino.",
    ),
]
_TILE = Annotated[str, typer.Option("--tile", callback=_tile, help="auto, off, or the side of a tile in pixels.")]
_QUIET = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
_LAYOUT = Annotated[
    str,
    typer.Option(
        "--layout",
        callback=_one_of("auto", "clean-left", "rainy-left", "real"),
        help="auto by names; clean-left or rainy-left for pictures that hold both halves; real for rainy "
        "pictures without clean ones.",
    ),
]
_CLEAN = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--clean", metavar="DIR", help="Folder of the clean pictures, beside that of the rainy ones."),
]


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, or - for stdin to stdout.")
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045  (typer on Python 3.10)
        typer.Option("-o", "--output", metavar="OUT", help="Output file, or folder for several inputs."),
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Look into subfolders.")] = False,
    model: Annotated[str, typer.Option("--model", help="A name from `derain models`, or a file.")] = "default",
    device: _DEVICE = "auto",
    precision: _PRECISION = "auto",
    runtime: _RUNTIME = "auto",
    tile: _TILE = "auto",
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="JPEG, WebP, AVIF quality.")] = 95,
    compare: Annotated[bool, typer.Option("--compare", help="Also write a before | after sheet.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Pictures in work at the same time.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a file on stdout.")] = False,
    quiet: _QUIET = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also tell model, device and precision.")] = False,
    debug: _DEBUG = False,
) -> None:
    """Take the rain out of pictures.

    A single picture becomes photo_derained.jpg beside it; with -o it goes where you say. Originals are
    never changed.
    """
    from derain.cli.run import Options, run_command

    options = Options(
        inputs=inputs,
        output=output,
        recursive=recursive,
        model=model,
        device=device,
        precision=precision,
        runtime=runtime,
        tile=tile,
        quality=quality,
        compare=compare,
        overwrite=overwrite,
        skip_existing=skip_existing,
        jobs=jobs,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        debug=debug,
    )
    raise typer.Exit(run_command(options))


models_app = typer.Typer(invoke_without_command=True)
app.add_typer(models_app, name="models")


@models_app.callback()
def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """List the models: size, speed, licence, training data and measured figures."""
    if context.invoked_subcommand is None:
        from derain.cli.models import models_command

        models_command(as_json)


@models_app.command("import")
def models_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Official checkpoint of PReNet or SAPNet.")],
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--as", metavar="NETWORK", help="The network it belongs to; else told by its keys."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--name", help="What --model will take; else the file's name."),
    ] = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A setting that the keys do not tell: iterations=7."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier import of that name.")] = False,
) -> None:
    """Make an official checkpoint usable by name. Files that could run code are refused."""
    from derain.cli.models import import_command

    import_command(file, model, name, settings or [], overwrite)


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name from `derain models`, or a .safetensors file.")],
    to: Annotated[str, typer.Option("--to", callback=_one_of("onnx", "openvino"), help="onnx or openvino.")] = "onnx",
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", metavar="FILE", help="The .onnx or .xml file; else MODEL.onnx or MODEL.xml."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", callback=_one_of("fp32", "fp16"), help="How weights are stored; fp16 is half the size."
        ),
    ] = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a model as one file that runs without torch: derain run photo.jpg --model FILE.

    Any picture size; the file says what it is, and is compared with torch before it is kept.
    """
    from derain.cli.models import export_command

    export_command(model, to, output, precision, overwrite)


@app.command()
def bench(
    model: Annotated[str, typer.Option("--model", metavar="A[,B...]", help="Names or files, with commas.")] = "default",
    runtime: Annotated[
        str, typer.Option("--runtime", metavar="A[,B...]", help="auto, torch, onnx, openvino; with commas.")
    ] = "auto",
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Of the picture.")] = "480x320",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed calls of each.")] = 7,
    threads: Annotated[Optional[int], typer.Option("--threads", min=1, help="Of a call.")] = None,  # noqa: UP045
    precision: _PRECISION = "auto",
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", metavar="FILE", help="Also write everything as JSON."),
    ] = None,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--plot", metavar="FILE", help="Draw quality over time, for models with measured figures."),
    ] = None,
) -> None:
    """Measure how fast models run here: time, operations against this machine's peak, memory."""
    from derain.cli.bench import bench_command

    names, kinds = ([word.strip() for word in text.split(",") if word.strip()] for text in (model, runtime))
    bench_command(names, kinds, size, repeats, threads, precision, json_file, plot)


@app.command()
def synth(
    clean: Annotated[list[str], typer.Argument(metavar="CLEAN...", help="Clean pictures: files, folders or globs.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PAIRS", help="Folder for the pairs.")],
    preset: Annotated[
        str, typer.Option("--preset", callback=_one_of(*_PRESETS), help=f"What rain: {', '.join(_PRESETS)}.")
    ] = "mixed",
    n_per_image: Annotated[int, typer.Option("--n-per-image", min=1, help="Rainy versions of each picture.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds give equal rain.")] = 0,
    scale: Annotated[
        float, typer.Option("--scale", min=0.1, help="Size of the streaks; 1 suits pictures of 480×320.")
    ] = 1.0,
    streaks: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--streaks", help="Folder of streak pictures as a further source."),
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Look into subfolders.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing pairs.")] = False,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Rain on clean pictures: PAIRS/input, PAIRS/target and PAIRS/manifest.json."""
    from derain.cli.synth import SynthOptions, synth_command

    options = SynthOptions(
        clean=clean,
        output=output,
        preset=preset,
        n_per_image=n_per_image,
        seed=seed,
        scale=scale,
        streaks=streaks,
        recursive=recursive,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(synth_command(options))


@app.command("eval")
def evaluate(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            metavar="DIR|NAME",
            help="Folder or list file of a paired set, or its name if DERAIN_DATA tells where it is; may be repeated.",
        ),
    ],
    model: Annotated[str, typer.Option("--model", metavar="A[,B...]", help="Names or files, with commas.")] = "default",
    results: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--results", metavar="DIR", help="Score these ready-made pictures instead of a model."),
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", callback=_one_of(*_PROTOCOLS), help=f"How to measure: {', '.join(_PROTOCOLS)}.")
    ] = "y",
    metrics: Annotated[
        str,
        typer.Option("--metrics", help="With commas: psnr and ssim are always told; niqe, brisque, lpips if named."),
    ] = "psnr,ssim",
    brisque_model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--brisque-model",
            metavar="FILE",
            help="Also tell BRISQUE by this published model: brisque_model_live.yml (OpenCV) or allmodel (LIBSVM).",
        ),
    ] = None,
    layout: _LAYOUT = "auto",
    clean: _CLEAN = None,
    save_images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--save-images", metavar="DIR", help="Keep the derained pictures here."),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", metavar="FILE", help="Write everything as one JSON object."),
    ] = None,
    csv_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--csv", metavar="FILE", help="Write one row a picture."),
    ] = None,
    report: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--report", metavar="FILE", help="Write an HTML page with the worst and best pictures."),
    ] = None,
    device: _DEVICE = "auto",
    precision: _PRECISION = "auto",
    tile: _TILE = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Measure models, or ready-made results, on paired sets."""
    from derain.cli.eval import EvalOptions, eval_command

    wanted = [word.strip() for word in metrics.split(",") if word.strip()]
    if set(wanted) - {"psnr", "ssim", "niqe", "brisque", "lpips"}:
        raise typer.BadParameter(f"{metrics!r}: choose from psnr, ssim, niqe, brisque, lpips.", param_hint="--metrics")
    options = EvalOptions(
        data=data,
        models=[name.strip() for name in model.split(",") if name.strip()],
        results=results,
        protocol=protocol,
        extras=tuple(dict.fromkeys(word for word in wanted if word not in ("psnr", "ssim"))),
        brisque_model=brisque_model,
        layout=layout,  # type: ignore[arg-type]
        clean=clean,
        save_images=save_images,
        json_file=json_file,
        csv_file=csv_file,
        report=report,
        device=device,
        precision=precision,
        tile=tile,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(eval_command(options))


_SCHEDULE = Annotated[
    str,
    typer.Option(
        "--schedule",
        callback=_one_of("fast", "authors"),
        help="fast, or the authors' training (thousands of steps a picture).",
    ),
]
_BACKBONE = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--backbone", help=f"The network that learns: {', '.join(_BACKBONES)}."),
]
_STEPS = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--steps", min=1, help="Steps at most, instead of the schedule's."),
]
_SEED = Annotated[int, typer.Option("--seed", help="Equal seeds give equal results.")]
_DIRECTIONS = Annotated[int, typer.Option("--directions", min=1, help="Directions of rain to look for.")]
_OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]


def _backbone(value: str | None) -> str | None:
    return None if value is None else _one_of(*_BACKBONES)(value)


@app.command()
def adapt(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders or globs.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", metavar="OUT", help="Output file, or folder for several inputs."),
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Look into subfolders.")] = False,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            callback=_one_of("single", "online", "multiple"),
            help="single: a network for each picture; online: with references drawn anew; multiple: one for all.",
        ),
    ] = "single",
    schedule: _SCHEDULE = "fast",
    backbone: _BACKBONE = None,
    directions: _DIRECTIONS = 1,
    steps: _STEPS = None,
    seed: _SEED = 0,
    save_mask: Annotated[bool, typer.Option("--save-mask", help="Also write …_rainmask.png.")] = False,
    save_reference: Annotated[bool, typer.Option("--save-reference", help="Also write …_reference.png.")] = False,
    device: _DEVICE = "auto",
    precision: _PRECISION = "auto",
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="JPEG, WebP, AVIF quality.")] = 95,
    overwrite: _OVERWRITE = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a file on stdout.")] = False,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Take the rain out by a network that learns from the pictures alone (Rain2Avoid).

    Slower than `derain run` and without trained weights; for rain that those have never seen.
    """
    from derain.cli.adapt import AdaptOptions, adapt_command

    options = AdaptOptions(
        inputs=inputs,
        output=output,
        recursive=recursive,
        method=method,
        schedule=schedule,
        backbone=_backbone(backbone),
        directions=directions,
        steps=steps,
        seed=seed,
        save_mask=save_mask,
        save_reference=save_reference,
        device=device,
        precision=precision,
        quality=quality,
        overwrite=overwrite,
        skip_existing=skip_existing,
        as_json=as_json,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(adapt_command(options))


rain2avoid_app = typer.Typer(
    no_args_is_help=True, help="The stages of Rain2Avoid one by one; ROOT/input, ldgp, sdr, fuse and result."
)
app.add_typer(rain2avoid_app, name="rain2avoid")

_STAGE_INPUTS = Annotated[
    list[str], typer.Argument(metavar="INPUT...", help="A folder with input/ in it, or pictures with -o.")
]
_STAGE_OUTPUT = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("-o", "--output", metavar="DIR", help="Where results go, instead of the stage's folder in ROOT."),
]
_LDGP = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--ldgp", metavar="DIR", help="Rain maps, instead of ROOT/ldgp or new ones."),
]
_SDR = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--sdr", metavar="DIR", help="References, instead of ROOT/sdr or new ones."),
]
_MODE = Annotated[
    str,
    typer.Option(
        "--mode", callback=_one_of("streaks", "authors"), help="streaks, or authors: bit for bit the published maps."
    ),
]


@rain2avoid_app.command("ldgp")
def rain2avoid_ldgp(
    inputs: _STAGE_INPUTS,
    output: _STAGE_OUTPUT = None,
    mode: _MODE = "streaks",
    patch_size: Annotated[int, typer.Option("--patch_size", "--patch-size", help="Of mode authors.")] = 80,
    kernel_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--kernel_size", "--kernel-size", min=1, help="Least length of a streak, pixels."),
    ] = None,
    directions: _DIRECTIONS = 1,
    overwrite: _OVERWRITE = False,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Find the rain: grey maps, 0 is clean and more than 10 is rain."""
    from derain.cli.rain2avoid import StageOptions, ldgp_command

    options = StageOptions(
        inputs=inputs,
        output=output,
        mode=mode,
        patch_size=patch_size,
        kernel_size=kernel_size,
        directions=directions,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(ldgp_command(options))


@rain2avoid_app.command("nss")
def rain2avoid_nss(
    inputs: _STAGE_INPUTS,
    output: _STAGE_OUTPUT = None,
    ldgp: _LDGP = None,
    fuse: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--fuse", metavar="DIR", help="Means of the references, instead of ROOT/fuse."),
    ] = None,
    mode: _MODE = "streaks",
    directions: _DIRECTIONS = 1,
    count: Annotated[int, typer.Option("--sdr_num", "--sdr-num", min=1, help="References a picture.")] = 50,
    power: Annotated[float, typer.Option("--pow", min=0, help="The likeness's power, η.")] = 0.5,
    threshold: Annotated[int, typer.Option("--threshold", min=0, max=254, help="Maps above it are rain.")] = 10,
    neighbours: Annotated[int, typer.Option("--K", help="Side of the square of candidates.")] = 7,
    similarity: Annotated[int, typer.Option("--k", help="Least side of the square that is compared.")] = 3,
    independent: Annotated[bool, typer.Option("--independent", help="Draw for each pixel alone.")] = False,
    seed: _SEED = 0,
    overwrite: _OVERWRITE = False,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Draw references without rain, 50 a picture, and their mean."""
    from derain.cli.rain2avoid import StageOptions, nss_command

    options = StageOptions(
        inputs=inputs,
        output=output,
        ldgp=ldgp,
        fuse=fuse,
        mode=mode,
        directions=directions,
        count=count,
        power=power,
        threshold=threshold,
        neighbours=neighbours,
        similarity=similarity,
        independent=independent,
        seed=seed,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(nss_command(options))


@rain2avoid_app.command("learn")
def rain2avoid_learn(
    inputs: _STAGE_INPUTS,
    output: _STAGE_OUTPUT = None,
    ldgp: _LDGP = None,
    sdr: _SDR = None,
    schedule: _SCHEDULE = "fast",
    backbone: _BACKBONE = None,
    steps: _STEPS = None,
    seed: _SEED = 0,
    device: _DEVICE = "auto",
    precision: _PRECISION = "auto",
    overwrite: _OVERWRITE = False,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Teach a network for each picture and write what it derains."""
    from derain.cli.rain2avoid import StageOptions, learn_command

    options = StageOptions(
        inputs=inputs,
        output=output,
        ldgp=ldgp,
        sdr=sdr,
        mode="authors" if schedule == "authors" else "streaks",
        schedule=schedule,
        backbone=_backbone(backbone),
        steps=steps,
        seed=seed,
        device=device,
        precision=precision,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(learn_command(options))


@rain2avoid_app.command("train")
def rain2avoid_train(
    inputs: _STAGE_INPUTS,
    model: Annotated[Path, typer.Option("-o", "--model", metavar="FILE", help="The network, a .safetensors file.")],
    ldgp: _LDGP = None,
    sdr: _SDR = None,
    schedule: _SCHEDULE = "fast",
    backbone: _BACKBONE = None,
    steps: _STEPS = None,
    seed: _SEED = 0,
    device: _DEVICE = "auto",
    precision: _PRECISION = "auto",
    overwrite: _OVERWRITE = False,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Teach one network for all the pictures; `infer`, or `derain run --model FILE`, uses it."""
    from derain.cli.rain2avoid import StageOptions, train_command

    options = StageOptions(
        inputs=inputs,
        model=model,
        ldgp=ldgp,
        sdr=sdr,
        mode="authors" if schedule == "authors" else "streaks",
        schedule=schedule,
        backbone=_backbone(backbone),
        steps=steps,
        seed=seed,
        device=device,
        precision=precision,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(train_command(options))


@rain2avoid_app.command("infer")
def rain2avoid_infer(
    inputs: _STAGE_INPUTS,
    model: Annotated[Path, typer.Option("--model", metavar="FILE", help="What `train` wrote.")],
    output: _STAGE_OUTPUT = None,
    device: _DEVICE = "auto",
    precision: _PRECISION = "auto",
    overwrite: _OVERWRITE = False,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Derain by a network of `train`."""
    from derain.cli.rain2avoid import StageOptions, infer_command

    options = StageOptions(
        inputs=inputs,
        model=model,
        output=output,
        device=device,
        precision=precision,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(infer_command(options))


data_app = typer.Typer(no_args_is_help=True, help="Look at paired sets: check them, lay them out plainly.")
app.add_typer(data_app, name="data")


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR|NAME", help="Folder or list file of a paired set.")],
    layout: _LAYOUT = "auto",
    clean: _CLEAN = None,
    against: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--against", metavar="DIR|NAME", help="A set that must share no scene with it, such as its test set."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Findings to print.")] = 40,
) -> None:
    """Say what a set holds and what is wrong with it; exit code 1 if there are faults."""
    from derain.cli.data import check_command

    code = check_command(
        folder,
        layout=layout,  # type: ignore[arg-type]
        clean=clean,
        against=against,
        as_json=as_json,
        limit=limit,
    )
    raise typer.Exit(code)


@data_app.command("list")
def data_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print the catalogue as JSON.")] = False,
) -> None:
    """List the public sets: pairs, resolution, source, home page, paper, layout, usual protocol, terms."""
    from derain.cli.data import list_command

    list_command(as_json)


@data_app.command("import")
def data_import(
    folder: Annotated[Path, typer.Argument(metavar="DIR|NAME", help="Folder or list file of a paired set.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="New folder for input/ and target/.")],
    layout: _LAYOUT = "auto",
    clean: _CLEAN = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy files instead of linking them.")] = False,
) -> None:
    """Lay any known set out as input/ and target/ with equal names."""
    from derain.cli.data import import_command

    raise typer.Exit(import_command(folder, output, layout=layout, clean=clean, copy=copy))  # type: ignore[arg-type]


_DATA = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option("--data", metavar="DIR", help="Clean photographs, which are rained on, or pairs; may be repeated."),
]
_OVERRIDES = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Argument(metavar="[FIELD=VALUE]...", help="Changes to the recipe, such as optimizer.lr=5e-4."),
]
_RUN_FOLDER = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("-o", "--out", metavar="RUN", help="Folder of the run; runs/NAME unless told."),
]


@models_app.command("pack")
def models_pack(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="RUN/checkpoints/best.ckpt or last.ckpt.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .safetensors file to write.")],
    single: Annotated[bool, typer.Option("--fp32", help="Keep full precision; twice the size.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Turn a training checkpoint into a weight for --model."""
    from derain.cli.train import pack_command

    pack_command(checkpoint, output, single=single, overwrite=overwrite)


@app.command()
def train(
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[RECIPE]", help="A name of --list, or a YAML file."),
    ] = None,
    overrides: _OVERRIDES = None,
    data: _DATA = None,
    out: _RUN_FOLDER = None,
    steps: Annotated[Optional[int], typer.Option("--steps", min=1, help="Length of the run.")] = None,  # noqa: UP045
    minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--minutes", min=0.1, help="As many steps as take so long here."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe and stop.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="One batch through everything; time and memory.")] = False,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Train a network by a recipe.

    A run folder holds checkpoints, metrics.csv, curves.png, samples/, TensorBoard's events and at last
    weights.safetensors for --model. A stopped run goes on with --resume as if it had never stopped.
    """
    from derain.cli.train import TrainOptions, list_command, train_command

    if list_:
        list_command()
        return
    options = TrainOptions(recipe, overrides or [], data or [], out, steps, minutes, resume, show, dry_run, quiet)
    raise typer.Exit(train_command(options))


@app.command()
def ablate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="sapnet.")],
    overrides: _OVERRIDES = None,
    data: _DATA = None,
    out: _RUN_FOLDER = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Training time of each row.")] = 60,
    quiet: _QUIET = False,
    debug: _DEBUG = False,
) -> None:
    """Train each row of a paper's ablation for the same time and print the table."""
    from derain.cli.train import ablate_command

    raise typer.Exit(ablate_command(name, data or [], overrides or [], out, minutes, quiet))


@app.command()
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen at; 0.0.0.0 opens it to the network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen at.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes, each with its own model.")] = 1,
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Larger pictures are refused.")] = 25_000_000,
    max_bytes: Annotated[int, typer.Option("--max-bytes", min=1, help="Larger files are refused.")] = 32 * 2**20,
    token: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--token", envvar="DERAIN_TOKEN", help="Clients must send it as Authorization: Bearer."),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="For requests that name none: a name, or a file.")] = "default",
    queue: Annotated[int, typer.Option("--queue", min=1, help="Pictures that may wait; then 429.")] = 16,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds a picture may wait and work.")] = 120,
    device: _DEVICE = "auto",
    precision: _PRECISION = "auto",
    tile: _TILE = "auto",
    debug: _DEBUG = False,
) -> None:
    """Serve a page for photographs and an HTTP interface, by default for this computer alone.

    POST a picture to /v1/derain, a ZIP to /v1/derain/batch; /openapi.json describes it all.
    """
    from derain.cli.serve import ServeOptions, serve_command

    options = ServeOptions(
        host=host,
        port=port,
        workers=workers,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        token=token,
        model=model,
        queue=queue,
        timeout=timeout,
        device=device,
        precision=precision,
        tile=tile,
    )
    raise typer.Exit(serve_command(options))


def main() -> None:
    """Entry point: a user's mistake is one line and an exit code, never a traceback."""
    try:
        app()
    except DerainError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
