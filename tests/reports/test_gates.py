"""The gates: what they see, what they spoil, and what they must not look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from meshgauge.histogram import Histogram
from meshgauge.trial import ComponentUsage, GateResult, LoadResult, WorkerHealth
from reports.gates import DRIFT_P, drift_percent, evaluate_gates, growth


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    expected: str = "20000 requests"
    seen: str = "19000 requests"


HOST = ComponentUsage("host", 20.0, 5.0, 5.0, 1e9, 1e9, None, None, steal_ratio=0.0, steal_worst_10s_ratio=0.0)


@pytest.fixture
def load(make_load: Callable[..., LoadResult], make_histogram: Callable[..., Histogram]) -> LoadResult:
    return make_load(make_histogram(400, 0.3, 20_000), 1000.0, 20.0)


def _gates(load: LoadResult, usage: tuple[ComponentUsage, ...] = (HOST,), **more: Any) -> dict[str, GateResult]:
    asked = {"checks": (), "lost": (), "arrival": "poisson", **more}
    found = evaluate_gates(load, usage, **asked)
    return {gate.gate: gate for gate in found}


def _statuses(load: LoadResult, usage: tuple[ComponentUsage, ...] = (HOST,)) -> dict[str, str]:
    return {name: gate.status for name, gate in _gates(load, usage).items()}


def test_a_calm_trial_passes_every_gate(load: LoadResult) -> None:
    assert set(_statuses(load).values()) == {"ok"}


def _lag(load: LoadResult, share_late: float, late_us: int, usual_us: int = 20) -> LoadResult:
    late = round(20_000 * share_late)
    values = [late_us * 1000] * late + [usual_us * 1000] * (20_000 - late)
    return replace(load, histograms={**load.histograms, ("ok", "lag"): Histogram.of(values)})


def _errors(load: LoadResult, count: int) -> LoadResult:
    return replace(load, outcomes={"ok": load.done - count, "status_5xx": count})


def _worker(load: LoadResult, cpu: float | None, delay: float | None) -> LoadResult:
    return replace(load, workers=(*load.workers, WorkerHealth("worker-2", "native", cpu, delay)))


CASES: list[tuple[str, Callable[[LoadResult], LoadResult], str]] = [
    ("achieved_ratio", lambda load: replace(load, done=19_890), "degraded"),
    ("achieved_ratio", lambda load: replace(load, done=19_780), "invalid"),
    ("dropped", lambda load: replace(load, dropped=1), "invalid"),
    ("send_lag_p50", lambda load: _lag(load, 0, 0, usual_us=150), "degraded"),
    ("send_lag_p50", lambda load: _lag(load, 0, 0, usual_us=600), "invalid"),
    ("send_lag_p99", lambda load: _lag(load, 0.02, 3_000), "degraded"),
    ("send_lag_p99", lambda load: _lag(load, 0.02, 60_000), "invalid"),
    ("run_delay", lambda load: _worker(load, 0.1, 0.05), "degraded"),
    ("run_delay", lambda load: _worker(load, 0.1, 0.15), "invalid"),
    ("run_delay", lambda load: _worker(load, 0.1, None), "degraded"),
    ("engine_cpu", lambda load: _worker(load, 0.7, 0.0), "degraded"),
    ("engine_cpu", lambda load: _worker(load, 0.9, 0.0), "invalid"),
    ("growth", lambda load: replace(load, batch_p50_us=(400.0,) * 6 + (450.0,) * 6), "degraded"),
    ("growth", lambda load: replace(load, batch_p50_us=(400.0,) * 6 + (500.0,) * 6), "invalid"),
    ("drift", lambda load: replace(load, batch_p50_us=tuple(400 * 1.007**i for i in range(12))), "degraded"),
    ("drift", lambda load: replace(load, batch_p50_us=tuple(400 * 0.985**i for i in range(12))), "invalid"),
    ("drift", lambda load: replace(load, batch_p50_us=(400.0,) * 3 + (None,) * 9), "degraded"),
    ("errors", lambda load: _errors(load, 3), "degraded"),
    ("errors", lambda load: _errors(load, 30), "invalid"),
    ("connection_limited", lambda load: replace(load, waited=1000), "degraded"),
]


@pytest.mark.parametrize(("gate", "disturb", "status"), CASES)
def test_each_disturbance_fails_its_gate(
    load: LoadResult, gate: str, disturb: Callable[[LoadResult], LoadResult], status: str
) -> None:
    found = _gates(disturb(load))[gate]
    assert found.status == status
    assert found.spoils
    assert found.message


@pytest.mark.parametrize(
    ("mean", "worst", "statuses"),
    [(0.03, 0.04, ("degraded", "ok")), (0.01, 0.25, ("ok", "invalid")), (None, None, ("degraded", "degraded"))],
)
def test_stolen_time_fails_mean_and_worst_seconds_apart(
    load: LoadResult, mean: float | None, worst: float | None, statuses: tuple[str, str]
) -> None:
    host = replace(HOST, steal_ratio=mean, steal_worst_10s_ratio=worst)
    found = _statuses(load, (host,))
    assert (found["steal_mean"], found["steal_worst_10s"]) == statuses


def test_errors_spoil_latency_and_only_many_of_them_the_rest(load: LoadResult) -> None:
    assert _gates(_errors(load, 30))["errors"].spoils == {"latency"}
    assert _gates(_errors(load, 3000))["errors"].spoils == {"latency", "cpu", "throughput"}


def test_a_failed_treatment_check_spoils_everything_and_names_both_numbers(load: LoadResult) -> None:
    gate = _gates(load, checks=(Check("client proxy counted", False),))["treatment"]
    assert (gate.status, len(gate.spoils)) == ("invalid", 5)
    assert gate.message == "client proxy counted: expected 20000 requests, saw 19000 requests"


def test_a_lost_component_spoils_all_but_the_count_of_errors(load: LoadResult) -> None:
    gate = _gates(load, lost=("envoy died with signal 9",))["components"]
    assert (gate.status, "errors" in gate.spoils, len(gate.spoils)) == ("invalid", False, 4)
    assert "envoy died with signal 9" in gate.message


def test_throttling_spoils_cpu_and_latency(load: LoadResult) -> None:
    throttled = replace(HOST, component="data_plane/client", throttled_s=0.4)
    gate = _gates(load, (HOST, throttled))["throttling"]
    assert gate.status == "invalid"
    assert gate.value == pytest.approx(0.4)
    assert {"cpu", "latency"} <= gate.spoils


def test_throttling_by_the_plans_own_limit_is_told_and_spoils_nothing(load: LoadResult) -> None:
    throttled = replace(HOST, component="data_plane/client", throttled_s=0.4)
    gate = _gates(load, (HOST, throttled), limited={"data_plane/client"})["throttling"]
    assert gate.status == "ok"
    assert gate.value == pytest.approx(0.4)
    assert "by the limit the plan sets" in gate.message
    other = replace(throttled, component="app")
    assert _gates(load, (HOST, throttled, other), limited={"data_plane/client"})["throttling"].status == "invalid"


def test_requests_beyond_the_histogram_fail_it(load: LoadResult) -> None:
    net = load.clock("net")
    few, many = (
        replace(load, histograms={**load.histograms, ("ok", "net"): Histogram(net.counts, n)}) for n in (1, 50)
    )
    assert (_gates(few)["overflow"].status, _gates(many)["overflow"].status) == ("degraded", "invalid")


def test_a_load_without_any_reply_is_invalid_and_not_zero(load: LoadResult) -> None:
    silent = replace(load, done=0, outcomes={}, histograms={}, batch_p50_us=(None,) * 12)
    found = _gates(silent)
    assert (found["errors"].status, found["errors"].value) == ("invalid", None)
    assert found["achieved_ratio"].status == "invalid"
    assert found["growth"].value is None


def test_a_ramp_is_meant_to_change(load: LoadResult) -> None:
    ramp = replace(load, batch_p50_us=tuple(400.0 * 1.1**i for i in range(12)))
    assert "drift" not in _gates(ramp, arrival="ramp")
    assert _gates(ramp)["drift"].status == "invalid"


@pytest.mark.parametrize("factor", [0.1, 3.0, 40.0])
def test_no_gate_reads_the_latency_level_of_an_arm(
    load: LoadResult, make_histogram: Callable[..., Histogram], factor: float
) -> None:
    scaled = make_histogram(400 * factor, 0.3, 20_000)
    histograms = {key: scaled if key[1] in {"net", "response"} else h for key, h in load.histograms.items()}
    batches = tuple(None if b is None else b * factor for b in load.batch_p50_us)
    slow = replace(load, histograms=histograms, batch_p50_us=batches)
    assert evaluate_gates(slow, (HOST,), (), (), "poisson") == evaluate_gates(load, (HOST,), (), (), "poisson")


def _queue(load_ratio: float, seed: int) -> tuple[float | None, ...]:
    """Return p50 in 12 parts of an M/M/8 queue's window: response times of 24 000 arrivals, in us."""
    generator = np.random.default_rng(seed)
    servers, service_us = 8, 1000.0
    arrivals = np.cumsum(generator.exponential(service_us / servers / load_ratio, 24_000))
    services = generator.exponential(service_us, arrivals.size)
    free = np.zeros(servers)
    response = np.empty(arrivals.size)
    for at, (arrival, service) in enumerate(zip(arrivals, services, strict=True)):
        server = int(free.argmin())
        free[server] = max(free[server], arrival) + service
        response[at] = free[server] - arrival
    return tuple(float(np.median(part)) for part in np.array_split(response, 12))


