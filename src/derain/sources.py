"""Which files a batch works on, and where each result goes; used by commands and by engines that scale out."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from derain import images
from derain.errors import DerainError, InputError, OutputError
from derain.files import is_temporary
from derain.video import containers

#: How the stems of files that derain writes next to its inputs end.
_OUTPUT_SUFFIXES = ("_derained", "_compare", "_rainmask", "_reference")
#: Suffixes of images that can be read but not written -> the suffix of their results.
_READ_ONLY = {".jfif": ".jpg", ".jpe": ".jpg", ".mpo": ".jpg", ".jp2": ".png", ".gif": ".png"}
#: Suffixes of the files that a folder gives.
READABLE = images.FORMATS.keys() | _READ_ONLY.keys()
#: Formats that are not written; an output of such a name is a mistake, not a folder.
# fmt: off
_OTHER_FORMATS = frozenset({
    ".apng", ".arw", ".cr2", ".cr3", ".dds", ".dib", ".dng", ".eps", ".exr", ".hdr", ".icns", ".ico", ".j2c", ".j2k",
    ".jfi", ".jif", ".jpf", ".jpx", ".jxl", ".jxr", ".nef", ".orf", ".pbm", ".pcx", ".pdf", ".pgm", ".pnm", ".ppm",
    ".psb", ".psd", ".qoi", ".raf", ".raw", ".rw2", ".svg", ".tga", ".xcf",
})
# fmt: on
#: Folders that systems and NAS boxes make for themselves; like hidden ones, they are not searched.
_SYSTEM_FOLDERS = frozenset(
    {"@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX"}
)


@dataclass(frozen=True)
class Source:
    """One input file; ``relative`` is its path below the folder it was found in."""

    path: Path
    relative: Path


def check_input(path: Path) -> None:
    """Refuse an input that is not there.

    Raises:
        InputError: no such file, a link to none, or a folder that may not be searched.
    """
    try:
        path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise InputError(f"{path}: links to {os.readlink(path)}, which does not exist; restore that file") from None
        raise InputError(f"{path}: no such file; check the name") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its name and permissions") from None


def find_sources(
    inputs: list[str], *, recursive: bool, exclude: Path | None = None
) -> tuple[list[Source], list[DerainError]]:
    """Expand files, folders and globs.

    Args:
        inputs: as typed.
        recursive: include subfolders of folders, but no hidden ones and no links.
        exclude: the output folder; files that a folder or glob finds in it are not inputs.

    Returns:
        The files in order without duplicates (links to one file are several), and one error for each input or
        subfolder that could not be expanded.
    """
    sources: dict[str, Source] = {}
    errors: list[DerainError] = []
    for text in inputs:
        try:
            for source in _expand(text, recursive, exclude, errors):
                real = os.path.join(os.path.realpath(source.path.parent), source.path.name)
                sources.setdefault(os.path.normcase(real), source)
        except DerainError as error:
            errors.append(error)
    return list(sources.values()), errors


def _expand(text: str, recursive: bool, exclude: Path | None, errors: list[DerainError]) -> list[Source]:
    path = Path(text)
    is_folder = os.path.isdir(path)
    if not is_folder and (os.path.lexists(path) or not glob.has_magic(text)):
        if is_temporary(path):
            raise InputError(f"{text}: is a temporary file of derain; the next run into its folder removes it")
        return [Source(path, Path(path.name))]  # a missing file is reported when it is read
    root = path if is_folder else _fixed_part(path)
    closed = os.path.realpath(exclude) if exclude is not None else None
    if closed is not None and _is_below(os.path.realpath(root), closed):
        closed = None  # all inputs are in the output folder

    def is_input(source: Source) -> bool:
        folder = os.path.realpath(source.path.parent)
        if closed is not None and _is_below(folder, closed):
            return False
        is_beside = exclude is None or folder == os.path.realpath(exclude / source.relative.parent)
        return not is_temporary(source.path) and not (is_beside and source.path.stem.endswith(_OUTPUT_SUFFIXES))

    listed, unreadable = _walk(root, recursive or not is_folder, closed) if is_folder or "**" in text else ([], [])
    errors += unreadable
    if is_folder:
        found = [p for p in sorted(listed) if p.suffix.lower() in READABLE and not p.name.startswith(".")]
        sources = [Source(p, p.relative_to(path)) for p in found]
    else:
        found = [p for p in map(Path, sorted(glob.glob(text, recursive=True))) if _may_be_file(p)]
        sources = [Source(p, Path(p.name)) for p in found if not _SYSTEM_FOLDERS & {*p.relative_to(root).parts}]
    sources = [source for source in sources if is_input(source)]
    if not sources and not unreadable:
        if not is_folder:
            raise InputError(f"{text}: matches no file; check the pattern")
        hint = "" if recursive else "; add -r to include subfolders"
        raise InputError(f"{text}: a folder without images ({', '.join(sorted(READABLE))}){hint}")
    return sources


def _fixed_part(pattern: Path) -> Path:
    """The folder in which a glob searches."""
    parts = pattern.parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def _is_below(path: str, folder: str) -> bool:
    """Whether a real path is a folder or below it."""
    return path == folder or path.startswith(os.path.join(folder, ""))


def _is_private(folder: str) -> bool:
    """Whether a folder of this name is hidden, or one of the system's."""
    return folder.startswith(".") or folder in _SYSTEM_FOLDERS


