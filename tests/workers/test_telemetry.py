"""Telemetry: the window's edges exactly, each second between, and of what others counted only what is of the window."""

from __future__ import annotations

import time

import pytest

from meshgauge.errors import MeasurementError
from meshgauge.trial import UsageSample
from workers.telemetry import Sampler, sampling_offsets_s


def sample(component: str, at_s: float, cpu_s: float, part: str | None = None) -> UsageSample:
    return UsageSample(component, at_s, cpu_s, cpu_s / 2, 100, 3, None, part=part)


def test_samples_are_taken_at_both_edges_and_each_second() -> None:
    assert sampling_offsets_s(3.0) == (0.0, 1.0, 2.0, 3.0)
    assert sampling_offsets_s(2.3) == (0.0, 1.0, 2.3)
    assert sampling_offsets_s(1.0) == (0.0, 1.0)


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


def test_what_others_counted_outside_the_window_or_was_read_before_is_dropped() -> None:
    start = time.monotonic() + 0.05
    # Seconds after the window's start; each read shows the newest counters of two containers.
    reads = iter([(-4.0, -9.0), (-4.0, 0.5), (0.7, 0.5), (7.0, 0.9)])

    def read() -> list[UsageSample]:
        one, other = next(reads)
        return [sample("app", start + one, 1.0, "a"), sample("app", start + other, 1.0, "b")]

    taken = Sampler(read, start, 3.0).result()
    assert [(one.part, round(one.at_s, 3)) for one in taken] == [("b", 0.5), ("a", 0.7), ("b", 0.9)]
