"""Telemetry: the window's edges exactly, each second between, differences of cumulative counters."""

from __future__ import annotations

import time

import pytest

from meshgauge.errors import MeasurementError
from meshgauge.trial import UsageSample
from workers.telemetry import Sampler, reduce_usage, sampling_offsets_s


def sample(
    component: str, at_s: float, cpu_s: float, memory: int | None = 100, steal_s: float | None = None
) -> UsageSample:
    return UsageSample(component, at_s, cpu_s, cpu_s / 2, memory, 3, int(at_s * 10), steal_s)


def test_samples_are_taken_at_both_edges_and_each_second() -> None:
    assert sampling_offsets_s(3.0) == (0.0, 1.0, 2.0, 3.0)
    assert sampling_offsets_s(2.3) == (0.0, 1.0, 2.3)
    assert sampling_offsets_s(1.0) == (0.0, 1.0)


def test_usage_is_what_was_counted_between_the_first_and_the_last_sample() -> None:
    usage = reduce_usage([sample("app", 0.0, 5.0, 100), sample("app", 1.0, 5.2, 300), sample("app", 2.0, 5.6, 200)], 2)
    (app,) = usage
    assert app.cpu_user_s == pytest.approx(0.6)
    assert app.cpu_system_s == pytest.approx(0.3)
    assert app.cores == pytest.approx(0.45)
    assert (app.memory_mean_bytes, app.memory_peak_bytes, app.threads, app.context_switches) == (200.0, 300.0, 3, 20)
    assert app.steal_ratio is None


def test_what_was_not_measured_is_null_and_not_zero() -> None:
    (usage,) = reduce_usage([sample("host", 0, 1, None), sample("host", 1, 2, None)], 2)
    assert usage.memory_mean_bytes is None
    assert usage.memory_peak_bytes is None


def test_steal_is_a_share_of_all_cores_and_its_worst_ten_seconds_are_found() -> None:
    series = [sample("host", at, at, None, steal_s=0.0 if at <= 20 else (at - 20) * 0.4) for at in range(31)]
    (host,) = reduce_usage(series, 2)
    assert host.steal_ratio == pytest.approx(4.0 / (30 * 2))
    assert host.steal_worst_10s_ratio == pytest.approx(4.0 / (10 * 2))


def test_a_single_sample_is_an_error() -> None:
    with pytest.raises(MeasurementError, match="sampled once only"):
        reduce_usage([sample("app", 0, 1)], 2)


def test_the_sampler_counts_time_from_the_windows_start() -> None:
    start = time.monotonic() + 0.1
    sampler = Sampler(lambda: [sample("app", time.monotonic(), 1.0)], start, 1.0)
    taken = sampler.result()
    assert [round(one.at_s) for one in taken] == [0, 1]
    assert all(one.at_s >= offset for one, offset in zip(taken, (0.0, 1.0), strict=True))


def test_a_counter_that_cannot_be_read_is_an_error_and_not_a_gap() -> None:
    def broken() -> list[UsageSample]:
        raise OSError("no such process")

    with pytest.raises(MeasurementError, match="no such process"):
        Sampler(broken, time.monotonic(), 1.0).result()


def test_a_stopped_sampler_reads_nothing_more() -> None:
    reads: list[float] = []

    def read() -> list[UsageSample]:
        reads.append(time.monotonic())
        return []

    sampler = Sampler(read, time.monotonic() + 60, 1.0)
    sampler.stop()
    assert reads == []
