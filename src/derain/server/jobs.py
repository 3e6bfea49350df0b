"""Video jobs: a clip is uploaded, processed in the background, and its result is kept for some time.

One clip is processed at a time, in its own thread. Its frames go one by one through the threads of the engine, so
that images are served between them.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from derain.arrays import FloatArray
from derain.errors import DerainError
from derain.video.clip import Settings as ClipSettings
from derain.video.clip import derain_clip
from derain.video.containers import UNTRUSTED, ReadOptions, declared_size

from .engine import Engine
from .errors import RequestRejected
from .settings import Settings

State = Literal["waiting", "working", "done", "failed"]
_MEDIA_TYPES = {"mp4": "video/mp4", "mov": "video/quicktime", "mkv": "video/x-matroska", "webm": "video/webm"}


class _Cancelled(Exception):  # noqa: N818
    """The job was deleted."""


@dataclass
class Job:
    """One clip.

    Attributes:
        id: cannot be guessed.
        folder: of its files; no name given by a client is used in it.
        model: the network.
        suffix: of the result.
        options: how the clip is derained.
        state: progress; a deleted job ends as ``failed``.
        frames_done: number of finished frames.
        frames: their total number, once known.
        error: why the job failed, one line.
        notes: what differs from the source besides the pixels, a sentence each.
        ended: when it was done or failed, by ``time.monotonic()``.
        cancelled: set when the job is deleted.
    """

    id: str
    folder: Path
    model: str
    suffix: str
    options: ClipSettings
    state: State = "waiting"
    frames_done: int = 0
    frames: int | None = None
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    ended: float | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def source(self) -> Path:
        """The uploaded clip."""
        return self.folder / "clip"

    @property
    def result(self) -> Path:
        """The derained clip, once the job is done."""
        return self.folder / f"derained.{self.suffix}"

    @property
    def media_type(self) -> str:
        """Content type of the result."""
        return _MEDIA_TYPES[self.suffix]


class VideoJobs:
    """The jobs of one server process.

    Args:
        settings: of the server.
        engine: has the networks.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "derain-video")
        self._folder: Path | None = None
        self._closing = False

    def create(self, model: str, suffix: str, options: ClipSettings) -> Job:
        """Make a job and its folder, before the clip is uploaded.

        Args:
            model: name of a served model.
            suffix: of the result.
            options: how the clip is derained.

        Raises:
            RequestRejected: 429 too many jobs, finished ones included; 501 no PyAV, or several worker processes;
                503 the server is stopping.
        """
        if not self.settings.video:
            raise RequestRejected(501, "no video on this server: it has several --workers; start it with one")
        try:
            import av  # noqa: F401
        except ImportError:
            raise RequestRejected(501, 'no video on this server: it lacks PyAV; pip install "derain[video]"') from None
        self.remove_expired()
        with self._lock:
            if self._closing:
                raise RequestRejected(503, "the server is stopping; try again", {"Retry-After": "5"})
            if len(self._jobs) >= self.settings.max_jobs:
                raise RequestRejected(
                    429,
                    "the server has reached its maximum of video jobs; delete one of yours or try again later",
                    {"Retry-After": "60"},
                )
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="derain-video-"))
            job_id = secrets.token_urlsafe(16)
            job = Job(job_id, self._folder / secrets.token_hex(8), model, suffix, options)
            job.folder.mkdir()
            self._jobs[job_id] = job
            return job

    def check(self, job: Job) -> None:
        """Check an uploaded clip by its headers, before any frame is decoded.

        Raises:
            RequestRejected: 413 too many pixels, 415 not a clip.
        """
        try:
            width, height = declared_size(job.source)
        except DerainError as error:
            raise RequestRejected(415, _hide_paths(error, job)) from None
        if width * height > self.settings.max_pixels:
            limit = self.settings.max_pixels / 1e6
            raise RequestRejected(
                413, f"the clip is {width}×{height}, more than {limit:.4g} megapixels; reduce it first"
            )

    def start(self, job: Job) -> None:
        """Queue a job whose clip has been uploaded."""
        self._pool.submit(self._work, job)

    def find(self, job_id: str) -> Job:
        """Get a job by its id.

        Raises:
            RequestRejected: 404.
        """
        self.remove_expired()
        job = self._jobs.get(job_id)
        if job is None:
            raise RequestRejected(404, "no such job; it was deleted, or its time has expired")
        return job

    def describe(self, job: Job) -> dict[str, Any]:
        """The state of a job as its client sees it."""
        description: dict[str, Any] = {
            "id": job.id,
            "state": job.state,
            "frames_done": job.frames_done,
            "frames": job.frames,
            "model": job.model,
            "notes": job.notes,
        }
        if job.error is not None:
            description["error"] = job.error
        if job.state == "done":
            description["result"] = f"/v1/jobs/{job.id}/result"
        if job.ended is not None:
            description["removed_in"] = max(0, round(job.ended + self.settings.keep_seconds - time.monotonic()))
        return description

    def delete(self, job: Job) -> None:
        """Remove a job; one in work stops after its current frame."""
        job.cancelled.set()
        with self._lock:
            self._jobs.pop(job.id, None)
        # A job in work removes its folder itself, when nothing writes to it any more.
        if job.state != "working":
            shutil.rmtree(job.folder, ignore_errors=True)

    def remove_expired(self) -> None:
        """Remove jobs whose results have been kept long enough."""
        now = time.monotonic()
        for job in list(self._jobs.values()):
            if job.ended is not None and now > job.ended + self.settings.keep_seconds:
                self.delete(job)

    def close(self) -> None:
        """Stop all jobs and remove all files."""
        self._closing = True
        for job in list(self._jobs.values()):
            job.cancelled.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self, job: Job) -> None:
        with self._lock:
            if job.cancelled.is_set():
                return
            job.state = "working"

        def on_frame(done: int, total: int) -> None:
            job.frames_done, job.frames = done, total
            if total > self.settings.max_frames:
                raise DerainError(f"the clip has {total} frames, more than {self.settings.max_frames}; cut it first")

        try:
            result = derain_clip(
                job.source,
                job.result,
                self._network(job),
                job.options,
                on_frame=on_frame,
                reading=ReadOptions(UNTRUSTED, self.settings.max_pixels),
            )
            job.notes = result.notes
            job.state = "done"
        except _Cancelled:
            job.state = "failed"
        except DerainError as error:
            job.error, job.state = _hide_paths(error, job), "failed"
        except BaseException as error:  # also a frame cancelled when the server stops
            job.error, job.state = f"internal error ({type(error).__name__}); try again", "failed"
        finally:
            job.ended = time.monotonic()
            job.source.unlink(missing_ok=True)
            if job.cancelled.is_set():
                shutil.rmtree(job.folder, ignore_errors=True)

    def _network(self, job: Job) -> Callable[[FloatArray], FloatArray]:
        def network(pixels: FloatArray) -> FloatArray:
            if job.cancelled.is_set():
                raise _Cancelled
            return self.engine.derain_frame(pixels, job.model)

        return network


def _hide_paths(error: Exception, job: Job) -> str:
    """The message of an error without paths of this machine."""
    return str(error).replace(str(job.source), "the clip").replace(str(job.result), "the result")
