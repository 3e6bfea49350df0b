"""Files from the net, fetched once, checked by sha256, kept under ``DERAIN_HOME``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from derain.errors import ModelError
from derain.files import sha256_of


def home() -> Path:
    """Where fetched and imported weights are kept: ``DERAIN_HOME`` or the platform's data folder."""
    chosen = os.environ.get("DERAIN_HOME")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("derain", appauthor=False))


def fetch(what: str, url: str, sha256: str, path: Path) -> Path:
    """The file at ``path``, fetched now if it is not there or not what it should be.

    Args:
        what: what error messages call it.
        url: where it comes from.
        sha256: what it must be.
        path: where it is kept.

    Raises:
        ModelError: it cannot be fetched, or what came is something else.
    """
    if path.exists() and sha256_of(path) == sha256:
        return path
    import pooch

    pooch.get_logger().setLevel("ERROR")
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}",
            fname=path.name,
            path=path.parent,
            progressbar=False if not sys.stderr.isatty() else _progress_bar(),
        )
    except ValueError:
        raise ModelError(
            f"{what}: what came from {url} is not the expected file (sha256 differs); try again later"
        ) from None
    except Exception as error:
        raise ModelError(
            f"{what}: cannot fetch {url} ({type(error).__name__}); check the connection, or put the file at {path}"
        ) from None
    return path


class _progress_bar:  # noqa: N801  (pooch wants an object with these names)
    """Rich's bar behind the interface that pooch drives."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("fetching", total=None)
        self._done = 0
        self._bar.start()

    @property
    def total(self) -> int:
        """Bytes in all."""
        return int(self._bar.tasks[0].total or 0)

    @total.setter
    def total(self, value: int) -> None:
        self._bar.update(self._task, total=value)

    def update(self, amount: int) -> None:
        """Some bytes have come."""
        self._done += amount
        self._bar.update(self._task, completed=self._done)

    def reset(self) -> None:
        """Start over; pooch does so before it fills the bar."""
        self._done = 0
        self._bar.update(self._task, completed=0)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()
