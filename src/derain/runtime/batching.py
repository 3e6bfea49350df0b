"""Dynamic batching: images of equal size from several threads, computed at once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import numpy as np

from derain.arrays import FloatArray
from derain.models import ModelInfo

from .base import Runtime

_Call = tuple[FloatArray, "Future[FloatArray]"]


class BatchingRuntime:
    """Collects calls that arrive while the device is busy, and runs those of one shape as one batch.

    A call that finds the device free starts immediately. The first call of a group runs the group. If a batch
    fails, for lack of memory for example, its calls run one by one.

    Args:
        inner: executes the network; it must accept any batch size.
        max_batch: most images in a batch, at least 1; a call that brings more still runs, alone.
    """

    def __init__(self, inner: Runtime, max_batch: int) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, not {max_batch}")
        self.inner, self.max_batch = inner, max_batch
        self._device_lock = threading.Lock()
        self._lock = threading.Lock()
        self._open: dict[tuple[int, ...], list[_Call]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its arguments: locks and calls that wait belong to this process."""
        return type(self), (self.inner, self.max_batch)

    @property
    def name(self) -> str:
        """That of the inner runtime."""
        return self.inner.name

    @property
    def info(self) -> ModelInfo:
        """That of the inner runtime."""
        return self.inner.info

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.inner.device

    @property
    def precision(self) -> str:
        """How it computes."""
        return self.inner.precision

    def __call__(self, batch: FloatArray) -> FloatArray:
        """See :class:`derain.runtime.base.Runtime`."""
        call: _Call = (batch, Future())
        shape = batch.shape[1:]
        with self._lock:
            group = self._open.get(shape)
            if group is not None and sum(len(queued) for queued, _ in group) + len(batch) > self.max_batch:
                group = None  # full: start a new group
            leads = group is None
            if group is None:
                group = self._open[shape] = []
            group.append(call)
        if leads:
            try:
                with self._device_lock:
                    self._close(shape, group)
                    self._run(group)
            finally:  # a leader that is interrupted must not leave the others waiting
                self._close(shape, group)
                for _, future in group:
                    if not future.done():
                        future.set_exception(RuntimeError("the thread that ran this batch was stopped"))
        return call[1].result()

    def _close(self, shape: tuple[int, ...], group: list[_Call]) -> None:
        """Accept no further calls into a group."""
        with self._lock:
            if self._open.get(shape) is group:
                del self._open[shape]

    def _run(self, group: list[_Call]) -> None:
        if len(group) > 1:
            try:
                outputs = self.inner(np.concatenate([batch for batch, _ in group]))
            except Exception:
                pass  # one by one: each call gets its own result or error
            else:
                start = 0
                for batch, future in group:
                    future.set_result(outputs[start : start + len(batch)])
                    start += len(batch)
                return
        for batch, future in group:
            try:
                future.set_result(self.inner(batch))
            except Exception as error:
                future.set_exception(error)
