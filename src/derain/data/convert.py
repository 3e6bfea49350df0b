"""Conversion of paired datasets to the plain layout: ``input/`` and ``target/`` with equal names."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from derain import images
from derain.data.layouts import Pair, PairedFolder
from derain.errors import InputError, OutputError
from derain.files import remove_stale, temporary_prefix


def write_plain_layout(
    dataset: PairedFolder, output: Path, *, copy: bool, on_step: Callable[[], None] = lambda: None
) -> tuple[int, list[InputError]]:
    """Write a dataset as ``input/`` and ``target/`` with equal names.

    It is built next to its final path and moved there, so that an interrupt leaves no incomplete set.

    Args:
        dataset: the pairs.
        output: a new or empty folder.
        copy: copy files; else they are linked where the file system can.
        on_step: called after each pair.

    Returns:
        How many pairs were written, and why the others were not.

    Raises:
        OutputError: the folder is not empty.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output}: exists and is not empty; give a new folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(output.parent)
    temporary = Path(tempfile.mkdtemp(dir=output.parent, prefix=temporary_prefix()))
    errors: list[InputError] = []
    try:
        for pair in dataset.pairs:
            try:
                _write_pair(pair, temporary, copy)
            except InputError as error:
                errors.append(error)
            on_step()
        temporary.chmod(0o755)
        if output.exists():
            output.rmdir()
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(dataset.pairs) - len(errors), errors


def _write_pair(pair: Pair, root: Path, copy: bool) -> None:
    name = pair.name.replace("/", "_")
    if pair.clean_half is not None:
        for kind, half in zip(("input", "target"), pair.read(), strict=True):
            images.from_pil(Image.fromarray(half)).save(root / kind / f"{name}.png")
        return
    for kind, source in (("input", pair.rainy), ("target", pair.clean)):
        path = root / kind / f"{name}{source.suffix.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copyfile if copy else _link_or_copy)(source, path)


def _link_or_copy(source: str | Path, path: str | Path) -> None:
    try:
        os.link(os.path.realpath(source), path)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, path)
