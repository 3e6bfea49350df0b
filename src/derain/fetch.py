"""Files from the internet, downloaded once, verified by sha256, stored under ``DERAIN_HOME``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from derain.errors import ModelError
from derain.files import sha256_of


def home() -> Path:
    """The folder of downloaded and imported checkpoints: ``DERAIN_HOME`` or the platform's data folder."""
    configured = os.environ.get("DERAIN_HOME")
    if configured:
        return Path(configured).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("derain", appauthor=False))


def fetch(what: str, url: str, sha256: str, path: Path) -> Path:
    """The file at ``path``, downloaded if it does not exist or has another checksum.

    Args:
        what: its name in error messages.
        url: source of the download.
        sha256: expected checksum.
        path: where it is stored.

    Returns:
        ``path``.

    Raises:
        ModelError: the download failed, or has another checksum.
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
            progressbar=_ProgressBar() if sys.stderr.isatty() else False,
        )
    except ValueError:
        raise ModelError(
            f"{what}: the download from {url} is not the expected file (sha256 differs); try again later"
        ) from None
    except Exception as error:
        raise ModelError(
            f"{what}: cannot fetch {url} ({type(error).__name__}); check the connection, or put the file at {path}"
        ) from None
    return path


class _ProgressBar:
    """Rich's progress bar with the interface that pooch expects."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("fetching", total=None)
        self._received = 0
        self._bar.start()

    @property
    def total(self) -> int:
        """Total number of bytes."""
        return int(self._bar.tasks[0].total or 0)

    @total.setter
    def total(self, value: int) -> None:
        self._bar.update(self._task, total=value)

    def update(self, amount: int) -> None:
        """Add received bytes."""
        self._received += amount
        self._bar.update(self._task, completed=self._received)

    def reset(self) -> None:
        """Start over; pooch does so before it completes the bar."""
        self._received = 0
        self._bar.update(self._task, completed=0)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()
