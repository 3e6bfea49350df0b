"""From the words of a command to the files it works on; faults go to the report."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from derain import images
from derain.errors import OutputError
from derain.files import output_exists, remove_stale
from derain.sources import Source, check_input, find_conflicts, find_sources, is_clip, is_file_path, output_paths

from .console import Report

Work = list[tuple[Source, Path]]


def plan(
    inputs: list[str], output: Path | None, report: Report, *, recursive: bool, overwrite: bool, skip_existing: bool
) -> Work:
    """What to read and where each result goes; impossible items are reported.

    Raises:
        OutputError: several inputs for an output file in a format that cannot be written.
        typer.Exit: several inputs for one output file (exit code 2).
    """
    sources = report_sources(inputs, report, recursive=recursive, exclude=output)
    if output is not None and len(sources) > 1 and (os.path.isfile(output) or is_file_path(output)):
        if not is_clip(output):
            images.format_for(output)
        report.fail(OutputError(f"{output}: names one file, but there are {len(sources)} inputs; give a folder"))
        raise typer.Exit(2)
    paths = output_paths(sources, output)
    for folder in {path.parent for path in paths}:
        remove_stale(folder)
    work = []
    for source, path, conflict in zip(sources, paths, find_conflicts(sources, paths), strict=True):
        with report.catch(input=str(source.path)):
            check_input(source.path)
            if conflict is not None:
                raise conflict
            if not is_clip(source.path):
                images.format_for(path)
            if not output_exists(path) or overwrite:
                work.append((source, path))
            elif skip_existing:
                report.skip(f"{source.path} skipped: {path} exists", input=str(source.path), output=str(path))
            else:
                raise OutputError(f"{path}: exists already; add --overwrite or --skip-existing")
    return work


def report_sources(
    inputs: list[str], report: Report, *, recursive: bool = False, exclude: Path | None = None
) -> list[Source]:
    """The files of :func:`find_sources`; its errors go to the report."""
    sources, errors = find_sources(inputs, recursive=recursive, exclude=exclude)
    for error in errors:
        report.fail(error)
    return sources


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without the folders that are not needed to distinguish it from the others."""
    different = set(names)

    def shorten(name: str) -> str:
        parts = Path(name).parts
        ends = (str(Path(*parts[-count:])) for count in range(1, len(parts)))
        return next((end for end in ends if sum(f"/{other}".endswith(f"/{end}") for other in different) == 1), name)

    return {name: shorten(name) for name in different}


def tile_size(text: str) -> Any:
    """``--tile`` as ``Derainer`` takes it: a number of pixels, ``auto`` or ``off``."""
    return int(text) if text.isdigit() else text
