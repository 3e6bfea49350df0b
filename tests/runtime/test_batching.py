"""Calls of several threads as one batch."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from derain.runtime.base import UNLISTED
from derain.runtime.batching import BatchingRuntime


class Doubler:
    """Doubles; notes its batches; holds the first one until released."""

    name, device, precision, info = "doubler", "cpu", "fp32", UNLISTED

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.go = threading.Event()
        self.at_most: int | None = None

    def __call__(self, batch):
        self.batches.append(batch.shape)
        self.go.wait(20)
        if self.at_most is not None and len(batch) > self.at_most:
            raise RuntimeError("out of memory")
        if np.isnan(batch).any():
            raise ValueError("not an image")
        return batch * 2


def ask_while_busy(inner, max_batch, batches):
    """The results (or errors) of calls of which the first finds the device free and the others find it busy."""
    runtime = BatchingRuntime(inner, max_batch)
    with ThreadPoolExecutor(len(batches)) as pool:
        asked = [pool.submit(runtime, batches[0])]
        until(lambda: inner.batches)
        for count, batch in enumerate(batches[1:], 1):
            asked.append(pool.submit(runtime, batch))
            waiting = (count - 1) % max_batch + 1  # in groups that are not full
            until(lambda waiting=waiting: sum(map(len, runtime._open.values())) == waiting)
        inner.go.set()
        return [future.exception() or future.result() for future in asked]


def until(condition) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)


def pictures(count, side=4):
    return [np.full((1, 3, side, side), i / 16, np.float32) for i in range(count)]


def test_calls_that_come_while_the_device_is_busy_run_as_one_batch():
    inner = Doubler()
    given = pictures(4)
    found = ask_while_busy(inner, 8, given)
    assert inner.batches == [(1, 3, 4, 4), (3, 3, 4, 4)]
    for before, after in zip(given, found, strict=True):
        np.testing.assert_array_equal(after, 2 * before)


def test_other_shapes_run_apart():
    inner = Doubler()
    given = [*pictures(3), *pictures(2, side=8)]
    found = ask_while_busy(inner, 8, given)
    assert sorted(inner.batches) == [(1, 3, 4, 4), (2, 3, 4, 4), (2, 3, 8, 8)]
    for before, after in zip(given, found, strict=True):
        np.testing.assert_array_equal(after, 2 * before)


def test_a_batch_that_fails_is_tried_one_by_one():
    inner = Doubler()
    inner.at_most = 1
    given = pictures(4)
    given[2][:] = np.nan
    found = ask_while_busy(inner, 8, given)
    assert isinstance(found[2], ValueError)
    for place in (0, 1, 3):
        np.testing.assert_array_equal(found[place], 2 * given[place])


def test_no_batch_is_larger_than_told():
    inner = Doubler()
    given = pictures(8)
    found = ask_while_busy(inner, 3, given)
    assert sorted(shape[0] for shape in inner.batches) == [1, 1, 3, 3]
    for before, after in zip(given, found, strict=True):
        np.testing.assert_array_equal(after, 2 * before)
    runtime = BatchingRuntime(inner, 3)
    large = np.ones((5, 3, 4, 4), np.float32)
    np.testing.assert_array_equal(runtime(large), 2 * large)
    with pytest.raises(ValueError, match="at least 1"):
        BatchingRuntime(inner, 0)


def test_nobody_waits_for_a_leader_that_was_stopped():
    class Stopped(Doubler):
        def __call__(self, batch):
            doubled = super().__call__(batch)
            if len(batch) > 1:
                raise KeyboardInterrupt
            return doubled

    first, leader, *others = ask_while_busy(Stopped(), 8, pictures(4))
    np.testing.assert_array_equal(first, 0)
    assert isinstance(leader, KeyboardInterrupt)
    assert all(isinstance(error, RuntimeError) and "stopped" in str(error) for error in others)
