"""``derain synth``: clean pictures in, rainy and clean pairs out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from derain import images
from derain.errors import OutputError
from derain.files import write_json
from derain.rain import StreakLibrary, apply_rain, sample_rain

from .console import Report
from .inputs import Source, find_sources


@dataclass(frozen=True)
class SynthOptions:
    """The command's options, as typed."""

    clean: list[str]
    output: Path
    preset: str = "mixed"
    n_per_image: int = 1
    seed: int = 0
    scale: float = 1.0
    streaks: Path | None = None
    recursive: bool = False
    overwrite: bool = False
    quiet: bool = False
    debug: bool = False


def synth_command(options: SynthOptions) -> int:
    """Run the command; returns the exit code."""
    report = Report(quiet=options.quiet, debug=options.debug)
    library = StreakLibrary(options.streaks) if options.streaks is not None else None
    sources, errors = find_sources(options.clean, recursive=options.recursive, exclude=options.output)
    for error in errors:
        report.fail(error)
    if options.output.exists() and not options.output.is_dir():
        report.fail(OutputError(f"{options.output}: is a file; give a folder for the pairs"))
        return 1
    pairs: list[dict[str, Any]] = []
    with report.progress(len(sources) * options.n_per_image, "raining") as bar:
        for number, source in enumerate(sources):
            for version in range(options.n_per_image):
                try:
                    pairs.append(_pair(source, number, version, options, library))
                    report.succeed(f"{source.path} → {options.output / pairs[-1]['input']}")
                except Exception as error:
                    report.fail(error)
                bar.advance()
    if pairs:
        settings = {"seed": options.seed, "preset": options.preset, "scale": options.scale, "pairs": pairs}
        settings["streaks"] = str(options.streaks) if options.streaks is not None else None
        write_json(settings, options.output / "manifest.json")
    return report.close("rained on")


def _pair(
    source: Source, number: int, version: int, options: SynthOptions, library: StreakLibrary | None
) -> dict[str, Any]:
    """Write one pair; returns its entry of the manifest."""
    clean = images.read(source.path)
    # Each pair has its own stream of chance: adding pictures does not change the others' rain.
    rng = np.random.default_rng([options.seed, number, version])
    recipe = sample_rain(options.preset, rng, library)
    rainy = clean.with_pixels(apply_rain(clean.pixels, recipe, rng, library, options.scale))
    stem = source.relative.with_suffix("")
    name = stem if options.n_per_image == 1 else stem.with_name(f"{stem.name}_{version + 1}")
    # PNG keeps the additive relation exact; JPEG would add its own noise to both.
    file = name.with_name(name.name + ".png")
    rainy.save(options.output / "input" / file, overwrite=options.overwrite)
    clean.save(options.output / "target" / file, overwrite=options.overwrite)
    return {
        "input": str(Path("input") / file),
        "target": str(Path("target") / file),
        "source": str(source.path),
        "rain": recipe.describe(),
    }
