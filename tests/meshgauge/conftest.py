"""Plans, matrices and measured trials to store and read back."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable

import numpy as np
import pytest

from meshgauge.document import load_plan
from meshgauge.histogram import Histogram
from meshgauge.matrix import expand
from meshgauge.resolved import ResolvedPlan
from meshgauge.selectors import resolve_arms
from meshgauge.trial import (
    CLOCKS,
    Clock,
    ComponentUsage,
    GateResult,
    LoadResult,
    MeasuredTrial,
    Outcome,
    SecondRow,
    UsageSample,
    WorkerHealth,
)

PLAN = """
name: two-arms
meshes: [none, {adapter: envoy, versions: [latest, previous]}]
profiles: [mtls]
workloads: {name: http-1k, app: fixed-reply, reply_bytes: 1024}
loads:
- {rate_rps: 100, window_s: 1, warm_up_s: 1, cool_down_s: 0}
- {rate_rps: 200, window_s: 1, warm_up_s: 1, cool_down_s: 0}
blocks: 2
seed: 7
"""

VERSIONS = {"none": (), "envoy": ("1.40.0", "1.39.3", "1.39.1"), "nginx": ("1.31.3",), "haproxy": ("2.8.25", "2.8.21")}


@pytest.fixture
def versions() -> Callable[[str], tuple[str, ...]]:
    """The versions of each adapter, newest first."""
    return VERSIONS.__getitem__


@pytest.fixture
def resolved() -> ResolvedPlan:
    """A plan of three arms and two loads with nothing left open."""
    plan = load_plan(PLAN)
    arms = resolve_arms(plan, VERSIONS.__getitem__)
    return ResolvedPlan(PLAN, plan, arms, expand(plan, arms, lambda *_: None), 7, {})


@pytest.fixture
def measured_trial() -> Callable[[uuid.UUID], MeasuredTrial]:
    """A function that makes the answer of a trial, every field set and no two alike."""

    def make(trial_id: uuid.UUID) -> MeasuredTrial:
        latencies_ns = np.random.default_rng(3).lognormal(12, 0.4, 5000).astype(np.int64)
        histograms: dict[tuple[Outcome, Clock], Histogram] = {
            ("ok", clock): Histogram.of(latencies_ns + 10 * at) for at, clock in enumerate(CLOCKS)
        }
        load = LoadResult(
            engine="native",
            engine_abi=1,
            locust_version="2.47.0",
            resolution_ns=1,
            window_start=dt.datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=dt.UTC),
            window_s=1.0,
            offered=5001,
            sent=5001,
            done=5001,
            dropped=0,
            waited=3,
            backlog_peak=2,
            connections_opened=16,
            outcomes={"ok": 5000, "status_5xx": 1},
            histograms={**histograms, ("status_5xx", "net"): Histogram.of([1_000_000])},
            seconds=(SecondRow(0, 5001, 5001, 5001, 1, 160.5, None, 0.25),),
            batch_p50_us=(160.0, None) * 6,
            workers=(WorkerHealth("w-1", "native", 0.3, 0.01),),
            requests_total=10_000,
            scheduling="fifo",
        )
        return MeasuredTrial(
            trial_id=str(trial_id),
            state="measured",
            reason=None,
            load=load,
            samples=(
                UsageSample("app", 0.0, 1.0, 2.0, 1 << 20, 1, 10),
                UsageSample("host", 1.0, 3.0, 2.0, None, None, None, 0.5),
            ),
            usage=(ComponentUsage("app", 1.0, 0.2, 0.1, 2.0**20, 2.0**21, 1, 5),),
            gates=(GateResult("errors", "degraded", frozenset({"latency"}), 0.02, 0.01, "%", "1 error"),),
            checks=({"name": "counters", "passed": True, "expected": "5", "seen": "5"},),
        )

    return make
