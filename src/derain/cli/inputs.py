"""Which files a command works on, and where each result goes."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derain import images
from derain.errors import DerainError, InputError, OutputError
from derain.video import reader as clips

_OWN_SUFFIXES = ("_derained", "_compare", "_rainmask", "_reference")


@dataclass(frozen=True)
class Source:
    """One input file; ``relative`` is where it lies below the folder it was found in."""

    path: Path
    relative: Path


def find_sources(
    inputs: list[str], *, recursive: bool, exclude: Path | None = None
) -> tuple[list[Source], list[DerainError]]:
    """Expand files, folders and globs.

    Args:
        inputs: as typed.
        recursive: look into subfolders of folders.
        apart: the output folder; what a folder or glob finds in there is no input.

    Returns:
        The files in order, each once, and one error for each input that gave none.
    """
    found: dict[Path, Source] = {}
    errors: list[DerainError] = []
    for text in inputs:
        try:
            for source in _expand(text, recursive, exclude):
                found.setdefault(source.path.resolve(), source)
        except DerainError as error:
            errors.append(error)
    return list(found.values()), errors


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
        pictures = [p for p in below if _is_picture(p) and is_input(p)]
        if not pictures:
            hint = "" if recursive else "; add -r to look into subfolders"
            raise InputError(f"{text}: a folder without pictures ({', '.join(sorted(images.FORMATS))}){hint}")
        return [Source(p, p.relative_to(path)) for p in pictures]
    if path.exists() or not glob.has_magic(text):
        return [Source(path, Path(path.name))]  # a missing file is told when it is read
    matches = [Path(m) for m in sorted(glob.glob(text, recursive=True))]
    files = [m for m in matches if is_input(m) and not m.stem.endswith(_OWN_SUFFIXES)]
    if not files:
        raise InputError(f"{text}: matches no file; check the pattern")
    return [Source(m, Path(m.name)) for m in files]


def _is_picture(path: Path) -> bool:
    return (
        path.suffix.lower() in images.FORMATS
        and not path.name.startswith(".")
        and not path.stem.endswith(_OWN_SUFFIXES)
    )


def tile_option(text: str) -> Any:
    """``--tile`` as ``Derainer`` takes it: a number of pixels, ``auto`` or ``off``."""
    return int(text) if text.isdigit() else text


def is_clip(path: Path) -> bool:
    """Whether a file is a clip, by its suffix. Folders give pictures only: a clip is named, or found by a glob."""
    return path.suffix.lower() in clips.SUFFIXES


def writable_suffix(path: Path) -> str:
    """The suffix of a result: the source's, or ``.png``, of a clip ``.mkv``, where derain cannot write that."""
    if is_clip(path):
        return path.suffix if path.suffix.lower() in clips.WRITABLE else ".mkv"
    try:
        images.format_for(path)
    except OutputError:
        return ".png"
    return path.suffix


def is_file_target(output: Path) -> bool:
    """Whether ``-o`` names a file (a suffix of pictures or clips, and no folder of that name)."""
    return output.suffix.lower() in images.FORMATS.keys() | clips.SUFFIXES and not output.is_dir()


def targets(sources: list[Source], output: Path | None) -> list[Path]:
    """Where each source's result goes; see ``derain run --help``."""
    if output is None:
        return [s.path.with_name(f"{s.path.stem}_derained{writable_suffix(s.path)}") for s in sources]
    if len(sources) == 1 and is_file_target(output):
        return [output]
    return [output / s.relative.with_suffix(writable_suffix(s.path)) for s in sources]


def refuse_dangerous(sources: list[Source], goals: list[Path]) -> list[DerainError | None]:
    """For each pair the reason not to write it: it would replace an input or another result."""
    originals = {s.path.resolve() for s in sources}
    taken: dict[Path, Path] = {}
    reasons: list[DerainError | None] = []
    for source, goal in zip(sources, goals, strict=True):
        place = goal.resolve()
        reason: DerainError | None = None
        if place in originals:
            reason = OutputError(f"{source.path}: would overwrite the input {goal}; choose another output")
        elif place in taken:
            reason = OutputError(
                f"{source.path}: would be written to {goal} like {taken[place]}; derain it into another folder"
            )
        taken.setdefault(place, source.path)
        reasons.append(reason)
    return reasons
