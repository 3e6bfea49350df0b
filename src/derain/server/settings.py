"""The settings of one server, and how worker processes receive them."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

_PREFIX = "DERAIN_SERVE_"


class Settings(BaseModel):
    """Limits and choices of one server.

    Attributes:
        model: network for requests that name none; a name of ``derain models``, or a file.
        device: as in ``derain run``.
        precision: as in ``derain run``.
        tile: as in ``derain run``.
        max_pixels: larger images are rejected by their header, before they are decoded.
        max_bytes: larger files are rejected while they arrive; a ZIP may have eight times as many.
        max_entries: maximum number of files in one ZIP.
        batch: images processed at once, those of equal size as one batch; 0 means 1 on a CPU and 8 on a GPU.
        queue: images that may wait; further requests get 429.
        timeout: seconds that an image may take, waiting and processing together.
        upload_seconds: seconds that a client may take to send an image.
        token: what clients must send as ``Authorization: Bearer``; ``None`` for open access.
        video: whether clips are accepted; not with several worker processes, which do not share their jobs.
        max_jobs: maximum number of video jobs at one time, finished ones included.
        max_frames: maximum number of frames of a clip.
        keep_seconds: how long the result of a video job is kept.
        threads: threads of the network; 0 leaves the choice to torch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    token: str | None = Field(default=None, min_length=1, repr=False)
    video: bool = True
    max_jobs: int = 8
    max_frames: int = 20_000
    keep_seconds: float = 3600.0
    threads: int = 0

    @property
    def max_batch_bytes(self) -> int:
        """Maximum size of a clip or a ZIP in bytes; a ZIP may unpack to eight times as many."""
        return 8 * self.max_bytes

    @property
    def batch_upload_seconds(self) -> float:
        """Seconds that a client may take to send a clip or a ZIP."""
        return 4 * self.upload_seconds

    @property
    def upload_memory(self) -> int:
        """Maximum number of bytes of images that may be arriving and waiting at one time."""
        return max(256 * 2**20, 2 * self.max_bytes)

    def to_environment(self) -> None:
        """Hand the settings to worker processes. Not on a command line, which other users can read: the token."""
        os.environ[f"{_PREFIX}SETTINGS"] = self.model_dump_json()

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings that :meth:`to_environment` stored, or the defaults."""
        return _Environment().settings


class _Environment(BaseSettings):
    """The environment variable ``DERAIN_SERVE_SETTINGS``: all settings as JSON."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    settings: Settings = Settings()
