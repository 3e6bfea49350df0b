"""``derain adapt`` and ``rain2avoid``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from derain.cli.options import BACKBONES, DEBUG, DEVICE, OVERWRITE, PRECISION, QUIET, SEED, one_of

commands = typer.Typer()


_SCHEDULE = Annotated[
    str,
    typer.Option(
        "--schedule",
        callback=one_of("fast", "authors"),
        help="fast, or the authors' training (thousands of steps a picture).",
    ),
]
_BACKBONE = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--backbone", help=f"The network that learns: {', '.join(BACKBONES)}."),
]
_STEPS = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--steps", min=1, help="Steps at most, instead of the schedule's."),
]
_DIRECTIONS = Annotated[int, typer.Option("--directions", min=1, help="Directions of rain to look for.")]


def _backbone(value: str | None) -> str | None:
    return None if value is None else one_of(*BACKBONES)(value)


@commands.command()
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
            callback=one_of("single", "online", "multiple"),
            help="single: a network for each picture; online: with references drawn anew; multiple: one for all.",
        ),
    ] = "single",
    schedule: _SCHEDULE = "fast",
    backbone: _BACKBONE = None,
    directions: _DIRECTIONS = 1,
    steps: _STEPS = None,
    seed: SEED = 0,
    save_mask: Annotated[bool, typer.Option("--save-mask", help="Also write …_rainmask.png.")] = False,
    save_reference: Annotated[bool, typer.Option("--save-reference", help="Also write …_reference.png.")] = False,
    device: DEVICE = "auto",
    precision: PRECISION = "auto",
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="JPEG, WebP, AVIF quality.")] = 95,
    overwrite: OVERWRITE = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a file on stdout.")] = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
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
commands.add_typer(rain2avoid_app, name="rain2avoid")

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
        "--mode", callback=one_of("streaks", "authors"), help="streaks, or authors: bit for bit the published maps."
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
    overwrite: OVERWRITE = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
) -> None:
    """Find the rain: gray maps, 0 is clean and more than 10 is rain."""
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
    neighbors: Annotated[int, typer.Option("--K", help="Side of the square of candidates.")] = 7,
    similarity: Annotated[int, typer.Option("--k", help="Least side of the square that is compared.")] = 3,
    independent: Annotated[bool, typer.Option("--independent", help="Draw for each pixel alone.")] = False,
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
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
        neighbors=neighbors,
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
    seed: SEED = 0,
    device: DEVICE = "auto",
    precision: PRECISION = "auto",
    overwrite: OVERWRITE = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
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
    seed: SEED = 0,
    device: DEVICE = "auto",
    precision: PRECISION = "auto",
    overwrite: OVERWRITE = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
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
    device: DEVICE = "auto",
    precision: PRECISION = "auto",
    overwrite: OVERWRITE = False,
    quiet: QUIET = False,
    debug: DEBUG = False,
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
