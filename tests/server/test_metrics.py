"""Counters and timings."""

from __future__ import annotations

import pytest

from derain.server.metrics import Metrics


def test_mean_seconds():
    metrics = Metrics()
    assert metrics.mean_seconds == 1
    metrics.finish(0.5, (10, 20))
    metrics.finish(1.5, (10, 20))
    assert metrics.mean_seconds == pytest.approx(1.0)


def test_each_application_counts_alone():
    first, second = Metrics(), Metrics()
    first.requests.labels("/v1/derain", 200).inc()
    assert b'derain_requests_total{route="/v1/derain",status="200"} 1.0' in first.text()
    assert b"derain_requests_total{" not in second.text()


def test_times_fall_into_buckets():
    metrics = Metrics()
    for seconds in (0.05, 3, 500):
        metrics.finish(seconds, (4, 5))
    text = metrics.text().decode()
    for line in ('le="0.1"} 1.0', 'le="5.0"} 2.0', 'le="120.0"} 2.0', 'le="+Inf"} 3.0', "derain_pixels_total 60.0"):
        assert line in text
