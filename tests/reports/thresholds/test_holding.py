"""Thresholds held against runs whose truth is known: passed, failed, undecided, and confirmed on fresh blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from meshgauge.errors import InvalidPlanError, MeasurementError
from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.analysis import analyse
from reports.readings.metrics import METRIC_OF
from reports.readings.trials import Readings
from reports.thresholds.holding import hold
from reports.thresholds.outcome import Check, Outcome

Runs = Callable[..., RunRecord]
P50_AT_MOST_1 = {"metric": "p50", "at_most": 1.0}
NOT_WORSE = {"metric": "p50", "worse_by_at_most": 5}


def held(run: RunRecord, fresh: RunRecord | None = None) -> Outcome:
    return hold(analyse(run), None if fresh is None else analyse(fresh))


def only(outcome: Outcome) -> Check:
    (check,) = outcome.checks
    return check


# Levels.


def test_a_level_is_held_for_every_cell_but_the_baseline(run_with: Runs) -> None:
    outcome = held(run_with(P50_AT_MOST_1))
    assert [check.arm for check in outcome.checks] == ["envoy-1.39.0", "envoy-1.40.0"]
    assert outcome.status == "passed"
    assert outcome.sentence == "Passed: all 2 checks keep their thresholds."


def test_the_baseline_counts_when_it_is_named(run_with: Runs) -> None:
    outcome = held(run_with({**P50_AT_MOST_1, "where": {"mesh": "none"}}))
    assert only(outcome).arm == "none"


def test_the_interval_of_a_level_is_the_t_interval_of_its_blocks(run_with: Runs) -> None:
    run = run_with({**P50_AT_MOST_1, "where": {"mesh": "envoy-1.40.0"}}, blocks=8)  # below 10 nothing is trimmed
    cell = next(cell for cell in run.cells if cell.environment.mesh.label == "envoy-1.40.0")
    values = [
        math.log(turn.value(METRIC_OF["p50"]) or math.nan)
        for turns in Readings(run).blocks_of(cell).values()
        for turn in turns
    ]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    check = only(held(run))
    assert (check.low, check.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert check.value == pytest.approx(math.exp(np.mean(values)))
    assert (check.n, check.unit, check.level) == (8, "ms", 0.95)


@pytest.mark.parametrize(
    ("bound", "limit", "status"),
    [
        ("at_most", 1.0, "passed"), ("at_most", 0.2, "failed"),
        ("at_least", 0.2, "passed"), ("at_least", 1.0, "failed"),
        ("at_most", 0.0, "failed"), ("at_least", 0.0, "passed"), ("at_most", -1.0, "failed"),
    ],
)  # fmt: skip
def test_a_level_passes_when_its_whole_interval_keeps_the_limit(
    run_with: Runs, bound: str, limit: float, status: str
) -> None:
    check = only(held(run_with({"metric": "p50", bound: limit, "where": {"mesh": "envoy-1.40.0"}})))
    assert check.status == status


def test_a_limit_inside_the_interval_is_undecided_and_says_how_many_blocks_would_do(run_with: Runs) -> None:
    where = {"mesh": "envoy-1.40.0"}
    seen = only(held(run_with({**P50_AT_MOST_1, "where": where})))
    assert seen.value is not None
    assert seen.high is not None
    check = only(held(run_with({"metric": "p50", "at_most": (seen.value + seen.high) / 2, "where": where})))
    assert check.status == "undecided"
    assert check.blocks_needed is not None
    assert check.blocks_needed > check.n
    assert f"about {check.blocks_needed} blocks" in check.sentence


def test_too_few_valid_blocks_decide_nothing(run_with: Runs) -> None:
    check = only(held(run_with({**P50_AT_MOST_1, "where": {"mesh": "envoy-1.40.0"}}, blocks=5)))
    assert check.status == "undecided"
    assert "5 of 5 planned blocks are valid; a verdict needs 6" in check.sentence
    assert check.value is not None, "seen, though it decides nothing"


def test_what_was_not_measured_is_undecided_and_never_0(run_with: Runs) -> None:
    check = only(held(run_with({"metric": "cpu_control_plane", "at_most": 1, "where": {"mesh": "envoy-1.40.0"}})))
    assert (check.status, check.value, check.low, check.high) == ("undecided", None, None, None)
    assert "not measured" in check.sentence


def test_latency_of_a_closed_loop_is_undecided(run_with: Runs) -> None:
    closed = {"loop": "closed", "connections": 4, "warm_up_s": 1, "window_s": 10, "cool_down_s": 0}
    check = only(held(run_with({**P50_AT_MOST_1, "where": {"mesh": "envoy-1.40.0"}}, loads=[closed])))
    assert check.status == "undecided"
    assert "Closed loop" in check.sentence


# Worsenings.


def test_a_release_as_quick_as_the_one_before_passes(run_with: Runs) -> None:
    outcome = held(run_with(NOT_WORSE))
    check = only(outcome)
    assert (check.arm, check.against, outcome.status) == ("envoy-1.40.0", "envoy-1.39.0", "passed")
    assert check.level == pytest.approx(0.9)
    assert check.high is not None
    assert check.high < 5


def test_the_interval_is_that_of_the_report_at_90_per_cent(run_with: Runs) -> None:
    analysis = analyse(run_with(NOT_WORSE, new=1.02))
    answer = next(answer for answer in analysis.answers if answer.question.key == "release")
    effect = next(c.effect for c in answer.comparisons if c.metric.name == "p50")
    assert effect is not None
    expected = effect.interval(0.9)
    check = only(hold(analysis))
    assert expected is not None
    assert check.low == pytest.approx(100 * math.expm1(expected.low))
    assert check.high == pytest.approx(100 * math.expm1(expected.high))


def test_what_the_first_run_finds_is_failed_and_unconfirmed(run_with: Runs) -> None:
    outcome = held(run_with(NOT_WORSE, new=1.12))
    check = only(outcome)
    assert (check.status, check.confirmation, check.word) == ("failed", "unconfirmed", "failed (unconfirmed)")
    assert outcome.status == "failed"
    assert outcome.sentence.startswith("Failed (unconfirmed)")
    assert {key.split("/")[0] for key in outcome.to_confirm} == {"envoy-1.40.0", "envoy-1.39.0"}


def test_fresh_blocks_that_agree_confirm_it_and_give_the_number(run_with: Runs, fresh_of: Runs) -> None:
    first, again = run_with(NOT_WORSE, new=1.12, seed=1), run_with(NOT_WORSE, new=1.12, seed=2)
    fresh = fresh_of(again)
    check = only(held(first, fresh))
    assert (check.status, check.confirmation) == ("failed", "confirmed")
    assert check.value == pytest.approx(only(held(again)).value)
    assert check.value != pytest.approx(only(held(first)).value)
    assert "confirmed by run fresh-ru" in check.sentence
    assert held(first, fresh).to_confirm == ()


def test_fresh_blocks_that_show_nothing_make_it_pass(run_with: Runs, fresh_of: Runs) -> None:
    outcome = held(run_with(NOT_WORSE, new=1.12), fresh_of(run_with(NOT_WORSE, new=1.0, seed=2)))
    check = only(outcome)
    assert (check.status, check.confirmation) == ("passed", "not reproduced")
    assert "of the first run not confirmed" in check.sentence


def test_fresh_blocks_without_a_verdict_leave_it_unconfirmed(run_with: Runs, fresh_of: Runs) -> None:
    outcome = held(run_with(NOT_WORSE, new=1.12), fresh_of(run_with(NOT_WORSE, new=1.12, seed=2, blocks=4)))
    check = only(outcome)
    assert (check.status, check.confirmation) == ("failed", "unconfirmed")
    assert "4 of 4 planned blocks are valid" in check.sentence
    assert outcome.to_confirm


def test_other_versions_confirm_nothing(run_with: Runs, fresh_of: Runs, make_arm: Callable[..., MeshArm]) -> None:
    first = run_with(NOT_WORSE, new=1.12)
    moved = (make_arm("none"), make_arm("envoy-1.39.0", "envoy", "1.39.0"), make_arm("envoy-1.40.0", "envoy", "1.40.1"))
    check = only(held(first, fresh_of(run_with(NOT_WORSE, new=1.12, seed=2, arms=moved))))
    assert check.word == "failed (unconfirmed)"
    assert "does not have this pair" in check.sentence


def test_blocks_of_before_the_first_run_ended_confirm_nothing(run_with: Runs) -> None:
    first = run_with(NOT_WORSE, new=1.12)
    with pytest.raises(MeasurementError, match="only fresh blocks confirm"):
        held(first, replace(run_with(NOT_WORSE, new=1.12, seed=2), run_id="other"))


def test_six_blocks_screen_at_ten_per_cent_and_ten_at_five(run_with: Runs) -> None:
    """Between the two levels lies a finding that six blocks pass on, and ten do not."""
    found = {6: 0, 10: 0}
    for blocks in found:
        for seed in range(40):
            check = only(held(run_with({"metric": "p50", "worse_by_at_most": 1}, new=1.025, blocks=blocks, seed=seed)))
            assert check.p is not None
            assert (check.status == "failed") == (check.p < (0.10 if blocks == 6 else 0.05))
            found[blocks] += 0.05 < check.p < 0.10
    assert all(found.values()), "the example shows nothing"


def test_without_confirmation_the_first_run_decides_alone_after_adjustment(run_with: Runs) -> None:
    limits = [1, 2, 3, 6, 8, 9, 12]
    thresholds = [{"metric": "p50", "worse_by_at_most": limit} for limit in limits]
    outcome = held(run_with(*thresholds, new=1.08, confirm_blocks=0))
    ps = [check.p for check in outcome.checks]
    assert all(p is not None for p in ps)
    expected = stats.false_discovery_control(np.array(ps, dtype=float))
    assert [check.p_adjusted for check in outcome.checks] == pytest.approx(list(expected))
    for check, q in zip(outcome.checks, expected, strict=True):
        assert (check.status == "failed") == (q <= 0.05)
        assert check.confirmation is None
    assert {check.status for check in outcome.checks} == {"failed", "undecided", "passed"}


def test_fewer_replies_are_worse_and_quicker_ones_are_not(make_run: Any, run_with: Runs) -> None:
    def slower(trial: TrialRecord) -> TrialRecord:
        if trial.load is None or not trial.cell.startswith("envoy-1.40.0"):
            return trial
        return replace(trial, load=replace(trial.load, window_s=trial.load.window_s * 2))

    rate = {"metric": "achieved_rps", "worse_by_at_most": 5}
    check = only(held(run_with(rate, edit=slower, confirm_blocks=0)))
    assert check.status == "failed"
    assert check.value == pytest.approx(50, abs=0.5), "half of the replies is 50 % worse"
    assert only(held(run_with(rate))).status == "passed"
    assert only(held(run_with(NOT_WORSE, new=0.7))).status == "passed"


def test_what_is_bounded_in_per_cent_is_compared_as_a_ratio(run_with: Runs) -> None:
    dearer = {"envoy-1.39.0": 0.20, "envoy-1.40.0": 0.25}
    check = only(held(run_with({"metric": "cpu_data_plane", "worse_by_at_most": 10}, cores=dearer, confirm_blocks=0)))
    assert check.status == "failed"
    assert check.unit == "%"
    assert check.value == pytest.approx(25, abs=3)


def test_errors_are_bounded_in_points(run_with: Runs) -> None:
    check = only(held(run_with({"metric": "errors", "worse_by_at_most": 0.1})))
    assert (check.status, check.unit, check.value) == ("passed", "% points", 0)


def test_verdicts_withheld_by_the_aa_alarm_decide_nothing(run_with: Runs) -> None:
    analysis = replace(analyse(run_with(NOT_WORSE, new=1.2)), withheld="4 of 20 A/A comparisons differ")
    outcome = hold(analysis)
    assert only(outcome).status == "undecided"
    assert "4 of 20 A/A comparisons differ" in only(outcome).sentence
    assert any("withheld" in remark for remark in outcome.remarks)


def test_a_failure_outweighs_what_is_undecided_and_that_what_passed(run_with: Runs) -> None:
    passing, failing = P50_AT_MOST_1, {"metric": "p50", "at_most": 0.1}
    unknown = {"metric": "cpu_control_plane", "at_most": 1}
    assert held(run_with(passing)).status == "passed"
    assert held(run_with(passing, unknown)).status == "undecided"
    assert held(run_with(passing, unknown, failing)).status == "failed"


def test_a_run_that_is_not_over_says_so(run_with: Runs) -> None:
    run = replace(run_with(P50_AT_MOST_1), finished_at=None, state="running", trials=())
    outcome = held(run)
    assert outcome.status == "undecided"
    assert "not over yet" in outcome.remarks[0]


def test_a_sequential_run_that_stopped_early_is_judged_at_its_own_level(run_with: Runs) -> None:
    def stopped(trial: TrialRecord) -> TrialRecord:
        return trial if trial.block < 6 else replace(trial, state="cancelled", load=None, usage=(), gates=())

    run = run_with(P50_AT_MOST_1, NOT_WORSE, new=1.2, blocks=20, sequential=True, edit=stopped)
    level, _, worsening = held(run).checks
    assert (level.status, level.n, level.planned) == ("passed", 6, 6)
    assert level.level == pytest.approx(0.982)
    assert (worsening.word, worsening.n) == ("failed (unconfirmed)", 6)
    assert worsening.level == pytest.approx(0.964)


# What the plan has to say.


def test_a_plan_without_thresholds_is_told_how_to_write_one(run_with: Runs) -> None:
    with pytest.raises(InvalidPlanError, match="at_most: 5"):
        held(run_with())


@pytest.mark.parametrize(
    ("threshold", "told"),
    [
        ({"metric": "p50", "at_most": 1, "where": {"mesh": "envoi-*"}}, "selects no cell"),
        ({"metric": "p50", "worse_by_at_most": 1, "against": "application"}, "a workload with two commands"),
        ({"metric": "memory_data_plane", "worse_by_at_most": 1, "against": "baseline"}, "there are no proxies"),
    ],
)
def test_a_threshold_that_holds_nothing_never_passes(run_with: Runs, threshold: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidPlanError, match=told) as refused:
        held(run_with(P50_AT_MOST_1, threshold))
    assert refused.value.problems[0].path.startswith("thresholds[1]")


def test_a_confirmation_needs_enough_blocks(run_with: Runs) -> None:
    with pytest.raises(ValueError, match="3 blocks confirm nothing"):
        run_with(NOT_WORSE, confirm_blocks=3)


def test_the_whole_outcome_is_json(run_with: Runs) -> None:
    document = held(run_with(P50_AT_MOST_1, NOT_WORSE, new=1.12)).to_json()
    assert document["counts"] == {"passed": 2, "failed": 1, "undecided": 0}
    assert document["checks"][2]["word"] == "failed (unconfirmed)"
    assert document["versions"]["envoy-1.40.0"] == "client envoy 1.40.0, server envoy 1.40.0"


# Error rates, by simulation with fixed seeds.


def test_a_gate_that_confirms_rarely_fails_a_release_at_its_very_limit(run_with: Runs, fresh_of: Runs) -> None:
    """A true worsening of exactly the limit: screen at 5 %, then confirmation at 5 %, so about 1 in 400."""
    screens, failures = 0, 0
    for seed in range(60):
        first = run_with(NOT_WORSE, new=1.05, seed=seed)
        if held(first).to_confirm:
            screens += 1
            failures += held(first, fresh_of(run_with(NOT_WORSE, new=1.05, seed=1000 + seed))).status == "failed"
    assert screens <= 8, "60 x .05 = 3 expected"
    assert failures <= 1
