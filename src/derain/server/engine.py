"""One network and the threads that run it, behind a bounded queue.

On a CPU the network uses all cores, so images are processed one after the other; two at once are slower, see
docs/guide/server.md. On a GPU several threads decode and encode, and images of equal size are computed as one batch.
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

from derain.arrays import FloatArray
from derain.runtime.batching import BatchingRuntime
from derain.runtime.load import load_runtime
from derain.weights.manifest import imported_files, list_models, manifest
from derain.weights.store import find_file, is_file_name, local_file

from .errors import ClientDisconnected, RequestRejected
from .metrics import Metrics
from .pictures import RequestOptions, Result, derain_bytes
from .settings import Settings

if TYPE_CHECKING:
    from derain.derainer import Derainer

_GPU_BATCH = 8  # images processed at once


class _Cancelled(Exception):  # noqa: N818
    """Nobody waits for the image any more."""


@dataclass
class _Task:
    """One image in the queue or in work."""

    data: bytes
    options: RequestOptions
    name: str
    started: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        self.cancelled.set()
        self.data = b""  # a cancelled task stays in the executor's queue for a while


class Engine:
    """Derains images for many clients.

    Args:
        settings: of the server.
        metrics: where images and timings are counted.

    Raises:
        ModelError: the default model is unknown or its file is missing.
        DeviceError: the device is unknown or not available.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        from derain.runtime.torch import pick_device  # torch is slow to import

        self.settings = settings
        self.metrics = metrics
        self.models = served_models(settings.model)
        self.default = next(iter(self.models))
        self.batch = settings.batch or (1 if pick_device(settings.device) == "cpu" else _GPU_BATCH)
        self._pool = ThreadPoolExecutor(self.batch, "derain")
        self._lock = threading.Lock()
        self._load_lock = threading.Lock()
        self._waiting = 0
        self._working = 0
        self._loaded: tuple[Path, Derainer] | None = None
        self._closing = False
        metrics.queue_length.set_function(lambda: self._waiting)
        metrics.in_work.set_function(lambda: self._working)

    @property
    def waiting(self) -> int:
        """Number of images in the queue."""
        return self._waiting

    @property
    def working(self) -> int:
        """Number of images in work."""
        return self._working

    def warm_up(self) -> None:
        """Load the default model, so that the first client does not wait and a bad file is reported at the start."""
        self._pool.submit(self._derainer, self.default).result()

    def reject_if_full(self) -> None:
        """Raise 429 if the queue is full."""
        if self._waiting >= self.settings.queue:
            seconds = min(60, max(1, math.ceil(self._waiting * self.metrics.mean_seconds)))
            raise RequestRejected(429, f"the server is busy; try again in {seconds} s", {"Retry-After": str(seconds)})

    async def run(
        self,
        data: bytes,
        options: RequestOptions,
        *,
        name: str = "the file",
        disconnected: asyncio.Task[None] | None = None,
        wait_for_slot: bool = False,
    ) -> Result:
        """Derain one image.

        Args:
            data: the file.
            options: parameters of the request.
            name: what messages call the file.
            disconnected: a task that ends when the client disconnects.
            wait_for_slot: wait even if the queue is full.

        Raises:
            RequestRejected: 422 damaged, 429 queue full, 500 the network failed, 503 waited too long, 504 processed
                too long.
            ClientDisconnected: ``disconnected`` ended first.
        """
        if self._closing:
            raise RequestRejected(503, "the server is stopping; try again", {"Retry-After": "5"})
        if not wait_for_slot:
            self.reject_if_full()
        task = _Task(data, options, name)
        with self._lock:
            self._waiting += 1
        pool_future = self._pool.submit(self._work, task)
        pool_future.add_done_callback(self._forget_if_cancelled)
        future = asyncio.wrap_future(pool_future)
        watched: set[asyncio.Future[Any]] = {future} if disconnected is None else {future, disconnected}
        try:
            done, _ = await asyncio.wait(watched, timeout=self.settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if future in done:
                return future.result()
            started = task.started
        finally:
            if not future.done():
                task.cancel()
                future.cancel()
        if disconnected is not None and disconnected.done():
            self.metrics.cancelled.inc()
            raise ClientDisconnected
        if started:
            raise RequestRejected(504, f"{name} took longer than {self.settings.timeout:g} s; send a smaller image")
        raise RequestRejected(503, "the server is too busy; try again later", {"Retry-After": "10"})

    def derain_frame(self, pixels: FloatArray, model: str) -> FloatArray:
        """Derain one frame of a clip, in turn with the images. Blocks: not for the event loop.

        Args:
            pixels: ``(H, W, 3)`` RGB in [0, 1].
            model: a name of :attr:`models`.
        """
        return self._pool.submit(lambda: self._derainer(model)(pixels)).result()

    def close(self) -> None:
        """Stop: the queue is cancelled, images in work are finished."""
        self._closing = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _forget_if_cancelled(self, future: Future[Result]) -> None:
        if future.cancelled():
            with self._lock:
                self._waiting -= 1

    def _work(self, task: _Task) -> Result:
        with self._lock:
            self._waiting -= 1
            self._working += 1
        task.started = True
        start = time.perf_counter()

        def on_tile(_done: int, _total: int) -> None:
            if task.cancelled.is_set():
                raise _Cancelled

        try:
            on_tile(0, 1)
            result = derain_bytes(
                task.data,
                self._derainer(task.options.model),
                task.options,
                max_pixels=self.settings.max_pixels,
                name=task.name,
                on_tile=on_tile,
            )
            self.metrics.finish(time.perf_counter() - start, result.size)
            return result
        finally:
            with self._lock:
                self._working -= 1

    def _derainer(self, name: str) -> Derainer:
        """The network of that name; only the last one used stays loaded."""
        path = self.models[name]
        with self._load_lock:
            if self._loaded is None or self._loaded[0] != path:
                self._loaded = None  # release the previous one first
                self._loaded = (path, self._load(name))
            return self._loaded[1]

    def _load(self, name: str) -> Derainer:
        import torch

        from derain.derainer import Derainer

        settings = self.settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
        _, runtime = load_runtime(self.models[name], device=settings.device, precision=settings.precision)
        if self.batch > 1:
            runtime = BatchingRuntime(runtime, self.batch)
        # By name: messages that reach clients must not give paths of this machine.
        return Derainer(name, tile=settings.tile, runtime=runtime)  # type: ignore[arg-type]


def served_models(default: str) -> dict[str, Path]:
    """The models that clients may name, with their files; the default first.

    Only models that are on this machine already: clients must not trigger downloads or name paths.

    Args:
        default: a name of ``derain models``, or a file.

    Raises:
        ModelError: the default is unknown.
    """
    default_name = Path(default).stem if is_file_name(default) else default
    models = {default_name: find_file(default)}
    for name in list_models():
        if name in models:
            continue
        path = imported_files().get(name) or local_file(manifest().find(name))
        if path is not None:
            models[name] = path
    return models
