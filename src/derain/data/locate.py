"""Find data sets on disk, by path or by name."""

from __future__ import annotations

import os
from pathlib import Path

from derain.data.catalog import find_info, plain_name
from derain.data.layouts import Layout, PairedFolder, find_pairs
from derain.errors import InputError
from derain.fetch import home


def data_folders() -> list[Path]:
    """Folders that are searched for sets by name: those of ``DERAIN_DATA``, then ``data`` in derain's home."""
    chosen = os.environ.get("DERAIN_DATA", "")
    return [Path(part).expanduser() for part in chosen.split(os.pathsep) if part] + [home() / "data"]


def locate(path: Path) -> Path:
    """A path as it is, or the folder of the set it names.

    Args:
        path: an existing file or folder; or the name of a set in any spelling, whose folder is then
            searched for in :func:`data_folders`.

    Raises:
        InputError: neither.
    """
    if path.exists():
        return path
    searched = data_folders()
    key = plain_name(str(path))
    for folder in searched:
        for below in sorted(folder.iterdir()) if folder.is_dir() else ():
            if below.is_dir() and plain_name(below.name) == key:
                return below
    if (info := find_info(str(path))) is None:
        raise InputError(f"{path}: no such folder, and no set of that name; `derain data list` shows the names")
    where = " or ".join(str(folder) for folder in searched)
    raise InputError(
        f"{path}: neither here nor in {where}; derain downloads no data: get it ({info.home}), "
        "then give its folder or set DERAIN_DATA to its parent folder"
    )


def open_set(path: Path, layout: Layout = "auto", clean: Path | None = None) -> PairedFolder:
    """The pairs of a folder, a list file, or a set of the catalog by name.

    Args:
        path: as for :func:`locate`.
        layout: as for :func:`derain.data.find_pairs`. With ``auto``, a set by name falls back on the
            layout of the catalog, and on its folder's ``test`` part.
        clean: a second folder, with the clean images.

    Raises:
        InputError: nothing there, or no pairs in it.
    """
    folder = locate(path)
    info = find_info(str(path)) if folder != path else None
    if info is None or layout != "auto" or clean is not None:
        return find_pairs(folder, layout, clean)
    first_error: InputError | None = None
    for part in (folder, folder / "test"):
        for kind in dict.fromkeys((layout, info.option)):
            if part.is_dir():
                try:
                    return find_pairs(part, kind)
                except InputError as error:
                    first_error = first_error or error
    raise first_error or InputError(f"{folder}: no such folder")