@pytest.mark.parametrize(("load_ratio", "flagged"), [(0.5, False), (0.7, False), (1.0, True), (1.05, True)])
def test_a_saturated_queue_is_flagged_and_a_calm_one_is_not(load: LoadResult, load_ratio: float, flagged: bool) -> None:
    batches = _queue(load_ratio, seed=2)
    found = _statuses(replace(load, batch_p50_us=batches))
    assert ("invalid" in {found["growth"], found["drift"]}) is flagged


def _noisy_batches(generator: np.random.Generator) -> list[float]:
    """Return 12 medians of 5 s whose seconds follow an AR(1) with rho 0.8 and sd 4 % (statistics.md 2, shared)."""
    noise, level = [], 0.0
    for _ in range(60):
        level = 0.8 * level + generator.normal(0, 0.04 * 0.6)
        noise.append(level)
    return [400 * float(np.exp(np.median(part))) for part in np.array_split(noise, 12)]


def test_autocorrelated_noise_is_seldom_taken_for_drift() -> None:
    generator = np.random.default_rng(9)
    flagged = sum((drift_percent(_noisy_batches(generator)) or 0) > 5 for _ in range(400))
    assert flagged / 400 < 0.06


def test_warm_up_that_went_on_is_taken_for_drift() -> None:
    decaying = [400 * (1 + 0.5 * float(np.exp(-at / 4))) for at in range(12)]
    assert (drift_percent(decaying) or 0) > 10


