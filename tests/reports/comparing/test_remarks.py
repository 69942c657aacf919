"""Alarms and odd results are said, and calm runs are left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from meshgauge.histogram import Histogram
from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.analysis import analyse
from reports.comparing.remarks import AA_ALARM_P
from reports.gates import evaluate_gates

MakeRun = Callable[..., RunRecord]
MakeArm = Callable[..., MeshArm]


def _said(run: RunRecord) -> str:
    return " | ".join(remark.text for remark in analyse(run).remarks)


def test_a_calm_run_needs_no_remark(make_run: MakeRun) -> None:
    truth = {"envoy-1.40.0": 1.5, "envoy-1.36.4": 1.5, "nginx-1.31.0": 1.2, "haproxy-2.8.9": 1.1}
    analysis = analyse(make_run(ratio=truth))
    assert (analysis.remarks, analysis.indicative, analysis.withheld) == ((), None, None)


def test_a_twin_outside_its_99_percent_interval_is_warned_of_before_it_is_an_alarm(
    make_run: MakeRun, make_arm: MakeArm
) -> None:
    """One result of forty below 1 % withholds nothing, and is said."""
    arms = (make_arm("none"), make_arm("none-again"))
    loads = [{"rate_rps": 500 + 10 * i, "window_s": 20} for i in range(14)]

    def slower_at_one_load(trial: TrialRecord) -> TrialRecord:
        load = trial.load
        if load is None or "none-again" not in trial.cell or "/500rps" not in trial.cell:
            return trial
        shifted = Histogram(np.roll(load.clock("net").counts, 60))
        return replace(trial, load=replace(load, histograms={**load.histograms, ("ok", "net"): shifted}))

    said = analyse(make_run(arms, loads=loads, blocks=6, edit=slower_at_one_load)).remarks
    assert not any(remark.severity == "alarm" for remark in said)
    (found,) = (remark for remark in said if "differs from itself" in remark.text)
    assert found.severity == "warning"
    assert "none-again vs none in median latency (p50)" in found.text


def test_a_small_host_makes_everything_indicative_and_is_named(make_run: MakeRun) -> None:
    reason = analyse(make_run(host_cores=2)).indicative
    assert reason is not None
    assert "bench-1 has 2" in reason


def test_a_small_host_is_also_known_from_an_environments_facts(make_run: MakeRun) -> None:
    run = make_run(blocks=6)
    facts = {"host": {"cores_usable": 2}}
    told = tuple(replace(e, provenance=facts) for e in run.environments)
    assert "bench-1 has 2" in (analyse(replace(run, environments=told, provenance={})).indicative or "")


def test_a_host_that_did_not_tell_its_cores_is_named(make_run: MakeRun) -> None:
    assert "The number of cores of bench-1 is not known" in _said(replace(make_run(), provenance={}))


def test_a_mesh_faster_than_no_mesh_is_flagged_for_a_look(make_run: MakeRun) -> None:
    assert "haproxy-2.8.9 · mtls (reply-1k, local, 1000rps-16c) is faster than no mesh" in _said(
        make_run(ratio={"haproxy-2.8.9": 0.8})
    )


def _slowed_by_position(trial: TrialRecord) -> TrialRecord:
    load = trial.load
    assert load is not None
    net = load.clock("net")
    middles = (net.quantile_ns(0.5) or 0) * math.exp(0.05 * trial.position)
    shifted = Histogram.of([round(middles * math.exp(0.2 * (i - 10_000) / 10_000)) for i in range(20_000)])
    return replace(trial, load=replace(load, histograms={**load.histograms, ("ok", "net"): shifted}))


def test_a_position_effect_is_found_with_its_size(make_run: MakeRun) -> None:
    said = _said(make_run(edit=_slowed_by_position))
    assert "Position effect: p50 changes by +" in said
    size = float(said.split("changes by +")[1].split(" %")[0])
    assert size == pytest.approx(100 * math.expm1(0.05), abs=1.5)


def test_a_noisy_baseline_is_flagged(make_run: MakeRun) -> None:
    assert "Noisy host: without a mesh p99 is" in _said(make_run(world={"spread": 0.9}))


def test_an_envoy_with_impossible_cost_or_memory_is_noted(make_run: MakeRun) -> None:
    assert "data_plane/client uses 0.010 cores per 1000 rps" in _said(make_run(cores={"envoy-1.40.0": 0.01}))

    def bloated(trial: TrialRecord) -> TrialRecord:
        return replace(trial, usage=tuple(replace(u, memory_mean_bytes=2.0**30) for u in trial.usage))

    assert "data_plane/server holds 1024 MiB" in _said(make_run(edit=bloated))


def test_an_envoy_pair_that_adds_more_than_five_milliseconds_is_flagged(make_run: MakeRun) -> None:
    assert "adds 7." in _said(make_run(ratio={"envoy-1.40.0": 21.0}, world={"base_us": 360.0}))


def test_features_that_make_a_mesh_faster_are_flagged(make_run: MakeRun, make_arm: MakeArm) -> None:
    run = make_run(
        (make_arm("none"), make_arm("nginx", "nginx")), profiles=["plain", "mtls"], profile_ratio={"mtls": 0.8}
    )
    assert "nginx · mtls vs plain (reply-1k, local, 1000rps-16c): more features, yet faster" in _said(run)


@pytest.mark.parametrize(
    ("state", "said"),
    [("failed", "The run failed: the disk is full."), ("cancelled", "The run was cancelled: the disk is full.")],
)
def test_an_unfinished_run_says_why_and_what_is_there(make_run: MakeRun, state: str, said: str) -> None:
    run = replace(make_run(edit=lambda t: t if t.block < 2 else None, state=state), reason="the disk is full")
    first = analyse(run).remarks[0]
    assert first.severity == "alarm"
    assert first.text == f"{said} 10 trials were measured so far, and are shown."


def test_a_host_tuned_differently_for_some_arms_is_an_alarm(make_run: MakeRun) -> None:
    run = make_run()
    tuned = tuple(
        replace(e, provenance={"tuning": {"idle_spinners": e.key.startswith("none/"), "fifo_priority": None}})
        for e in run.environments
    )
    assert "not tuned alike for all arms" in _said(replace(run, environments=tuned))
    alike = tuple(replace(e, provenance={"tuning": {"idle_spinners": True}}) for e in run.environments)
    assert "tuned" not in _said(replace(run, environments=alike))


def test_engines_other_than_the_native_one_are_named(make_run: MakeRun) -> None:
    def stand_in(trial: TrialRecord) -> TrialRecord:
        assert trial.load is not None
        return replace(trial, load=replace(trial.load, engine="python"))

    assert "pure-Python engine" in _said(make_run(edit=stand_in))


@pytest.mark.parametrize(("comparisons", "limit"), [(20, 4), (40, 6), (100, 11)])
def test_the_aa_alarms_bound_gives_the_protocols_limits(comparisons: int, limit: int) -> None:
    assert stats.binom.sf(limit - 1, comparisons, 0.05) <= AA_ALARM_P < stats.binom.sf(limit - 2, comparisons, 0.05)


def test_trials_left_out_for_their_nodes_are_told_with_what_to_do(make_run: MakeRun) -> None:
    def moved(trial: TrialRecord) -> TrialRecord:
        stood = {"app": ["n1"] if trial.block != 1 or trial.cell.startswith("none/") else ["n9"]}
        assert trial.load is not None
        return replace(trial, gates=evaluate_gates(trial.load, (), (), (), "poisson", (), stood, {"app": ["n1"]}))

    assert "other nodes" not in _said(make_run(blocks=6))
    said = _said(make_run(blocks=6, edit=moved))
    assert "(block 2) stood on other nodes than the first of their block" in said
    assert "app_nodes" in said
