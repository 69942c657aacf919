"""Early looks: at the declared numbers of valid blocks only, at the level they need, with the interval they need."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pydantic
import pytest

from meshgauge.matrix import MeshArm
from meshgauge.plan import LOOKS
from meshgauge.run import RunRecord
from meshgauge.trial import GateResult, TrialRecord
from reports.analysis import Analysis, analyse
from reports.comparing.comparison import Comparison
from reports.comparing.sequential import LOOK_ALPHA, decide, look_at
from reports.comparing.statistics import trimmed_effect
from reports.summary import to_json
from reports.wording import level_name

MakeRun = Callable[..., RunRecord]
Edit = Callable[[TrialRecord], TrialRecord | None]


@pytest.fixture
def make_sequential(make_run: MakeRun, make_arm: Callable[..., MeshArm]) -> Callable[..., RunRecord]:
    """Make a sequential run of one mesh against none, of which so many blocks are over."""

    def make(over: int, *, edit: Edit | None = None, world: Mapping[str, Any] | None = None, **more: Any) -> RunRecord:
        def only_so_far(trial: TrialRecord) -> TrialRecord | None:
            if trial.block >= over:
                return replace(trial, state="pending", load=None, usage=(), gates=(), started_at=None)
            return edit(trial) if edit else trial

        arms = (make_arm("none"), make_arm("envoy", "envoy"))
        return make_run(arms, blocks=20, sequential=True, edit=only_so_far, world=world, **more)

    return make


def _primary(analysis: Analysis, metric: str = "p50") -> Comparison:
    return next(c for answer in analysis.answers for c in answer.comparisons if c.metric.name == metric)


def _decision(run: RunRecord) -> Any:
    return decide([c for answer in analyse(run).answers for c in answer.comparisons])


def _latency_lost(trial: TrialRecord) -> TrialRecord:
    bad = GateResult("drift", "invalid", frozenset({"latency"}), 30.0, 10.0, "%", "drift 30 %")
    return replace(trial, state="invalid", gates=(bad,)) if trial.block == 4 else trial


def test_looks_are_those_declared_and_no_others() -> None:
    assert [look_at(n) for n in (0, 5, 6, 9, 10, 14, 15, 19, 20, 26)] == [None, None, 6, 6, 10, 10, 15, 15, 20, 20]


@pytest.mark.parametrize(("over", "look"), [(6, 6), (8, 6), (10, 10), (13, 10), (19, 15), (20, 20)])
def test_a_look_uses_its_blocks_and_never_more(make_sequential: MakeRun, over: int, look: int) -> None:
    c = _primary(analyse(make_sequential(over, ratio={"envoy": 1.1})))
    assert (c.look, c.n, c.blocks) == (look, look, tuple(range(look)))
    fixed = trimmed_effect(c.differences)
    assert c.effect == fixed


def test_before_the_first_look_there_is_an_interval_and_no_verdict(make_sequential: MakeRun) -> None:
    c = _primary(analyse(make_sequential(5, ratio={"envoy": 2.0})))
    assert c.verdict is not None
    assert (c.verdict.word, c.look, c.n) == ("invalid", None, 5)
    assert c.verdict.reason == "5 valid blocks so far; the first look is at 6"
    assert c.interval is not None


def test_every_interval_is_of_the_level_that_looks_need_and_says_so(make_sequential: MakeRun) -> None:
    analysis = analyse(make_sequential(10, ratio={"envoy": 1.3}))
    c = _primary(analysis)
    assert c.effect is not None
    assert c.interval == c.effect.interval(0.982)
    assert level_name(analysis.alpha) == "98.2 %".replace(" ", "\N{NO-BREAK SPACE}")
    summary = to_json(analysis)
    assert summary["level"] == pytest.approx(0.982)
    assert {row["level"] for row in summary["results"]} == {1 - LOOK_ALPHA}
    assert any("98.2 %" in remark.text and "p < 0.018" in remark.text for remark in analysis.remarks)


def test_a_run_of_fixed_length_keeps_its_level(make_run: MakeRun) -> None:
    summary = to_json(analyse(make_run(blocks=6)))
    assert summary["level"] == 0.95
    assert {(row["level"], row["look"]) for row in summary["results"]} == {(0.95, None)}


def test_an_invalid_block_puts_the_look_off_and_a_later_block_takes_its_place(make_sequential: MakeRun) -> None:
    bad = GateResult("steal_mean", "invalid", frozenset({"latency"}), 30.0, 10.0, "%", "host steal 30 %")

    def spoiled(trial: TrialRecord) -> TrialRecord:
        hit = trial.block == 2 and trial.cell.startswith("none/")
        return replace(trial, state="invalid", gates=(bad,)) if hit else trial

    six, seven = (_primary(analyse(make_sequential(over, edit=spoiled))) for over in (6, 7))
    assert (six.n, six.look) == (5, None)
    assert (seven.blocks, seven.look, seven.tried) == ((0, 1, 3, 4, 5, 6), 6, 7)
    assert _primary(analyse(make_sequential(7, edit=spoiled)), "cpu").blocks == (0, 1, 2, 3, 4, 5)


def test_a_block_still_open_is_never_overtaken_by_a_later_one(make_sequential: MakeRun) -> None:
    def open_third(trial: TrialRecord) -> TrialRecord:
        return replace(trial, state="pending", load=None) if trial.block == 3 else trial

    c = _primary(analyse(make_sequential(9, edit=open_third)))
    assert c.blocks == (0, 1, 2)


def test_too_many_lost_blocks_give_no_verdict_at_a_look(make_sequential: MakeRun) -> None:
    def half(trial: TrialRecord) -> TrialRecord:
        bad = GateResult("steal_mean", "invalid", frozenset({"latency"}), 30.0, 10.0, "%", "steal")
        return replace(trial, state="invalid", gates=(bad,)) if trial.block % 2 else trial

    c = _primary(analyse(make_sequential(11, edit=half)))
    assert c.verdict is not None
    assert (c.look, c.verdict.word) == (6, "invalid")
    assert "6 of 11" in c.verdict.reason


def test_a_run_stops_when_everything_is_decided_and_not_before(make_sequential: MakeRun) -> None:
    decided = _decision(make_sequential(6, ratio={"envoy": 1.5}, cores={"envoy": 0.4}))
    assert decided.stop
    assert decided.sentence == (
        "stopped at the look at 6 valid blocks: all 3 results are decided, the remaining blocks are not needed"
    )
    early = _decision(make_sequential(5, ratio={"envoy": 1.5}))
    assert (early.stop, early.sentence) == (False, "no look yet: the first is at 6 valid blocks")
    some = _decision(make_sequential(6, ratio={"envoy": 1.5}, cores={"envoy": 0.4}, edit=_latency_lost))
    assert some.sentence == (
        "look at 6 valid blocks: 1 of 3 results are decided, 2 still wait for their first look, so it goes on"
    )
    noisy = _decision(make_sequential(6, world={"run_sd": 0.1}))
    assert not noisy.stop
    assert "so it goes on" in noisy.sentence


def test_a_run_of_which_nothing_can_be_judged_is_not_stopped(make_sequential: MakeRun) -> None:
    assert not _decision(make_sequential(10, loads=[{"loop": "closed", "window_s": 20}])).stop


def test_a_percentile_that_no_block_will_ever_have_does_not_keep_a_run_going(make_sequential: MakeRun) -> None:
    """Windows of 8000 requests have no p99: the run stops when p50 and CPU are decided."""
    decision = _decision(make_sequential(6, ratio={"envoy": 1.5}, cores={"envoy": 0.4}, world={"requests": 8000}))
    assert decision.stop
    assert decision.primary == 3


def test_stopped_early_is_no_unfinished_run(make_sequential: MakeRun) -> None:
    run = make_sequential(6, ratio={"envoy": 1.5}, cores={"envoy": 0.4})
    trials = tuple(replace(t, state="cancelled") if t.state == "pending" else t for t in run.trials)
    analysis = analyse(replace(run, trials=trials))
    c = _primary(analysis)
    assert c.verdict is not None
    assert (c.verdict.word, c.n, c.losses) == ("slower", 6, ())
    assert not any("planned blocks have measured trials" in remark.text for remark in analysis.remarks)
    assert any("Stopped at the look at 6 valid blocks" in remark.text for remark in analysis.remarks)


def test_a_run_that_went_to_its_end_says_how_much_is_decided(make_sequential: MakeRun) -> None:
    said = [remark.text for remark in analyse(make_sequential(20, world={"run_sd": 0.15})).remarks]
    assert any("of 3 are decided." in text and "goes on" not in text for text in said)


def test_equivalence_takes_the_same_level_on_either_side(make_sequential: MakeRun) -> None:
    c = _primary(analyse(make_sequential(20, world={"run_sd": 0.012}, margins={"p50_ratio": 0.02})))
    assert c.effect is not None
    assert c.verdict is not None
    narrow = c.effect.interval(1 - 2 * LOOK_ALPHA)
    assert narrow is not None
    assert (c.verdict.word == "equivalent") == narrow.inside(math.log1p(0.02))


def test_a_plan_with_looks_needs_the_blocks_of_the_last(make_run: MakeRun) -> None:
    with pytest.raises(pydantic.ValidationError, match=r"set blocks: 20 \(not 10\), or leave sequential out"):
        make_run(blocks=10, sequential=True)
    assert make_run(blocks=20, sequential=True).plan.blocks == LOOKS[-1]
