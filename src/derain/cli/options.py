"""Option types that several commands share. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

# The names of derain.metrics.PROTOCOLS, derain.arrays.QUANTIZERS, derain.rain.PRESETS and derain.rain2avoid's
# BACKBONES, and the numbers of derain.inference.ENSEMBLES. They are repeated here because importing those modules is
# slow; tests compare them.
PRESETS = ("light", "heavy", "mixed", "noise", "real")
ENSEMBLES = (1, 2, 4)
BACKBONES = ("small", "unet", "resnet", "dncnn", "restormer", "drsformer")
PROTOCOLS = ("y", "rgb", "y-downsampled", "rgb-uniform", "float", "y-full")
QUANTIZERS = ("round", "truncate")
LAYOUTS = ("auto", "clean-left", "clean-right", "rainy-left", "real", "rain-free")


def one_of(*values: str | int) -> Callable[[Any], Any]:
    """A callback that accepts ``None`` and these values; anything else is wrong usage (exit code 2)."""

    def check(value: Any) -> Any:
        if value is not None and value not in values:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(map(str, values))}.")
        return value

    return check


def split_list(text: str) -> list[str]:
    """The items of an option that takes several, separated by commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _tile(value: str) -> str:
    """Check ``--tile``; :func:`derain.cli.inputs.tile_size` parses it."""
    if value in ("auto", "off") or (value.isdigit() and int(value) > 0):
        return value
    raise typer.BadParameter(f"{value!r} is not auto, off or a number of pixels.")


def _layout(value: str) -> str:
    """Check ``--layout``; ``dry`` is an old name."""
    if value == "dry":
        typer.echo("note: `--layout dry` is now `--layout rain-free`", err=True)
        value = "rain-free"
    return str(one_of(*LAYOUTS)(value))


# Inputs and outputs
INPUTS = Annotated[list[str], Argument(metavar="INPUT...", help="Files, folders or globs.")]
RECURSIVE = Annotated[bool, Option("-r", "--recursive", help="Include subfolders.")]
OUTPUT = Annotated[Path | None, Option("-o", "--output", metavar="OUT", help="File, or folder for several inputs.")]
OVERWRITE = Annotated[bool, Option("--overwrite", help="Replace existing outputs.")]
SKIP_EXISTING = Annotated[bool, Option("--skip-existing", help="Skip inputs whose output exists.")]
QUALITY = Annotated[int, Option("--quality", min=1, max=100, help="JPEG, WebP and AVIF quality.")]
DATASET = Annotated[Path, Argument(metavar="DIR|NAME", help="Folder or list file of a paired dataset.")]
_LAYOUT_HELP = """auto: by names; clean-left or clean-right: images that hold both halves; real: rainy images without
clean ones; rain-free: images without rain, which should stay unchanged."""
LAYOUT = Annotated[str, Option("--layout", callback=_layout, help=_LAYOUT_HELP)]
CLEAN = Annotated[Path | None, Option("--clean", metavar="DIR", help="Folder of the clean images.")]
_SEGMENTER_HELP = "From `derain train camvid-segmenter`, or PSPNet-101 of semseg or SGINet (.pth, .pt)."
SEGMENTER = Annotated[Path, Option("--segmenter", metavar="FILE", help=_SEGMENTER_HELP)]

# Models and how they run
MODEL = Annotated[str, Option("--model", help="A name from `derain models`, or a file.")]
MODELS = Annotated[str, Option("--model", metavar="A[,B...]", help="Names or files, separated by commas.")]
DEVICE = Annotated[
    str, Option("--device", callback=one_of("auto", "cpu", "cuda", "mps"), help="auto, cpu, cuda or mps.")
]
PRECISION = Annotated[str, Option("--precision", callback=one_of("auto", "fp32", "bf16"), help="auto, fp32 or bf16.")]
_RUNTIME_HELP = "auto (torch, or what an exported file needs), torch, onnx or openvino."
RUNTIME = Annotated[str, Option("--runtime", callback=one_of("auto", "torch", "onnx", "openvino"), help=_RUNTIME_HELP)]
RUNTIMES = Annotated[str, Option("--runtime", metavar="A[,B...]", help="auto, torch, onnx, openvino; with commas.")]
TILE = Annotated[str, Option("--tile", callback=_tile, help="auto, off, or the tile size in pixels.")]
_ENSEMBLE_HELP = "Average over flipped copies of the image: this many times slower, slightly better."
ENSEMBLE = Annotated[
    int, Option("--ensemble", callback=one_of(*ENSEMBLES), metavar="|".join(map(str, ENSEMBLES)), help=_ENSEMBLE_HELP)
]
_QUANTIZER_HELP = "Images: round results to integers, or truncate as authors' scripts do."
QUANTIZER = Annotated[str, Option("--quantizer", callback=one_of(*QUANTIZERS), help=_QUANTIZER_HELP)]

# Rain and training
PRESET = Annotated[str, Option("--preset", callback=one_of(*PRESETS), help=f"Rain: {', '.join(PRESETS)}.")]
SEED = Annotated[int, Option("--seed", help="Equal seeds give equal results.")]
_DATA_HELP = "Clean photographs, to which rain is added, or pairs; may be repeated. For a segmenter: CamVid."
TRAINING_DATA = Annotated[list[Path] | None, Option("--data", metavar="DIR|FILE|NAME", help=_DATA_HELP)]
OVERRIDES = Annotated[list[str] | None, Argument(metavar="[FIELD=VALUE]...", help="Recipe changes: optimizer.lr=5e-4.")]
RUN_FOLDER = Annotated[Path | None, Option("-o", "--out", metavar="RUN", help="Folder of the run; default: runs/NAME.")]
CHECKPOINT_OUTPUT = Annotated[Path, Option("-o", "--output", metavar="FILE", help="The .safetensors file to write.")]
FP32 = Annotated[bool, Option("--fp32", help="Keep full precision; twice the size.")]

# Console output
JSON_LINES = Annotated[bool, Option("--json", help="Print one JSON line per file to stdout.")]
JSON_FILE = Annotated[Path | None, Option("--json", metavar="FILE", help="Also write everything as JSON.")]
JSON_STDOUT = Annotated[bool, Option("--json", help="Print as JSON.")]
QUIET = Annotated[bool, Option("-q", "--quiet", help="Print errors only.")]
DEBUG = Annotated[bool, Option("--debug", help="Show the traceback of an error.")]
