"""What is read from a trial, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from meshgauge.histogram import Histogram
from meshgauge.run import RunRecord
from meshgauge.trial import GateResult, TrialRecord
from reports.readings.metrics import METRIC_OF, METRICS, degraded_kinds, read_trial, spoiled_kinds, usable

MakeRun = Callable[..., RunRecord]


@pytest.fixture
def run(make_run: MakeRun) -> RunRecord:
    return make_run(blocks=1, world={"run_sd": 0.0, "block_sd": 0.0})


def _trial(run: RunRecord, mesh: str) -> tuple[TrialRecord, Any]:
    cell = next(cell for cell in run.cells if cell.environment.mesh.label == mesh)
    return next(trial for trial in run.trials if trial.cell == cell.key), cell


def test_latency_is_net_response_of_expected_replies(run: RunRecord) -> None:
    trial, cell = _trial(run, "none")
    load = trial.load
    assert load is not None
    failed = Histogram.of([10**9] * 5000)
    disturbed = replace(load, histograms={**load.histograms, ("status_5xx", "net"): failed, ("ok", "response"): failed})
    reading = read_trial(replace(trial, load=disturbed), cell)
    assert reading["p50"] == pytest.approx((load.clock("net").quantile_ns(0.5) or 0) / 1e6)
    assert reading == read_trial(trial, cell)


def test_a_percentile_with_too_few_requests_is_absent(run: RunRecord) -> None:
    trial, cell = _trial(run, "none")
    assert read_trial(trial, cell)["p99"] is not None
    assert read_trial(trial, cell)["p999"] is None  # 20 000 requests: only 20 above it


def test_costs_are_per_thousand_replies_and_add_up(run: RunRecord) -> None:
    trial, cell = _trial(run, "envoy-1.40.0")
    reading = read_trial(trial, cell)
    assert reading["cpu_data_plane"] == pytest.approx(2 * 0.2)
    assert reading["cpu"] == pytest.approx(0.08 + 2 * 0.2)
    assert reading["memory_data_plane"] == pytest.approx(96)
    assert reading["cpu_control_plane"] is None


def test_without_a_proxy_the_data_plane_costs_nothing_by_construction(run: RunRecord) -> None:
    reading = read_trial(*_trial(run, "none"))
    assert (reading["cpu_data_plane"], reading["memory_data_plane"]) == (0.0, 0.0)


def test_a_proxy_that_was_not_measured_makes_the_cost_absent_not_zero(run: RunRecord) -> None:
    trial, cell = _trial(run, "envoy-1.40.0")
    usage = tuple(replace(u, cpu_user_s=None) if u.component == "data_plane/server" else u for u in trial.usage)
    for changed in (usage, tuple(u for u in trial.usage if not u.component.startswith("data_plane"))):
        reading = read_trial(replace(trial, usage=changed), cell)
        assert reading["cpu_data_plane"] is None
        assert reading["cpu"] is None


def test_a_trial_that_was_never_measured_has_no_values(run: RunRecord) -> None:
    trial, cell = _trial(run, "none")
    assert set(read_trial(replace(trial, load=None), cell).values()) == {None}


def test_a_gate_spoils_only_what_it_would_bias(run: RunRecord) -> None:
    trial, _ = _trial(run, "none")
    errors = GateResult("errors", "invalid", frozenset({"latency"}), 0.5, 0.1, "%", "too many errors")
    spoiled = spoiled_kinds(replace(trial, state="invalid", gates=(errors,)))
    assert usable(1.0, METRIC_OF["p50"], spoiled) is None
    assert usable(1.0, METRIC_OF["cpu"], spoiled) == 1.0


@pytest.mark.parametrize("state", ["failed", "cancelled", "pending", "running", "invalid"])
def test_a_trial_that_did_not_end_well_and_names_no_gate_is_wholly_spoiled(run: RunRecord, state: Any) -> None:
    trial, _ = _trial(run, "none")
    assert len(spoiled_kinds(replace(trial, state=state, gates=()))) == 5


def test_degraded_gates_are_named_and_spoil_nothing(run: RunRecord) -> None:
    trial, _ = _trial(run, "none")
    steal = GateResult("steal_mean", "degraded", frozenset({"latency", "cpu"}), 3.0, 2.0, "%", "steal")
    degraded = replace(trial, gates=(steal,))
    assert degraded_kinds(degraded) == {"latency", "cpu"}
    assert spoiled_kinds(degraded) == frozenset()


def test_a_ratio_is_never_taken_of_nothing() -> None:
    assert usable(0.0, METRIC_OF["cpu"], frozenset()) is None
    assert usable(0.0, METRIC_OF["errors"], frozenset()) == 0.0


def test_the_primary_metrics_are_median_tail_and_cpu() -> None:
    assert [metric.name for metric in METRICS if metric.primary] == ["p50", "p99", "cpu"]
