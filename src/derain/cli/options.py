"""Options that several commands share. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional, TypeVar

import typer

Word = TypeVar("Word", str, int)

# The names of derain.metrics.PROTOCOLS, derain.rain.PRESETS and derain.rain2avoid's BACKBONES, and the numbers of
# derain.runtime.ensemble, here because importing those is slow; tests compare.
PRESETS = ("light", "heavy", "mixed", "noise", "real")
ENSEMBLES = (1, 2, 4)
BACKBONES = ("small", "unet", "resnet", "dncnn", "restormer", "drsformer")
PROTOCOLS = ("y", "rgb", "y-downsampled", "rgb-uniform", "float", "y-full")


def one_of(*words: Word) -> Callable[[Word], Word]:
    """Check an option against its words or numbers; anything else is wrong usage (exit code 2)."""

    def check(value: Word) -> Word:
        if value not in words:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(map(str, words))}.")
        return value

    return check


def _tile(value: str) -> str:
    """Check ``--tile``; :func:`derain.cli.inputs.tile_option` reads it."""
    if value in ("auto", "off") or (value.isdigit() and int(value) > 0):
        return value
    raise typer.BadParameter(f"{value!r} is not auto, off or a number of pixels.")


def words(text: str) -> list[str]:
    """The words of an option that takes several with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


DEVICE = Annotated[
    str, typer.Option("--device", callback=one_of("auto", "cpu", "cuda", "mps"), help="auto, cpu, cuda or mps.")
]
PRECISION = Annotated[
    str, typer.Option("--precision", callback=one_of("auto", "fp32", "bf16"), help="auto, fp32 or bf16.")
]
RUNTIME = Annotated[
    str,
    typer.Option(
        "--runtime",
        callback=one_of("auto", "torch", "onnx", "openvino"),
        help="auto (torch, or what an exported file needs), torch, onnx or openvino.",
    ),
]
RUNTIMES = Annotated[
    str, typer.Option("--runtime", metavar="A[,B...]", help="auto, torch, onnx, openvino; with commas.")
]
TILE = Annotated[str, typer.Option("--tile", callback=_tile, help="auto, off, or the side of a tile in pixels.")]
ENSEMBLE = Annotated[
    int,
    typer.Option(
        "--ensemble",
        callback=one_of(*ENSEMBLES),
        metavar="|".join(map(str, ENSEMBLES)),
        help="Average over mirrored forms: as many times as slow, a little better.",
    ),
]
QUIET = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]
DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
LAYOUT = Annotated[
    str,
    typer.Option(
        "--layout",
        callback=one_of("auto", "clean-left", "rainy-left", "real", "dry"),
        help="auto by names; clean-left or rainy-left for pictures that hold both halves; real for rainy "
        "pictures without clean ones; dry for pictures without rain, which should stay as they are.",
    ),
]
CLEAN = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--clean", metavar="DIR", help="Folder of the clean pictures, beside that of the rainy ones."),
]
SEED = Annotated[int, typer.Option("--seed", help="Equal seeds give equal results.")]
OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
