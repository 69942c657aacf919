"""The schedule: what both engines are asked to send, and that they ask for the same."""

from __future__ import annotations

import ctypes
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshgauge.histogram import BUCKETS, MAX_VALUE_NS, bucket_index
from workers.load.engine.arrivals import arrivals_ns
from workers.load.engine.contract import ArrivalKind, Schedule
from workers.load.engine.library import load_library
from workers.load.engine.native import schedule_struct

_SECOND = 1_000_000_000


def schedule(kind: ArrivalKind, rate_rps: float, **more: Any) -> Schedule:
    times = {"start_ns": 5 * _SECOND, "window_start_ns": 7 * _SECOND, "window_end_ns": 17 * _SECOND}
    return Schedule(kind, rate_rps, end_ns=20 * _SECOND, **{"seed": 11, **times, **more})


def native(of: Schedule, count: int) -> list[int]:
    out = (ctypes.c_int64 * count)()
    load_library().mg_arrivals(ctypes.byref(schedule_struct(of)), out, count)
    return [of.start_ns + instant for instant in out]


def python(of: Schedule, count: int) -> list[int]:
    return list(itertools.islice(arrivals_ns(of), count))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["uniform", "poisson", "burst", "ramp"]),
    rate_rps=st.floats(0.5, 2e5),
    ramp_from_rps=st.floats(0.5, 2e5),
    phase=st.floats(0, 0.99),
    burst_requests=st.integers(1, 50),
    seed=st.integers(0, 2**64 - 1),
)
def test_both_engines_intend_the_same_instants(kind: Any, rate_rps: float, **more: Any) -> None:
    of = schedule(kind, rate_rps, **more)
    # the last digit of a logarithm may differ between libraries: a nanosecond in 20 s
    assert np.abs(np.subtract(native(of, 300), python(of, 300))).max() <= 1


def test_uniform_arrivals_are_evenly_spaced() -> None:
    assert set(np.diff(python(schedule("uniform", 1000.0), 5000))) <= {999_999, 1_000_000, 1_000_001}


def test_uniform_arrivals_of_two_workers_interleave() -> None:
    first, second = (python(schedule("uniform", 500.0, phase=phase), 100) for phase in (0.0, 0.5))
    assert set(np.diff(sorted(first + second))) <= {999_999, 1_000_000, 1_000_001}


def test_poisson_gaps_are_exponential_with_the_asked_mean() -> None:
    gaps = np.diff(native(schedule("poisson", 1000.0), 100_001)) / _SECOND
    assert gaps.mean() == pytest.approx(0.001, rel=0.02)
    assert gaps.std() == pytest.approx(0.001, rel=0.03)
    for p in (0.1, 0.5, 0.9, 0.99):
        assert np.quantile(gaps, p) == pytest.approx(-math.log(1 - p) / 1000, rel=0.05)


def test_poisson_arrivals_follow_the_seed() -> None:
    assert python(schedule("poisson", 100.0), 50) == python(schedule("poisson", 100.0), 50)
    assert python(schedule("poisson", 100.0), 50) != python(schedule("poisson", 100.0, seed=12), 50)


def test_bursts_arrive_together_at_the_asked_mean_rate() -> None:
    instants = python(schedule("burst", 100.0, burst_requests=20), 100)
    assert sorted(set(instants)) == [5 * _SECOND + i * _SECOND // 5 for i in range(5)]


@pytest.mark.parametrize(("first_rps", "last_rps"), [(100.0, 1000.0), (1000.0, 100.0), (500.0, 500.0)])
def test_a_ramp_climbs_straight_through_the_window(first_rps: float, last_rps: float) -> None:
    of = schedule("ramp", last_rps, ramp_from_rps=first_rps)
    instants = (np.array(python(of, 12_000)) - of.window_start_ns) / _SECOND
    for second in range(-2, 13):
        inside = int(((instants >= second) & (instants < second + 1)).sum())
        slope = (last_rps - first_rps) / 10
        expected = first_rps if second < 0 else last_rps if second >= 10 else first_rps + slope * (second + 0.5)
        assert inside == pytest.approx(expected, abs=2)


@given(value_ns=st.integers(0, MAX_VALUE_NS))
def test_the_native_engine_counts_into_the_shared_buckets(value_ns: int) -> None:
    assert load_library().mg_bucket(value_ns) == bucket_index(value_ns)


def test_values_beyond_the_range_are_counted_as_overflow() -> None:
    assert load_library().mg_bucket(MAX_VALUE_NS) == BUCKETS - 1
    assert load_library().mg_bucket(MAX_VALUE_NS + 1) == BUCKETS
