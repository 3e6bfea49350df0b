"""Which files a command works on, and where each result goes."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from derain import images
from derain.errors import DerainError, InputError, OutputError
from derain.video import containers

from .console import Report

#: How the stems of files that derain writes next to its inputs end.
_OUTPUT_SUFFIXES = ("_derained", "_compare", "_rainmask", "_reference")


@dataclass(frozen=True)
class Source:
    """One input file; ``relative`` is its path below the folder it was found in."""

    path: Path
    relative: Path


Work = list[tuple[Source, Path]]


def plan(
    inputs: list[str], output: Path | None, report: Report, *, recursive: bool, overwrite: bool, skip_existing: bool
) -> Work:
    """What to read and where each result goes; impossible items are reported.

    Raises:
        typer.Exit: several inputs for one output file (exit code 2).
    """
    sources = report_sources(inputs, report, recursive=recursive, exclude=output)
    if output is not None and len(sources) > 1 and (output.is_file() or is_file_path(output)):
        report.fail(OutputError(f"{output}: names one file, but there are {len(sources)} inputs; give a folder"))
        raise typer.Exit(2)
    paths = output_paths(sources, output)
    work = []
    for source, path, conflict in zip(sources, paths, find_conflicts(sources, paths), strict=True):
        error = conflict
        if not source.path.exists():
            error = InputError(f"{source.path}: no such file; check the name")
        elif conflict is None and path.exists():
            if skip_existing:
                report.skip(f"{source.path} skipped: {path} exists", input=str(source.path), output=str(path))
                continue
            if not overwrite:
                error = OutputError(f"{path}: exists already; add --overwrite or --skip-existing")
        if error is not None:
            report.fail(error, input=str(source.path))
        else:
            work.append((source, path))
    return work


def report_sources(
    inputs: list[str], report: Report, *, recursive: bool = False, exclude: Path | None = None
) -> list[Source]:
    """The files of :func:`find_sources`; its errors go to the report."""
    sources, errors = find_sources(inputs, recursive=recursive, exclude=exclude)
    for error in errors:
        report.fail(error)
    return sources


def find_sources(
    inputs: list[str], *, recursive: bool, exclude: Path | None = None
) -> tuple[list[Source], list[DerainError]]:
    """Expand files, folders and globs.

    Args:
        inputs: as typed.
        recursive: include subfolders of folders.
        exclude: the output folder; files that a folder or glob finds in it are not inputs.

    Returns:
        The files in order without duplicates, and one error for each input that gave none.
    """
    sources: dict[Path, Source] = {}
    errors: list[DerainError] = []
    for text in inputs:
        try:
            for source in _expand(text, recursive, exclude):
                sources.setdefault(source.path.resolve(), source)
        except DerainError as error:
            errors.append(error)
    return list(sources.values()), errors


def _expand(text: str, recursive: bool, exclude: Path | None) -> list[Source]:
    path = Path(text)
    closed = exclude.resolve() if exclude is not None else None

    def is_input(file: Path) -> bool:
        return file.is_file() and (closed is None or path.resolve() == closed or closed not in file.resolve().parents)

    if path.is_dir():
        try:
            below = sorted(path.rglob("*") if recursive else path.iterdir())
        except OSError as error:
            raise InputError(f"{text}: cannot be listed ({error.strerror}); check its permissions") from None
        files = [p for p in below if _is_image(p) and is_input(p)]
        if not files:
            hint = "" if recursive else "; add -r to include subfolders"
            raise InputError(f"{text}: a folder without images ({', '.join(sorted(images.FORMATS))}){hint}")
        return [Source(p, p.relative_to(path)) for p in files]
    if path.exists() or not glob.has_magic(text):
        return [Source(path, Path(path.name))]  # a missing file is reported when it is read
    matches = [Path(m) for m in sorted(glob.glob(text, recursive=True))]
    files = [m for m in matches if is_input(m) and not m.stem.endswith(_OUTPUT_SUFFIXES)]
    if not files:
        raise InputError(f"{text}: matches no file; check the pattern")
    return [Source(m, Path(m.name)) for m in files]


def _is_image(path: Path) -> bool:
    is_output = path.stem.endswith(_OUTPUT_SUFFIXES)
    return path.suffix.lower() in images.FORMATS and not path.name.startswith(".") and not is_output


def tile_size(text: str) -> Any:
    """``--tile`` as ``Derainer`` takes it: a number of pixels, ``auto`` or ``off``."""
    return int(text) if text.isdigit() else text


def is_clip(path: Path) -> bool:
    """Whether a file is a clip, by its suffix. Folders give images only: a clip is named, or matched by a glob."""
    return path.suffix.lower() in containers.SUFFIXES


def writable_suffix(path: Path) -> str:
    """The suffix of a result: that of the source, or ``.png`` (``.mkv`` for a clip) where derain cannot write it."""
    if is_clip(path):
        return path.suffix if path.suffix.lower() in containers.WRITABLE else ".mkv"
    try:
        images.format_for(path)
    except OutputError:
        return ".png"
    return path.suffix


def is_file_path(output: Path) -> bool:
    """Whether ``-o`` names a file: the suffix of an image or a clip, and not an existing folder."""
    return output.suffix.lower() in images.FORMATS.keys() | containers.SUFFIXES and not output.is_dir()


def output_paths(sources: list[Source], output: Path | None) -> list[Path]:
    """Where each source's result goes; see ``derain run --help``."""
    if output is None:
        return [s.path.with_name(f"{s.path.stem}_derained{writable_suffix(s.path)}") for s in sources]
    if len(sources) == 1 and is_file_path(output):
        return [output]
    return [output / s.relative.with_suffix(writable_suffix(s.path)) for s in sources]


def find_conflicts(sources: list[Source], paths: list[Path]) -> list[DerainError | None]:
    """For each pair the reason not to write it: it would replace an input or another result."""
    originals = {s.path.resolve() for s in sources}
    taken: dict[Path, Path] = {}
    conflicts: list[DerainError | None] = []
    for source, path in zip(sources, paths, strict=True):
        resolved = path.resolve()
        conflict: DerainError | None = None
        if resolved in originals:
            conflict = OutputError(f"{source.path}: would overwrite the input {path}; choose another output")
        elif resolved in taken:
            conflict = OutputError(
                f"{source.path}: would be written to {path} like {taken[resolved]}; write it to another folder"
            )
        taken.setdefault(resolved, source.path)
        conflicts.append(conflict)
    return conflicts
