"""What a server is started with."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

_VARIABLE = "DERAIN_SERVE_SETTINGS"


@dataclass(frozen=True)
class Settings:
    """Limits and choices of one server.

    Attributes:
        model: network for requests that name none; a name of ``derain models``, or a file.
        device: as in ``derain run``.
        precision: as in ``derain run``.
        tile: as in ``derain run``.
        max_pixels: larger pictures are refused by their header, before they are decoded.
        max_bytes: larger files are refused while they arrive; a ZIP may hold eight times as much.
        max_entries: most files in one ZIP.
        batch: pictures in work at once, those of equal size as one batch; 0 means 1 on a CPU and 8 on a GPU.
        queue: pictures that may wait; further requests get 429.
        timeout: seconds that a picture may wait and work, together.
        upload_seconds: seconds that a client may take to send its files.
        token: what clients must send as ``Authorization: Bearer``; ``None`` asks for nothing.
        video: whether clips are taken; not with several worker processes, which do not share their jobs.
        max_jobs: most video jobs at one time, finished ones included.
        max_frames: most frames of a clip.
        keep_seconds: how long the result of a video job waits to be fetched.
        threads: threads of the network; 0 leaves the choice to torch.
    """

    model: str = "default"
    device: str = "auto"
    precision: str = "auto"
    tile: int | str = "auto"
    max_pixels: int = 25_000_000
    max_bytes: int = 32 * 2**20
    max_entries: int = 200
    batch: int = 0
    queue: int = 16
    timeout: float = 120.0
    upload_seconds: float = 60.0
    token: str | None = None
    video: bool = True
    max_jobs: int = 8
    max_frames: int = 20_000
    keep_seconds: float = 3600.0
    threads: int = 0

    @property
    def max_batch_bytes(self) -> int:
        """Most bytes of a clip or a ZIP, and eighth part of what a ZIP may unpack to."""
        return 8 * self.max_bytes

    @property
    def memory(self) -> int:
        """Most bytes of pictures that may be arriving and waiting at one time."""
        return max(256 * 2**20, 2 * self.max_bytes)

    def to_environment(self) -> None:
        """Leave the settings where worker processes find them; never on a command line, for the token's sake."""
        os.environ[_VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings that :meth:`to_environment` left, else the defaults."""
        values: dict[str, Any] = json.loads(os.environ.get(_VARIABLE, "{}"))
        return cls(**values)