def test_growth_needs_both_halves() -> None:
    assert growth([400.0] * 6 + [None] * 6) is None
    assert growth([400.0] * 6 + [480.0] * 6) == pytest.approx(1.2)


def test_the_drift_test_equals_scipys_regression() -> None:
    logs = np.random.default_rng(5).normal(0, 0.02, 12) + 0.015 * np.arange(12)
    fit = stats.linregress(np.arange(12.0), logs)
    assert fit.pvalue < DRIFT_P, "or the test says nothing"
    expected = 100 * abs(np.expm1(fit.slope * 11))
    assert drift_percent(tuple(np.exp(logs))) == pytest.approx(expected, rel=1e-12)
    flat = np.random.default_rng(6).normal(0, 0.02, 12)
    assert stats.linregress(np.arange(12.0), flat).pvalue > DRIFT_P
    assert drift_percent(tuple(np.exp(flat))) == 0.0


ON_TWO = {"app": ["n1", "n2"], "load": ["n3"]}


@pytest.mark.parametrize(
    ("nodes", "first", "status"),
    [
        (ON_TWO, None, "ok"),
        (ON_TWO, {"app": ["n2", "n1"], "load": ["n3"]}, "ok"),
        (ON_TWO, {"app": ["n1"], "load": ["n3"]}, "invalid"),
        (ON_TWO, {"app": ["n1", "n2"], "load": ["n4"]}, "invalid"),
        (ON_TWO, {"app": ["n1", "n2"]}, "invalid"),
    ],
)
def test_a_trial_has_to_stand_where_the_first_of_its_block_stood(
    load: LoadResult, nodes: dict[str, list[str]], first: dict[str, list[str]] | None, status: str
) -> None:
    gate = _gates(load, nodes=nodes, first_nodes=first)["nodes"]
    assert gate.status == status
    assert gate.spoils == {"latency", "cpu", "memory", "throughput", "errors"}


def test_what_to_do_about_other_nodes_is_said(load: LoadResult) -> None:
    gate = _gates(load, nodes={"app": ["n9"], "load": ["n3"]}, first_nodes={"app": ["n1", "n2"], "load": ["n3"]})
    assert "app on n9, there on n1, n2. Pin both" in gate["nodes"].message
    assert "load on" not in gate["nodes"].message
    assert "app_nodes and load_nodes" in gate["nodes"].message


def test_one_host_has_no_nodes_to_judge(load: LoadResult) -> None:
    assert "nodes" not in _gates(load)
