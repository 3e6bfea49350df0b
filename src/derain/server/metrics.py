"""Counters and timings for Prometheus."""

from __future__ import annotations

import threading

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

#: Content type of :meth:`Metrics.text`.
MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

# prometheus-client has this switch for the process only: without it each series has a second one, `..._created`.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one worker process. Safe to use from several threads.

    Attributes:
        requests: responses, by route and status.
        cancelled: images whose client disconnected before they were done.
        queue_length: images that wait.
        in_work: images being processed.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "derain_requests_total", "Responses by route and status.", ["route", "status"], registry=self.registry
        )
        self.cancelled = Counter(
            "derain_cancelled_total",
            "Images whose client disconnected before they were done.",
            registry=self.registry,
        )
        self._pixels = Counter("derain_pixels_total", "Pixels derained.", registry=self.registry)
        self.queue_length = Gauge("derain_queue_length", "Images that wait.", registry=self.registry)
        self.in_work = Gauge("derain_pictures_in_work", "Images being processed.", registry=self.registry)
        self._seconds = Histogram(
            "derain_work_seconds",
            "Seconds of processing per image, without waiting.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        memory = Gauge("process_resident_memory_bytes", "Resident memory.", registry=self.registry)
        memory.set_function(lambda: psutil.Process().memory_info().rss)
        self._lock = threading.Lock()
        self._images = 0
        self._total_seconds = 0.0

    @property
    def mean_seconds(self) -> float:
        """Mean seconds of processing per image; 1 before the first."""
        return self._total_seconds / self._images if self._images else 1.0

    def finish(self, seconds: float, size: tuple[int, int]) -> None:
        """Count a derained image.

        Args:
            seconds: of processing.
            size: width and height in pixels.
        """
        self._pixels.inc(size[0] * size[1])
        self._seconds.observe(seconds)
        with self._lock:
            self._total_seconds += seconds
            self._images += 1

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
