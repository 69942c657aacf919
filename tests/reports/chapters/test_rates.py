"""Capacity: only what the measured rates show, and nothing between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from meshgauge.run import RunRecord
from meshgauge.trial import GateResult, TrialRecord
from reports.gates import evaluate_gates
from reports.readings.rate_curves import RateFamily, rate_families
from reports.readings.trials import Readings

MakeRun = Callable[..., RunRecord]
Read = Callable[[RunRecord], Any]
RATES = (500, 1000, 2000, 4000)
NBSP = "\N{NO-BREAK SPACE}"


def _loads(*rates: int) -> list[dict[str, float]]:
    return [{"rate_rps": r, "connections": 16, "warm_up_s": 3, "window_s": 20, "cool_down_s": 1} for r in rates]


def _saturated(trial: TrialRecord) -> TrialRecord:
    """Return the trial with a third more arrivals than replies."""
    assert trial.load is not None
    load = replace(trial.load, offered=trial.load.offered * 4 // 3)
    return replace(trial, load=load, gates=evaluate_gates(load, trial.usage, (), (), "poisson"), state="invalid")


def _envoy_saturates(trial: TrialRecord) -> TrialRecord:
    return _saturated(trial) if trial.cell.startswith("envoy-1.40.0") and "/4000rps" in trial.cell else trial


def _family(run: RunRecord) -> RateFamily:
    (family,) = rate_families(run, Readings(run))
    return family


def _bracket(family: RateFamily, arm: str) -> tuple[float | None, float | None]:
    return next(curve.bracket for curve in family.curves if curve.arm == arm)


def test_the_highest_rate_lies_between_two_measured_rates(make_run: MakeRun, read: Read) -> None:
    run = make_run(loads=_loads(*RATES), blocks=6, edit=_envoy_saturates)
    family = _family(run)
    assert _bracket(family, "envoy-1.40.0 · mtls") == (2000, 4000)
    assert _bracket(family, "none") == (4000, None)
    assert family.weakest_rps == 2000
    answer = read(run)["rates"].answer
    assert f"envoy-1.40.0 · mtls: between 2000 and 4000{NBSP}rps" in answer
    others = "none, envoy-1.36.4 · mtls, nginx-1.31.0 · mtls and haproxy-2.8.9 · mtls"
    assert f"{others}: at least 4000{NBSP}rps, higher rates were not measured" in answer


def test_an_arm_that_holds_no_rate_is_not_given_one(make_run: MakeRun, read: Read) -> None:
    run = make_run(loads=_loads(500, 1000), blocks=6, edit=lambda t: _saturated(t) if "nginx" in t.cell else t)
    assert _bracket(_family(run), "nginx-1.31.0 · mtls") == (None, 500)
    assert _family(run).weakest_rps == 0
    assert f"nginx-1.31.0 · mtls: less than 500{NBSP}rps, the lowest rate measured" in read(run)["rates"].answer


def test_a_limit_of_the_plan_is_held_but_does_not_move_the_capacity(make_run: MakeRun, read: Read) -> None:
    run = make_run(
        ratio={"envoy-1.36.4": 3.0}, loads=_loads(500, 1000), blocks=6, thresholds=[{"metric": "p99", "at_most": 1.5}]
    )
    family = _family(run)
    assert _bracket(family, "envoy-1.36.4 · mtls") == (None, 500)
    assert family.weakest_rps is None
    assert "tail latency (p99) at most 1.5 ms" in read(run).words("rates")


def test_a_limit_without_where_spares_the_baseline(make_run: MakeRun) -> None:
    family = _family(make_run(loads=_loads(500, 1000), blocks=6, thresholds=[{"metric": "p50", "at_most": 0.01}]))
    assert _bracket(family, "none") == (1000, None)
    assert _bracket(family, "nginx-1.31.0 · mtls") == (None, 500)


def test_a_limit_holds_only_where_the_plan_says(make_run: MakeRun) -> None:
    thresholds = [{"metric": "p99", "at_most": 0.01, "where": {"mesh": "envoy*"}}]
    family = _family(make_run(loads=_loads(500, 1000), blocks=6, thresholds=thresholds))
    assert _bracket(family, "envoy-1.40.0 · mtls") == (None, 500)
    assert _bracket(family, "nginx-1.31.0 · mtls") == (1000, None)


def test_a_trial_whose_instrument_failed_says_nothing_about_the_arm(make_run: MakeRun, read: Read) -> None:
    gate = GateResult("engine_cpu", "invalid", frozenset({"latency"}), 95.0, 80.0, "%", "engine thread: 95 %")

    def edit(trial: TrialRecord) -> TrialRecord:
        return replace(_saturated(trial), gates=(gate,)) if "/1000rps" in trial.cell else trial

    run = make_run(loads=_loads(500, 1000), blocks=6, edit=edit)
    assert _bracket(_family(run), "none") == (500, None)
    assert {p.held for curve in _family(run).curves for p in curve.points if p.rate_rps == 1000} == {None}


def test_two_thirds_of_the_trials_decide(make_run: MakeRun) -> None:
    def saturate(blocks: int) -> Callable[[TrialRecord], TrialRecord]:
        return lambda t: _saturated(t) if "/1000rps" in t.cell and t.block < blocks else t

    assert _bracket(_family(make_run(loads=_loads(500, 1000), blocks=6, edit=saturate(2))), "none") == (1000, None)
    assert _bracket(_family(make_run(loads=_loads(500, 1000), blocks=6, edit=saturate(3))), "none") == (500, 1000)


def test_loads_that_differ_in_more_than_the_rate_make_no_curve(make_run: MakeRun, read: Read) -> None:
    loads = [*_loads(500), {**_loads(1000)[0], "connections": 32}]
    assert "rates" not in read(make_run(loads=loads, blocks=6))


def test_levels_are_those_of_valid_trials_and_invalid_points_are_marked(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(loads=_loads(*RATES), blocks=6, edit=_envoy_saturates))
    rows = [r for r in book.grid("rates", "rates-1") if r["arm"] == "envoy-1.40.0 · mtls"]
    assert rows[-1]["p50 [95 % interval], ms"] == "–"
    assert rows[-1]["remark"] == "saturated: it does not keep up"
    assert rows[-1]["valid trials"] == "0 of 6"
    (page,) = book.figures("rates")
    marked = [row for row in page.rows if row["trials_valid"] == 0]
    assert {row["latency_ms"] for row in marked} == {None}
    assert all(float(row["seen_in_all_trials_ms"] or 0) > 0 for row in marked)


def test_the_figure_shades_from_seventy_per_cent_of_the_weakest_arm(make_run: MakeRun, read: Read) -> None:
    (page,) = read(make_run(loads=_loads(*RATES), blocks=6, edit=_envoy_saturates)).figures("rates")
    figure = page.draw()
    shaded = [
        patch.get_extents().transformed(axes.transData.inverted()) for axes in figure.axes for patch in axes.patches
    ]
    assert [box.x0 for box in shaded] == pytest.approx([1400] * 3)
    calm = read(make_run(loads=_loads(*RATES), blocks=6)).figures("rates")[0].draw()
    assert not any(axes.patches for axes in calm.axes)
