"""``derain synth``, ``eval`` and ``data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from derain.cli.options import (
    CLEAN,
    DEBUG,
    DEVICE,
    ENSEMBLE,
    LAYOUT,
    PRECISION,
    PRESETS,
    PROTOCOLS,
    QUIET,
    RUNTIMES,
    TILE,
    one_of,
    words,
)

commands = typer.Typer()


@commands.command()
def synth(
    clean: Annotated[list[str], typer.Argument(metavar="CLEAN...", help="Clean pictures: files, folders or globs.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PAIRS", help="Folder for the pairs.")],
    preset: Annotated[
        str, typer.Option("--preset", callback=one_of(*PRESETS), help=f"What rain: {', '.join(PRESETS)}.")
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
    quiet: QUIET = False,
    debug: DEBUG = False,
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


@commands.command("eval")
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
        str, typer.Option("--protocol", callback=one_of(*PROTOCOLS), help=f"How to measure: {', '.join(PROTOCOLS)}.")
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
    layout: LAYOUT = "auto",
    clean: CLEAN = None,
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
    device: DEVICE = "auto",
    precision: PRECISION = "auto",
    runtime: RUNTIMES = "auto",
    tile: TILE = "auto",
    ensemble: ENSEMBLE = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
) -> None:
    """Measure models, or ready-made results, on paired sets."""
    from derain.cli.eval import EvalOptions, eval_command

    wanted = words(metrics)
    if set(wanted) - {"psnr", "ssim", "niqe", "brisque", "lpips"}:
        raise typer.BadParameter(f"{metrics!r}: choose from psnr, ssim, niqe, brisque, lpips.", param_hint="--metrics")
    options = EvalOptions(
        data=data,
        models=words(model),
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
        runtimes=tuple(words(runtime)),
        tile=tile,
        ensemble=ensemble,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    raise typer.Exit(eval_command(options))


data_app = typer.Typer(no_args_is_help=True, help="Look at paired sets: check them, lay them out plainly.")
commands.add_typer(data_app, name="data")


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR|NAME", help="Folder or list file of a paired set.")],
    layout: LAYOUT = "auto",
    clean: CLEAN = None,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the catalog as JSON.")] = False,
) -> None:
    """List the public sets: pairs, resolution, source, home page, paper, layout, usual protocol, terms."""
    from derain.cli.data import list_command

    list_command(as_json)


@data_app.command("import")
def data_import(
    folder: Annotated[Path, typer.Argument(metavar="DIR|NAME", help="Folder or list file of a paired set.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="New folder for input/ and target/.")],
    layout: LAYOUT = "auto",
    clean: CLEAN = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy files instead of linking them.")] = False,
) -> None:
    """Lay any known set out as input/ and target/ with equal names."""
    from derain.cli.data import import_command

    raise typer.Exit(import_command(folder, output, layout=layout, clean=clean, copy=copy))  # type: ignore[arg-type]
