"""Video jobs: a clip comes, is worked on behind the pictures, and its result waits a while to be fetched.

One clip is worked on at a time, in a thread of its own; its frames go one by one through the thread that
has the network, so that pictures are served between them.
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

from derain.errors import DerainError
from derain.images import FloatArray
from derain.video.clip import Settings as ClipSettings
from derain.video.clip import derain_clip
from derain.video.reader import UNTRUSTED, declared_size

from .engine import Engine
from .errors import RequestRejected
from .settings import Settings

State = Literal["waiting", "working", "done", "failed"]
_MEDIA_TYPES = {"mp4": "video/mp4", "mov": "video/quicktime", "mkv": "video/x-matroska", "webm": "video/webm"}


class _Stopped(Exception):  # noqa: N818
    """The job is not wanted any more."""


@dataclass
class Job:
    """One clip.

    Attributes:
        id: how its owner names it; cannot be guessed.
        folder: of its files, which no client's name goes into.
        model: the network.
        suffix: of the result.
        wish: what is asked of the clip.
    """

    id: str
    folder: Path
    model: str
    suffix: str
    wish: ClipSettings
    state: State = "waiting"
    frames_done: int = 0
    frames: int | None = None
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    ended: float | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def source(self) -> Path:
        """The uploaded clip."""
        return self.folder / "clip"

    @property
    def result(self) -> Path:
        """The derained clip, once it is done."""
        return self.folder / f"derained.{self.suffix}"

    @property
    def media_type(self) -> str:
        """Of the result."""
        return _MEDIA_TYPES[self.suffix]


class Videos:
    """The jobs of one server process.

    Args:
        settings: the server's.
        engine: has the network.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "derain-video")
        self._folder: Path | None = None
        self._closing = False

    def open(self, model: str, suffix: str, wish: ClipSettings) -> Job:
        """A place for a clip that is going to be uploaded.

        Raises:
            Refusal: 429 too many jobs, finished ones included; 501 no PyAV, or several worker processes.
        """
        if not self.settings.video:
            raise RequestRejected(501, "no video here: the server has several --workers; start it with one")
        try:
            import av  # noqa: F401
        except ImportError:
            raise RequestRejected(501, 'no video here: the server lacks PyAV; pip install "derain[video]"') from None
        self.remove_old()
        with self._lock:
            if self._closing:
                raise RequestRejected(503, "the server is stopping; try again", {"Retry-After": "5"})
            if len(self._jobs) >= self.settings.max_jobs:
                raise RequestRejected(
                    429,
                    "the server holds as many video jobs as it may; delete one of yours or come back later",
                    {"Retry-After": "60"},
                )
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="derain-video-"))
            name = secrets.token_urlsafe(16)
            job = Job(name, self._folder / secrets.token_hex(8), model, suffix, wish)
            job.folder.mkdir()
            self._jobs[name] = job
            return job

    def check(self, job: Job) -> None:
        """Look at an uploaded clip's headers, before any frame is decoded for use.

        Raises:
            Refusal: 413 too many pixels, 415 not a clip.
        """
        try:
            width, height = declared_size(job.source)
        except DerainError as error:
            raise RequestRejected(415, _without_paths(error, job)) from None
        if width * height > self.settings.max_pixels:
            limit = self.settings.max_pixels / 1e6
            raise RequestRejected(
                413, f"the clip is {width}×{height}, more than {limit:.4g} megapixels; reduce it first"
            )

    def start(self, job: Job) -> None:
        """Put a job whose clip has arrived into the queue."""
        self._pool.submit(self._work, job)

    def find(self, name: str) -> Job:
        """A job by its id.

        Raises:
            Refusal: 404.
        """
        self.remove_old()
        job = self._jobs.get(name)
        if job is None:
            raise RequestRejected(404, "no such job; it was deleted, or removed after its time")
        return job

    def about(self, job: Job) -> dict[str, Any]:
        """What a client is told of its job."""
        told: dict[str, Any] = {"id": job.id, "state": job.state, "frames_done": job.frames_done}
        told.update(frames=job.frames, model=job.model, notes=job.notes)
        if job.error is not None:
            told["error"] = job.error
        if job.state == "done":
            told["result"] = f"/v1/jobs/{job.id}/result"
        if job.ended is not None:
            told["removed_in"] = max(0, round(job.ended + self.settings.keep_seconds - time.monotonic()))
        return told

    def delete(self, job: Job) -> None:
        """Forget a job; one in work ends with its frame."""
        job.stopped.set()
        with self._lock:
            self._jobs.pop(job.id, None)
        # One in work removes its folder itself, when nothing writes to it any more.
        if job.state != "working":
            shutil.rmtree(job.folder, ignore_errors=True)

    def remove_old(self) -> None:
        """Forget what has waited too long to be fetched."""
        now = time.monotonic()
        for job in list(self._jobs.values()):
            if job.ended is not None and now > job.ended + self.settings.keep_seconds:
                self.delete(job)

    def close(self) -> None:
        """Stop all jobs and remove all files."""
        self._closing = True
        for job in list(self._jobs.values()):
            job.stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self, job: Job) -> None:
        with self._lock:
            if job.stopped.is_set():
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
                job.wish,
                on_frame=on_frame,
                options=UNTRUSTED,
                max_pixels=self.settings.max_pixels,
            )
            job.notes = result.notes
            job.state = "done"
        except _Stopped:
            job.state = "failed"
        except DerainError as error:
            job.error, job.state = _without_paths(error, job), "failed"
        except BaseException as error:  # also a cancelled frame at the server's stop
            job.error, job.state = f"a fault of the server ({type(error).__name__}); try again", "failed"
        finally:
            job.ended = time.monotonic()
            job.source.unlink(missing_ok=True)
            if job.stopped.is_set():
                shutil.rmtree(job.folder, ignore_errors=True)

    def _network(self, job: Job) -> Callable[[FloatArray], FloatArray]:
        def network(pixels: FloatArray) -> FloatArray:
            if job.stopped.is_set():
                raise _Stopped
            return self.engine.frame(pixels, job.model)

        return network


def _without_paths(error: Exception, job: Job) -> str:
    """A message of a clip's without where it lies here."""
    return str(error).replace(str(job.source), "the clip").replace(str(job.result), "the result")
