"""Gauges of the metrics server, added up to counters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kubernetes.counting.cadvisor import Counted
from adapters.kubernetes.counting.metrics_api import Gauge, Integrator, node_gauge, pod_gauges

APP = Counted("mg", "app-1", "app")


def test_objects_are_read_container_by_container() -> None:
    manifest = {
        "metadata": {"name": "app-1", "namespace": "mg"},
        "timestamp": "1970-01-01T00:01:40Z",
        "window": "15.5s",
        "containers": [
            {"name": "app", "usage": {"cpu": "250000000n", "memory": "64Mi"}},
            {"name": "proxy", "usage": {"cpu": "0", "memory": "1000Ki"}},
        ],
    }
    assert dict(pod_gauges(manifest)) == {
        APP: Gauge(100.0, 15.5, 0.25, 64 * 2**20),
        Counted("mg", "app-1", "proxy"): Gauge(100.0, 15.5, 0.0, 1_024_000),
    }
    node = {"metadata": {"name": "n1"}, "timestamp": "1970-01-01T00:01:40Z", "window": "10s"}
    assert node_gauge({**node, "usage": {"cpu": "1500m", "memory": "8Gi"}}) == Gauge(100.0, 10.0, 1.5, 8 * 2**30)


def test_a_gauge_stands_for_the_time_since_the_one_before() -> None:
    sums = Integrator()
    first = sums.add(APP, Gauge(100.0, 15.0, 9.0, 1.0))
    assert (first.cpu_s, first.cpu_user_s, first.memory_bytes) == (0.0, None, 1.0), "what was before is not known"
    assert sums.covered_ratio is None
    assert sums.add(APP, Gauge(115.0, 15.0, 0.5, 2.0)).cpu_s == pytest.approx(7.5)
    assert sums.covered_ratio == 1.0
    later = sums.add(APP, Gauge(145.0, 15.0, 1.0, 3.0))
    assert (later.at_ms, later.memory_bytes) == (145_000, 3.0)
    assert later.cpu_s == pytest.approx(37.5)
    assert sums.covered_ratio == pytest.approx(30 / 45)


def test_a_gauge_seen_twice_or_late_adds_nothing() -> None:
    sums = Integrator()
    sums.add(APP, Gauge(100.0, 15.0, 1.0, 1.0))
    once = sums.add(APP, Gauge(115.0, 15.0, 1.0, 1.0))
    assert sums.add(APP, Gauge(115.0, 15.0, 7.0, 9.0)) == once
    assert sums.add(APP, Gauge(101.0, 15.0, 7.0, 9.0)) == once


@given(st.lists(st.floats(1, 60), min_size=1, max_size=20), st.floats(0, 8))
def test_steady_use_is_exact_whatever_the_gaps(gaps: list[float], cores: float) -> None:
    sums, at = Integrator(), 0.0
    sums.add(APP, Gauge(at, 15.0, cores, 1.0))
    for gap in gaps:
        at += gap
        reading = sums.add(APP, Gauge(at, 15.0, cores, 1.0))
    assert reading.cpu_s == pytest.approx(cores * at)
