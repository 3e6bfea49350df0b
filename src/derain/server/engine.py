"""One network and the threads that use it, with a bounded queue before them.

On a CPU the network uses all cores by itself, so pictures are done one after the other; two at once are
slower, see docs/server.md. On a GPU several threads decode and encode, and pictures of equal size are
computed as one batch.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain.images import FloatArray
from derain.runtime.batching import BatchingRuntime
from derain.weights import store

from .errors import ClientDisconnected, RequestRejected
from .metrics import Metrics
from .pictures import RequestOptions, Result, derain_bytes
from .settings import Settings

if TYPE_CHECKING:
    from derain.derainer import Derainer

_ON_A_GPU = 8  # pictures in work at once


class _Stopped(Exception):  # noqa: N818
    """The picture at hand is not wanted any more."""


@dataclass
class _Job:
    data: bytes
    wish: RequestOptions
    name: str
    begun: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        self.stopped.set()
        self.data = b""  # a job that was left stays in the executor's queue for a while


class Engine:
    """Derains pictures for many clients.

    Args:
        settings: the server's.
        monitor: where counts and times go.

    Raises:
        ModelError: the default model is not there.
        DeviceError: the device is unknown or not available.
    """

    def __init__(self, settings: Settings, monitor: Metrics) -> None:
        from derain.runtime.torch import pick_device  # torch is slow to import

        self.settings = settings
        self.monitor = monitor
        self.models = served_models(settings.model)
        self.default = next(iter(self.models))
        self.batch = settings.batch or (1 if pick_device(settings.device) == "cpu" else _ON_A_GPU)
        self._pool = ThreadPoolExecutor(self.batch, "derain")
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._waiting = 0
        self._working = 0
        self._loaded: tuple[Path, Derainer] | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """Pictures in the queue."""
        return self._waiting

    @property
    def working(self) -> int:
        """Pictures in work."""
        return self._working

    def warm_up(self) -> None:
        """Load the default model, so that the first client need not wait and a bad file is told at the start."""
        self._pool.submit(self._derainer, self.default).result()

    def refuse_if_full(self) -> None:
        """Raise 429 if the queue is full."""
        if self._waiting >= self.settings.queue:
            seconds = min(60, max(1, math.ceil(self._waiting * self.monitor.mean_seconds)))
            raise RequestRejected(429, f"the server is busy; try again in {seconds} s", {"Retry-After": str(seconds)})

    async def run(
        self,
        data: bytes,
        wish: RequestOptions,
        *,
        name: str = "the file",
        left: asyncio.Task[None] | None = None,
        patient: bool = False,
    ) -> Result:
        """Derain one picture.

        Args:
            data: the file.
            wish: what to do with it.
            name: what messages call it.
            left: a task that ends when the client leaves.
            patient: wait for a place even if the queue is full.

        Raises:
            Refusal: 422 damaged, 429 queue full, 503 waited too long, 504 worked too long.
            ClientDisconnected: ``left`` ended first.
        """
        if self._closing:
            raise RequestRejected(503, "the server is stopping; try again", {"Retry-After": "5"})
        if not patient:
            self.refuse_if_full()
        job = _Job(data, wish, name)
        with self._lock:
            self._waiting += 1
        inner = self._pool.submit(self._work, job)
        inner.add_done_callback(self._forget_cancelled)
        future = asyncio.wrap_future(inner)
        watched: set[asyncio.Future[Any]] = {future} if left is None else {future, left}
        try:
            done, _ = await asyncio.wait(watched, timeout=self.settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if future in done:
                return future.result()
            begun = job.begun
        finally:
            if not future.done():
                job.stop()
                future.cancel()
        if left is not None and left.done():
            self.monitor.cancelled += 1
            raise ClientDisconnected
        if begun:
            raise RequestRejected(504, f"{name} took longer than {self.settings.timeout:g} s; send a smaller picture")
        raise RequestRejected(503, "the server is too busy; try again later", {"Retry-After": "10"})

    def frame(self, pixels: FloatArray, model: str) -> FloatArray:
        """Derain one frame of a clip, between the pictures; waits for its turn. Not for the event loop.

        Args:
            pixels: ``(H, W, 3)`` RGB in [0, 1].
            model: a name of :attr:`models`.
        """
        return self._pool.submit(lambda: self._derainer(model)(pixels)).result()

    def close(self) -> None:
        """Stop: what waits is cancelled, the picture at hand ends with its tile."""
        self._closing = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _forget_cancelled(self, future: Future[Result]) -> None:
        if future.cancelled():
            with self._lock:
                self._waiting -= 1

    def _work(self, job: _Job) -> Result:
        with self._lock:
            self._waiting -= 1
            self._working += 1
        job.begun = True
        start = time.perf_counter()

        def on_tile(_done: int, _total: int) -> None:
            if job.stopped.is_set():
                raise _Stopped

        try:
            on_tile(0, 1)
            derainer = self._derainer(job.wish.model)
            result = derain_bytes(
                job.data,
                derainer,
                job.wish,
                max_pixels=self.settings.max_pixels,
                name=job.name,
                on_tile=on_tile,
            )
            self.monitor.finish(time.perf_counter() - start, result.size)
            return result
        finally:
            with self._lock:
                self._working -= 1

    def _derainer(self, name: str) -> Derainer:
        """The network of a name; only the last one used is kept."""
        path = self.models[name]
        with self._loading:
            if self._loaded is None or self._loaded[0] != path:
                self._loaded = None  # let go of the old one first
                self._loaded = (path, self._load(path))
            return self._loaded[1]

    def _load(self, path: Path) -> Derainer:
        import torch

        from derain.derainer import Derainer

        settings = self.settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
        derainer = Derainer(
            path,
            device=settings.device,
            precision=settings.precision,
            tile=settings.tile,  # type: ignore[arg-type]
        )
        if self.batch > 1:
            derainer.runtime = BatchingRuntime(derainer.runtime, self.batch)
        return derainer


def served_models(default: str) -> dict[str, Path]:
    """The models that clients may name and their files, the default first.

    Only what lies on this machine already: a client must not make the server fetch files, nor name a path.

    Raises:
        ModelError: the default is not known.
    """
    known = store.manifest()
    first = Path(default).stem if store.is_file_name(default) else default
    found = {first: store.find_file(default)}
    for name in store.list_models():
        if name in found:
            continue
        own = store.imported_files().get(name)
        path = own or store.local_file(known.find(name))
        if path is not None:
            found[name] = path
    return found
