"""``derain synth``: clean images in, pairs of rainy and clean images out."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from typer import Argument, Option

from derain import images
from derain.errors import OutputError
from derain.files import write_json
from derain.rain import StreakLibrary, apply_rain, sample_rain

from . import options as opt
from .console import Report
from .inputs import report_sources

app = typer.Typer(add_completion=False)


@app.command()
def synth(
    clean: Annotated[list[str], Argument(metavar="CLEAN...", help="Clean images: files, folders or globs.")],
    output: Annotated[Path, Option("-o", "--output", metavar="PAIRS", help="Folder for the pairs.")],
    preset: opt.PRESET = "mixed",
    n_per_image: Annotated[int, Option(min=1, help="Rainy versions of each image.")] = 1,
    seed: opt.SEED = 0,
    scale: Annotated[float, Option(min=0.1, help="Size of the streaks; 1 suits images of 480×320.")] = 1.0,
    streaks: Annotated[Path | None, Option(help="Folder of streak images as an additional source.")] = None,
    recursive: opt.RECURSIVE = False,
    overwrite: opt.OVERWRITE = False,
    quiet: opt.QUIET = False,
    debug: opt.DEBUG = False,
) -> None:
    """Add rain to clean images: PAIRS/input, PAIRS/target and PAIRS/manifest.json."""
    report = Report(quiet, debug)
    library = StreakLibrary(streaks) if streaks is not None else None
    sources = report_sources(clean, report, recursive=recursive, exclude=output)
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; give a folder for the pairs")
    pairs: list[dict[str, Any]] = []
    with report.progress(len(sources) * n_per_image, "adding rain") as bar:
        for (index, source), version in product(enumerate(sources), range(n_per_image)):
            with bar.item(), report.catch():
                clean_image = images.read(source.path)
                # Each pair has its own random stream: more images do not change the rain of the others.
                rng = np.random.default_rng([seed, index, version])
                rain = sample_rain(preset, rng, library)
                rainy = clean_image.with_pixels(apply_rain(clean_image.pixels, rain, rng, library, scale))
                number = "" if n_per_image == 1 else f"_{version + 1}"
                # PNG keeps the additive relation exact; JPEG would add its own noise to both.
                file = source.relative.with_name(f"{source.relative.stem}{number}.png")
                rainy.save(output / "input" / file, overwrite=overwrite)
                clean_image.save(output / "target" / file, overwrite=overwrite)
                paths = {"input": str(Path("input") / file), "target": str(Path("target") / file)}
                pairs.append({**paths, "source": str(source.path), "rain": rain.describe()})
                report.succeed(f"{source.path} → {output / paths['input']}")
    if pairs:
        settings = {"seed": seed, "preset": preset, "scale": scale, "pairs": pairs}
        settings["streaks"] = str(streaks) if streaks is not None else None
        write_json(settings, output / "manifest.json")
    raise typer.Exit(report.close("written"))
