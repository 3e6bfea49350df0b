"""Counts and times, told in the text format that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one worker process. Requests are counted on the event loop, pictures by the working thread."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.cancelled = 0
        self._lock = threading.Lock()
        self._pictures = 0
        self._pixels = 0
        self._seconds = 0.0
        self._buckets = [0] * len(_BOUNDS)

    @property
    def mean_seconds(self) -> float:
        """Mean seconds of work a picture; 1 before the first."""
        return self._seconds / self._pictures if self._pictures else 1.0

    def finish(self, seconds: float, size: tuple[int, int]) -> None:
        """Count a derained picture: its seconds of work, its width and height."""
        with self._lock:
            self._pictures += 1
            self._pixels += size[0] * size[1]
            self._seconds += seconds
            for index, bound in enumerate(_BOUNDS):
                self._buckets[index] += seconds <= bound

    def text(self, *, waiting: int, working: int) -> str:
        """Everything as lines for Prometheus."""
        lines = [
            "# HELP derain_requests_total Answered requests by route and status.",
            "# TYPE derain_requests_total counter",
            *(
                f'derain_requests_total{{route="{route}",status="{status}"}} {count}'
                for (route, status), count in sorted(self.requests.items())
            ),
            "# HELP derain_cancelled_total Pictures whose client left before they were done.",
            "# TYPE derain_cancelled_total counter",
            f"derain_cancelled_total {self.cancelled}",
            "# HELP derain_pixels_total Pixels derained.",
            "# TYPE derain_pixels_total counter",
            f"derain_pixels_total {self._pixels}",
            "# HELP derain_queue_length Pictures that wait.",
            "# TYPE derain_queue_length gauge",
            f"derain_queue_length {waiting}",
            "# HELP derain_pictures_in_work Pictures in work.",
            "# TYPE derain_pictures_in_work gauge",
            f"derain_pictures_in_work {working}",
            "# HELP derain_work_seconds Seconds of work a picture, without waiting.",
            "# TYPE derain_work_seconds histogram",
        ]
        with self._lock:
            lines += [
                f'derain_work_seconds_bucket{{le="{bound:g}"}} {count}'
                for bound, count in zip(_BOUNDS, self._buckets, strict=True)
            ]
            lines += [
                f'derain_work_seconds_bucket{{le="+Inf"}} {self._pictures}',
                f"derain_work_seconds_sum {self._seconds:.6f}",
                f"derain_work_seconds_count {self._pictures}",
            ]
        resident = resident_bytes()
        if resident is not None:
            lines += [
                "# HELP process_resident_memory_bytes Resident memory.",
                "# TYPE process_resident_memory_bytes gauge",
                f"process_resident_memory_bytes {resident}",
            ]
        return "\n".join(lines) + "\n"


def resident_bytes(pid: int | str = "self") -> int | None:
    """Resident memory of a process, bytes; ``None`` where Linux's ``/proc`` is missing."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) * 1024
