"""Screen, then confirm: fresh blocks only, the same direction, the fresh estimate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest
from scipy import stats

from meshgauge.errors import MeasurementError
from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from reports.analysis import Analysis, analyse
from reports.comparing.confirmation import analyse_confirming, confirm, is_survivor, survivors

MakeRun = Callable[..., RunRecord]
MakeArm = Callable[..., MeshArm]
DAY = dt.timedelta(days=1)
TRUTH = {"envoy-1.40.0": 1.5, "nginx-1.31.0": 1.3}


def _later(run: RunRecord) -> RunRecord:
    """Return the run as if made a day later, under another id."""
    trials = tuple(replace(t, started_at=t.started_at + DAY) if t.started_at else t for t in run.trials)
    finished = run.finished_at + DAY if run.finished_at else None
    return replace(run, run_id="0190f0c2-7d3a-7000-8000-000000000002", trials=trials, finished_at=finished)


@pytest.fixture
def make_pair(make_run: MakeRun) -> Callable[..., tuple[RunRecord, RunRecord]]:
    """Make a screening run and a later one of the same arms; ``again`` is true in the later one."""

    def make(truth: dict[str, float], again: dict[str, float], blocks: int = 10) -> tuple[RunRecord, RunRecord]:
        return make_run(ratio=truth, blocks=blocks, seed=1), _later(make_run(ratio=again, blocks=10, seed=2))

    return make


def _outcomes(screen: RunRecord, fresh: RunRecord) -> dict[tuple[str, str], str]:
    found = confirm(analyse(screen), analyse(fresh))
    return {(c.screened.pair.label, c.screened.metric.name): c.outcome for c in found}


def test_what_is_true_is_confirmed_and_published_with_the_fresh_estimate(
    make_pair: Callable[..., tuple[RunRecord, RunRecord]],
) -> None:
    screen, fresh = make_pair(TRUTH, TRUTH)
    found = {(c.screened.pair.label, c.screened.metric.name): c for c in confirm(analyse(screen), analyse(fresh))}
    mine = found["envoy-1.40.0 · mtls", "p50"]
    alone = next(
        c
        for c in analyse(fresh).answers[0].comparisons
        if c.pair.label == "envoy-1.40.0 · mtls" and c.metric.name == "p50"
    )
    assert mine.outcome == "confirmed"
    assert mine.fresh is not None
    assert mine.fresh.differences == alone.differences
    assert mine.fresh.differences != mine.screened.differences
    assert mine.fresh.verdict is not None
    assert (mine.fresh.verdict.word, "unconfirmed" in mine.fresh.verdict.flags) == ("slower", False)


def test_significance_is_adjusted_among_the_survivors_alone(
    make_pair: Callable[..., tuple[RunRecord, RunRecord]],
) -> None:
    screen, fresh = make_pair(TRUTH, TRUTH)
    found = [c.fresh for c in confirm(analyse(screen), analyse(fresh))]
    ps = [c.p for c in found if c is not None and c.p is not None]
    assert len(ps) == len(found) == len(survivors(analyse(screen)))
    oracle = stats.false_discovery_control(ps).tolist()
    assert [c.p_adjusted for c in found if c is not None] == pytest.approx(oracle)


def test_what_is_gone_on_fresh_blocks_is_not_confirmed(make_pair: Callable[..., tuple[RunRecord, RunRecord]]) -> None:
    outcomes = _outcomes(*make_pair(TRUTH, {"nginx-1.31.0": 1.3}))
    assert outcomes["envoy-1.40.0 · mtls", "p50"] == "not confirmed"
    assert outcomes["nginx-1.31.0 · mtls", "p50"] == "confirmed"


def test_a_difference_in_the_other_direction_is_not_confirmed(
    make_pair: Callable[..., tuple[RunRecord, RunRecord]],
) -> None:
    screen, fresh = make_pair(TRUTH, {"envoy-1.40.0": 0.6})
    found = confirm(analyse(screen), analyse(fresh))
    mine = next(c for c in found if (c.screened.pair.label, c.screened.metric.name) == ("envoy-1.40.0 · mtls", "p50"))
    assert mine.outcome == "not confirmed"
    assert mine.reason.endswith("in the other direction.")


def test_blocks_that_began_before_the_screen_ended_are_refused(make_run: MakeRun) -> None:
    screen = make_run(ratio=TRUTH)
    other = replace(make_run(ratio=TRUTH, seed=2), run_id="0190f0c2-7d3a-7000-8000-000000000002")
    with pytest.raises(MeasurementError, match="only fresh blocks confirm"):
        confirm(analyse(screen), analyse(other))
    with pytest.raises(MeasurementError, match="cannot confirm"):
        confirm(analyse(screen), analyse(screen))
    unfinished = replace(screen, finished_at=None, state="running")
    with pytest.raises(MeasurementError, match="is not over"):
        confirm(analyse(unfinished), analyse(_later(other)))


def test_one_early_block_among_fresh_ones_is_refused(make_run: MakeRun) -> None:
    screen, late = make_run(ratio=TRUTH), _later(make_run(ratio=TRUTH, seed=2))
    first = replace(late.trials[0], started_at=screen.finished_at)
    with pytest.raises(MeasurementError, match=r"its blocks \(1\) began before"):
        confirm(analyse(screen), analyse(replace(late, trials=(first, *late.trials[1:]))))


def test_another_version_is_no_repetition(make_run: MakeRun, make_arm: MakeArm) -> None:
    def arms(version: str) -> tuple[MeshArm, ...]:
        return make_arm("none"), make_arm("envoy", "envoy", version)

    screen = make_run(arms("1.40.0"), ratio={"envoy": 1.5})
    fresh = _later(make_run(arms("1.40.1"), ratio={"envoy": 1.5}, seed=2))
    (one, *_) = confirm(analyse(screen), analyse(fresh))
    assert (one.outcome, one.fresh) == ("not repeated", None)
    assert "does not have the same pair" in one.reason


def test_too_few_fresh_blocks_confirm_nothing(make_run: MakeRun) -> None:
    screen = make_run(ratio=TRUTH)
    fresh = _later(make_run(ratio=TRUTH, seed=2, edit=lambda t: t if t.block < 5 else None))
    assert {c.outcome for c in confirm(analyse(screen), analyse(fresh))} == {"not repeated"}


@pytest.mark.parametrize(
    ("n", "p", "survives"),
    [(10, 0.049, True), (10, 0.051, False), (9, 0.099, True), (6, 0.101, False), (5, 0.001, False), (10, None, False)],
)
def test_who_survives_the_screen(make_run: MakeRun, n: int, p: float | None, survives: bool) -> None:
    c = next(c for c in analyse(make_run()).answers[0].comparisons if c.metric.name == "p50")
    assert is_survivor(replace(c, p=p, blocks=tuple(range(n)))) is survives


def test_a_look_is_screened_at_its_own_level(make_run: MakeRun) -> None:
    c = next(c for c in analyse(make_run()).answers[0].comparisons if c.metric.name == "p50")
    for p, survives in ((0.017, True), (0.019, False)):
        assert is_survivor(replace(c, p=p, blocks=tuple(range(6)), look=6, alpha=0.018)) is survives


def test_an_invalid_result_and_an_aa_pair_never_survive(make_run: MakeRun, make_arm: MakeArm) -> None:
    arms = (make_arm("none"), make_arm("none-again"), make_arm("envoy", "envoy"))
    broken: Analysis = analyse(make_run(arms, ratio={"none-again": 1.2, "envoy": 1.5}))
    assert broken.withheld is not None
    assert survivors(broken) == ()


def test_the_confirming_runs_page_drops_the_flag_only_where_it_agrees(
    make_pair: Callable[..., tuple[RunRecord, RunRecord]],
) -> None:
    screen, fresh = make_pair({"envoy-1.40.0": 1.5}, {"envoy-1.40.0": 1.5, "nginx-1.31.0": 1.4})
    analysis = analyse_confirming(fresh, screen)
    flags = {
        (c.pair.label, c.metric.name): c.verdict.flags
        for c in analysis.answers[0].comparisons
        if c.verdict and c.verdict.word == "slower"
    }
    assert "unconfirmed" not in flags["envoy-1.40.0 · mtls", "p50"]
    assert "unconfirmed" in flags["nginx-1.31.0 · mtls", "p50"], "nobody had picked it before"
    said = [remark.text for remark in analysis.remarks]
    assert any("repeats findings of run 0190f0c2 on fresh blocks" in text for text in said)


def test_a_run_that_cannot_confirm_stands_by_itself_and_says_why(make_run: MakeRun) -> None:
    screen = make_run(ratio=TRUTH)
    early = replace(make_run(ratio=TRUTH, seed=2), run_id="0190f0c2-7d3a-7000-8000-000000000002")
    analysis = analyse_confirming(early, screen)
    assert analysis.remarks[0].severity == "warning"
    assert "It confirms nothing: run 0190f0c2" in analysis.remarks[0].text
    assert analysis.answers == analyse(early).answers
