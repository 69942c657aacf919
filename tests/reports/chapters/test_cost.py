"""Cost: parts that add up, intervals on totals, memory not divided by the rate."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import ComponentUsage, TrialRecord
from reports.readings.costs import mean_of, memory_stack
from reports.readings.trials import Readings

MakeRun = Callable[..., RunRecord]
Read = Callable[[RunRecord], Any]
TRUTH = {"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2}
CORES = {"envoy-1.40.0": 0.25, "nginx-1.31.0": 0.15, "haproxy-2.8.9": 0.1}


def test_the_parts_of_a_row_add_up_to_its_total(make_run: MakeRun, read: Read) -> None:
    for row in read(make_run(ratio=TRUTH, cores=CORES)).grid("cost", "cpu-1"):
        parts = [float(row[name]) for name in ("application", "client proxy", "server proxy") if row[name] != "–"]
        total = float(row["total [95 % interval]"].split()[0])
        assert sum(parts) == pytest.approx(total, abs=2e-3)


def test_the_answer_names_the_cheapest_and_the_dearest(make_run: MakeRun, read: Read) -> None:
    answer = read(make_run(ratio=TRUTH, cores=CORES))["cost"].answer
    assert answer.startswith("The proxies take 0.1")
    assert "(haproxy-2.8.9 · mtls) to 0.4" in answer or "(haproxy-2.8.9 · mtls) to 0.5" in answer
    assert "they hold 96.0\N{NO-BREAK SPACE}MiB each" in answer


def test_the_host_stands_beside_the_parts(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=TRUTH, cores=CORES))
    for row in book.grid("cost", "cpu-1"):
        whole = float(row["whole host [95 % interval]"].split()[0])
        assert whole > float(row["total [95 % interval]"].split()[0])


def test_memory_of_an_unread_proxy_is_not_nought(make_run: MakeRun) -> None:
    def blind(trial: TrialRecord) -> TrialRecord:
        unread = [replace(u, memory_mean_bytes=None) if u.component == "data_plane/client" else u for u in trial.usage]
        return replace(trial, usage=tuple(unread))

    run = make_run(edit=blind)
    readings = Readings(run)
    stacks = {cell.environment.mesh.label: memory_stack(cell, readings) for cell in run.cells}
    assert stacks["none"] is not None
    assert stacks["envoy-1.40.0"] is None


def test_a_mean_has_the_t_interval_of_its_runs() -> None:
    values = [1.0, 1.4, 1.1, 1.3]
    mean = mean_of(values)
    ends = stats.t.interval(0.95, 3, statistics.fmean(values), statistics.stdev(values) / 2)
    assert (mean.low, mean.high) == pytest.approx(ends)
    assert mean_of([2.0]).low is None


def test_the_scatter_draws_the_comparisons_themselves(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=TRUTH, cores=CORES))
    page = next(page for page in book.figures("cost") if page.name == "overhead")
    answer = next(a for a in book.analysis.answers if a.question.key == "baseline")
    of = {(c.pair.label, c.metric.name): c for c in answer.comparisons}
    assert len(page.rows) == 4
    for row in page.rows:
        p50, cpu = of[row["arm"], "p50"], of[row["arm"], "cpu_data_plane"]
        assert row["p50_difference_percent"] == pytest.approx(100 * math.expm1(p50.effect.estimate))
        assert row["data_plane_cores_per_1000_rps"] == pytest.approx(cpu.effect.estimate)
        assert row["cores_high"] == pytest.approx(cpu.interval.high)


def test_without_a_mesh_the_application_is_what_costs(
    make_run: MakeRun, make_arm: Callable[..., MeshArm], read: Read
) -> None:
    book = read(make_run((make_arm("none"),)))
    assert book["cost"].answer.startswith("Serving 1000 requests a second takes 0.0")
    assert [page.name for page in book.figures("cost")] == ["cost", "memory"]


def test_several_scopes_have_a_table_each(make_run: MakeRun, read: Read) -> None:
    loads = [{"rate_rps": r, "connections": 16, "warm_up_s": 3, "window_s": 20} for r in (500, 1000)]
    book = read(make_run(ratio=TRUTH, loads=loads, blocks=6))
    assert book.grid("cost", "cpu-2")
    assert "; 1 more below)" in book["cost"].answer


def test_a_page_says_who_counted_where_it_was_not_our_own_kernel(make_run: MakeRun, read: Read) -> None:
    def elsewhere(trial: TrialRecord) -> TrialRecord:
        return replace(trial, usage=tuple(replace(u, source="kubelet /metrics/cadvisor") for u in trial.usage))

    assert "working set" not in str(read(make_run())["cost"].parts)
    told = str(read(make_run(edit=elsewhere))["cost"].parts)
    assert "kubelet /metrics/cadvisor counted app" in told
    assert "working set" in told


def test_what_was_not_measured_is_named_with_its_reason(make_run: MakeRun, read: Read) -> None:
    why = "not measured: app-1: 3 of at least 4 samples inside the window"

    def short(trial: TrialRecord) -> TrialRecord:
        usage = tuple(ComponentUsage(u.component, u.window_s, *(None,) * 6, note=why) for u in trial.usage)
        return replace(trial, usage=usage)

    book = read(make_run(edit=short))
    assert book["cost"].answer == "CPU and memory were not measured."
    (row, *_) = (row for row in book.grid("cost", "unmeasured") if row["component"] == "app")
    assert row["why, in the first of them"] == why
