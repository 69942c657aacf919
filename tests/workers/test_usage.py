"""Usage: differences of cumulative counters, and sums over parts that are counted at instants of their own."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshgauge.errors import MeasurementError
from meshgauge.trial import ComponentUsage, UsageSample
from workers.usage import FEWEST_SAMPLES, reduce_usage

CORES = 2.0


def sample(
    component: str, at_s: float, cpu_s: float, memory: int | None = 100, steal_s: float | None = None
) -> UsageSample:
    return UsageSample(component, at_s, cpu_s, cpu_s / 2, memory, 3, int(at_s * 10), steal_s)


def part(name: str, at_s: float, cpu_s: float | None, memory: int | None = 100) -> UsageSample:
    return UsageSample("app", at_s, None, None, memory, None, None, cpu_s=cpu_s, part=name, source="kubelet")


def line(name: str, instants: list[float], cores: float, start_s: float = 100.0) -> list[UsageSample]:
    return [part(name, at, start_s + cores * at) for at in instants]


def app(samples: list[UsageSample], window_s: float = 60.0) -> ComponentUsage:
    (usage,) = reduce_usage(samples, CORES, window_s)
    return usage


def test_usage_is_what_was_counted_between_the_first_and_the_last_sample() -> None:
    usage = app([sample("app", 0.0, 5.0, 100), sample("app", 1.0, 5.2, 300), sample("app", 2.0, 5.6, 200)])
    assert usage.cpu_user_s == pytest.approx(0.6)
    assert usage.cpu_system_s == pytest.approx(0.3)
    assert usage.cpu_s == pytest.approx(0.9)
    assert usage.cores == pytest.approx(0.45)
    levels = (usage.memory_mean_bytes, usage.memory_peak_bytes, usage.threads, usage.context_switches)
    assert levels == (200.0, 300.0, 3, 20)
    assert (usage.steal_ratio, usage.throttled_s, usage.source, usage.note) == (None, None, None, None)


def test_what_was_not_measured_is_null_and_not_zero() -> None:
    usage = app([sample("host", 0, 1, None), sample("host", 1, 2, None)])
    assert usage.memory_mean_bytes is None
    assert usage.memory_peak_bytes is None


def test_steal_is_a_share_of_all_cores_and_its_worst_ten_seconds_are_found() -> None:
    series = [sample("host", at, at, None, steal_s=0.0 if at <= 20 else (at - 20) * 0.4) for at in range(31)]
    host = app(series)
    assert host.steal_ratio == pytest.approx(4.0 / (30 * 2))
    assert host.steal_worst_10s_ratio == pytest.approx(4.0 / (10 * 2))


def test_a_single_sample_is_an_error() -> None:
    with pytest.raises(MeasurementError, match="sampled once only"):
        reduce_usage([sample("app", 0, 1)], CORES, 60.0)


def test_parts_are_summed_at_instants_that_all_of_them_have_passed() -> None:
    early, late = line("a", [1.0, 11.0, 25.0, 40.0], 0.5), line("b", [8.0, 20.0, 33.0, 52.0], 0.25, start_s=7.0)
    usage = app([*early, *late])
    assert usage.window_s == pytest.approx(40.0 - 8.0)
    assert usage.cpu_s == pytest.approx(0.75 * 32.0)
    assert usage.cores == pytest.approx(0.75)
    assert (usage.cpu_user_s, usage.cpu_system_s) == (None, None), "the split is not known"
    assert usage.memory_mean_bytes == pytest.approx(200.0)
    assert (usage.source, usage.note) == ("kubelet", "2 parts over 32 s of 60 s")


def test_a_part_with_too_few_samples_leaves_the_component_unmeasured_and_says_so() -> None:
    whole, short = line("a", [1.0, 11.0, 25.0, 40.0], 0.5), line("b", [8.0, 20.0, 33.0], 0.25)
    usage = app([*whole, *short])
    assert (usage.cores, usage.cpu_s, usage.memory_mean_bytes, usage.threads) == (None, None, None, None)
    assert usage.note
    assert f"b: 3 of at least {FEWEST_SAMPLES} samples inside the window of 60 s" in usage.note


def test_a_part_that_nobody_counted_leaves_the_component_unmeasured() -> None:
    usage = app([*line("a", [1.0, 11.0, 25.0, 40.0], 0.5), part("b", 30.0, None)])
    assert usage.cores is None
    assert usage.note == "not measured: b: no counter with a time of its own was found"


def test_a_counter_that_went_back_is_a_restart_and_no_usage() -> None:
    series = line("a", [1.0, 11.0, 25.0, 40.0], 0.5)
    usage = app([*series, part("a", 50.0, 0.2)])
    assert usage.cores is None
    assert usage.note == "not measured: a: its counter went back: it restarted"


def test_parts_that_were_never_counted_together_give_no_sum() -> None:
    usage = app([*line("a", [1.0, 2.0, 3.0, 4.0], 0.5), *line("b", [10.0, 20.0, 30.0, 40.0], 0.5)])
    assert usage.cores is None
    assert usage.note
    assert "never all counted within the same stretch of time" in usage.note


def test_throttling_is_that_of_the_parts_with_a_limit() -> None:
    free = line("a", [1.0, 11.0, 25.0, 40.0], 0.5)
    limited = [replace(one, throttled_s=at / 10) for at, one in enumerate(line("b", [1.0, 11.0, 25.0, 40.0], 0.5))]
    assert app(free).throttled_s is None
    assert app([*free, *limited]).throttled_s == pytest.approx(0.3)


instants = st.lists(st.integers(0, 600), min_size=FEWEST_SAMPLES, max_size=12, unique=True).map(
    lambda tenths: sorted(tenth / 10 for tenth in tenths)
)


@given(st.lists(st.tuples(instants, st.floats(0.001, 4.0)), min_size=1, max_size=6))
def test_steady_parts_sum_exactly_however_their_samples_lie(parts: list[tuple[list[float], float]]) -> None:
    usage = app([one for at, (when, cores) in enumerate(parts) for one in line(f"p{at}", when, cores)])
    if usage.cores is not None:
        assert usage.cores == pytest.approx(sum(cores for _, cores in parts), rel=1e-6)
    else:
        assert usage.note
        assert usage.note.startswith("not measured: ")


def _housekeeping(rng: np.random.Generator, window_s: float) -> np.ndarray:
    """Return instants inside the window: cAdvisor waits 10 s and up to as much again, each container on its own."""
    steps = rng.uniform(10.0, 20.0, size=int(window_s / 10) + 4)
    at = rng.uniform(-20.0, 0.0) + np.cumsum(steps)
    return at[(at >= 0) & (at <= window_s)]


@pytest.mark.parametrize("window_s", [80.0, 120.0, 300.0])
def test_sums_of_staggered_containers_are_unbiased(window_s: float) -> None:
    """Four containers whose use of CPU wanders by 20 % from second to second, 400 windows each length."""
    rng = np.random.default_rng(4)
    errors, spans = [], []
    for _ in range(400):
        means = rng.uniform(0.05, 0.8, size=4)
        samples, truth = [], 0.0
        for at, mean in enumerate(means):
            rate = mean * (1 + 0.2 * rng.standard_normal(int(window_s)))
            counter = np.concatenate([[0.0], np.cumsum(np.maximum(rate, 0.0))])
            when = _housekeeping(rng, window_s)
            read = np.interp(when, np.arange(len(counter)), counter)
            samples += [part(f"c{at}", float(t), float(v)) for t, v in zip(when, read, strict=True)]
            truth += counter[-1] / window_s
        usage = app(samples, window_s)
        assert usage.cores is not None, usage.note
        errors.append(usage.cores / truth - 1)
        spans.append(usage.window_s)
    bias, spread = float(np.mean(errors)), float(np.std(errors))
    sys.stdout.write(
        f"window {window_s:.0f} s: bias {100 * bias:+.2f} %, standard deviation {100 * spread:.2f} %, "
        f"span {np.mean(spans):.0f} s\n"
    )
    assert abs(bias) < 4 * spread / np.sqrt(len(errors))
    assert spread < 0.03