def _may_be_file(path: str | Path) -> bool:
    """Whether a path is a file, or a link to nothing or to something unreadable, which reading it reports."""
    return os.path.isfile(path) or not os.path.exists(path)


def _walk(root: Path, recursive: bool, closed: str | None) -> tuple[list[Path], list[InputError]]:
    """The files in a folder, and an error for each folder that cannot be listed.

    Args:
        root: where to begin.
        recursive: also list subfolders, except hidden ones, those of the system and links.
        closed: real path of a folder that is left out, or ``None``.
    """
    files, errors, pending = [], [], [root]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = folder / entry.name
                    if not entry.is_dir(follow_symlinks=False):
                        if entry.is_file(follow_symlinks=False) or (entry.is_symlink() and _may_be_file(path)):
                            files.append(path)
                    elif recursive and not _is_private(entry.name) and os.path.realpath(path) != closed:
                        pending.append(path)
        except OSError as error:
            errors.append(InputError(f"{folder}: cannot be listed ({error.strerror}); check its permissions"))
    return files, errors


def is_clip(path: Path) -> bool:
    """Whether a file is a clip, by its suffix. Folders give images only: a clip is named, or matched by a glob."""
    return path.suffix.lower() in containers.SUFFIXES


def writable_suffix(path: Path) -> str:
    """The suffix of a result: that of the source, or where derain cannot write it ``.png``, ``.jpg`` or ``.mkv``."""
    if is_clip(path):
        return path.suffix if path.suffix.lower() in containers.WRITABLE else ".mkv"
    try:
        images.format_for(path)
    except OutputError:
        return _READ_ONLY.get(path.suffix.lower(), ".png")
    return path.suffix


def is_file_path(output: Path) -> bool:
    """Whether ``-o`` names a file: the suffix of an image or a clip, and not an existing folder."""
    return output.suffix.lower() in READABLE | _OTHER_FORMATS | containers.SUFFIXES and not os.path.isdir(output)


def output_paths(sources: list[Source], output: Path | None) -> list[Path]:
    """Where each source's result goes; see ``derain run --help``."""
    if output is None:
        return [s.path.with_name(f"{s.path.stem}_derained{writable_suffix(s.path)}") for s in sources]
    if len(sources) == 1 and is_file_path(output):
        return [output]
    return [output / s.relative.with_suffix(writable_suffix(s.path)) for s in sources]


def find_conflicts(sources: list[Source], paths: list[Path]) -> list[DerainError | None]:
    """For each pair the reason not to write it: it would replace an input or another result."""
    originals = {os.path.realpath(s.path) for s in sources}
    taken: dict[str, Path] = {}
    conflicts: list[DerainError | None] = []
    for source, path in zip(sources, paths, strict=True):
        resolved = os.path.realpath(path)
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
