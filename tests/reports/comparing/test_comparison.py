"""Pairs compared block by block, in runs whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from meshgauge.errors import MeasurementError
from meshgauge.histogram import Histogram
from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import GateResult, LoadResult, TrialRecord
from reports.analysis import Analysis, analyse
from reports.comparing.comparison import Comparison
from reports.comparing.statistics import trimmed_effect
from reports.comparing.verdict import judge
from reports.readings.metrics import METRIC_OF

MakeRun = Callable[..., RunRecord]
MakeArm = Callable[..., MeshArm]
WORDS = {"slower", "faster", "more", "less", "equivalent", "inconclusive", "invalid"}


def _find(analysis: Analysis, label: str, metric: str = "p50", question: str = "baseline") -> Comparison:
    return next(
        c
        for answer in analysis.answers
        if answer.question.key == question
        for c in answer.comparisons
        if c.pair.label == label and c.metric.name == metric
    )


@pytest.fixture
def two_arms(make_arm: MakeArm) -> tuple[MeshArm, ...]:
    return make_arm("none"), make_arm("envoy", "envoy")


def _word(c: Comparison) -> str:
    assert c.verdict is not None
    return c.verdict.word


def test_a_true_ratio_lies_in_its_interval_and_is_called_slower(make_run: MakeRun) -> None:
    truth = {"envoy-1.40.0": 1.61, "nginx-1.31.0": 1.2}
    analysis = analyse(make_run(ratio=truth))
    for mesh, ratio in truth.items():
        for metric in ("p50", "p99"):
            c = _find(analysis, f"{mesh} · mtls", metric)
            assert c.interval is not None
            assert c.interval.low <= math.log(ratio) <= c.interval.high
            assert _word(c) == "slower"
    assert _word(_find(analysis, "haproxy-2.8.9 · mtls")) in {"equivalent", "inconclusive"}


def test_the_numbers_are_those_of_scipy_on_the_block_differences(make_run: MakeRun) -> None:
    run = make_run(blocks=6, ratio={"envoy-1.40.0": 1.3})
    values: dict[str, dict[int, float]] = {}
    for trial in run.trials:
        assert trial.load is not None
        p99 = trial.load.clock("net").reportable_quantile_ns(0.99)
        values.setdefault(trial.cell.split("/")[0], {})[trial.block] = math.log(p99 or math.nan)
    differences = [values["envoy-1.40.0"][block] - values["none"][block] for block in range(6)]
    oracle = stats.ttest_1samp(differences, 0)
    c = _find(analyse(run), "envoy-1.40.0 · mtls", "p99")
    assert c.differences == pytest.approx(differences)
    assert c.p == pytest.approx(float(oracle.pvalue))
    assert c.interval is not None
    assert (c.interval.low, c.interval.high) == pytest.approx(tuple(oracle.confidence_interval()))


def test_swapping_the_baseline_mirrors_effect_and_verdict(make_run: MakeRun, two_arms: tuple[MeshArm, ...]) -> None:
    run = make_run(two_arms, ratio={"envoy": 1.2}, profiles=["plain"])
    mirrored = replace(run, plan=run.plan.model_copy(update={"baseline": "envoy"}))
    forward, backward = _find(analyse(run), "envoy · plain"), _find(analyse(mirrored), "none")
    assert forward.effect is not None
    assert backward.effect is not None
    assert forward.effect.estimate == pytest.approx(-backward.effect.estimate)
    assert (_word(forward), _word(backward)) == ("slower", "faster")


def test_a_thing_compared_with_its_own_copy_is_equivalent(make_run: MakeRun, two_arms: tuple[MeshArm, ...]) -> None:
    run = make_run(two_arms, profiles=["plain"], blocks=10)
    mesh = {t.block: t for t in run.trials if t.cell.startswith("envoy")}

    def copied(trial: TrialRecord) -> TrialRecord:
        return trial if trial.cell.startswith("envoy") else replace(trial, load=mesh[trial.block].load)

    for metric in ("p50", "p99"):
        c = _find(analyse(replace(run, trials=tuple(map(copied, run.trials)))), "envoy · plain", metric)
        assert c.effect is not None
        assert (c.effect.estimate, _word(c), c.p) == (0.0, "equivalent", 1.0)
        assert c.interval is not None
        assert c.interval.high > 0 > c.interval.low


def test_a_slower_clock_changes_nothing_and_a_slower_arm_moves_the_effect_alone(make_run: MakeRun) -> None:
    """All latencies x c: the same result. The arm's x r: the estimate + ln r, the width of the interval the same."""
    plain, scaled, arm = (
        _find(analyse(make_run(ratio={"envoy-1.40.0": ratio}, world={"base_us": base_us})), "envoy-1.40.0 · mtls")
        for ratio, base_us in ((1.2, 350.0), (1.2, 2450.0), (1.5, 350.0))
    )
    assert plain.effect is not None
    assert scaled.effect is not None
    assert arm.effect is not None
    bucket = 2 / 1024  # nobody can tell latencies apart that share a bucket
    assert scaled.effect.estimate == pytest.approx(plain.effect.estimate, abs=bucket)
    assert arm.effect.estimate == pytest.approx(plain.effect.estimate + math.log(1.5 / 1.2), abs=bucket)
    for other in (scaled, arm):
        assert other.effect is not None
        assert other.effect.standard_error == pytest.approx(plain.effect.standard_error, rel=0.1)
        assert _word(other) == _word(plain)


def test_picked_results_get_the_wider_interval_of_their_family(make_run: MakeRun) -> None:
    analysis = analyse(make_run(ratio={"envoy-1.40.0": 1.6, "nginx-1.31.0": 1.2}))
    family = [c for c in analysis.answers[0].comparisons if c.metric.primary]
    picked = [c for c in family if c.p_adjusted is not None and c.p_adjusted <= 0.05]
    assert 0 < len(picked) < len(family)
    for c in family:
        assert c.effect is not None
        expected = c.effect.interval(1 - 0.05 * len(picked) / len(family)) if c in picked else None
        assert c.selected == expected


def test_more_requests_add_no_certainty(make_run: MakeRun) -> None:
    def multiplied(trial: TrialRecord) -> TrialRecord:
        load = trial.load
        assert load is not None
        histograms = {key: Histogram(h.counts * 7, h.overflow) for key, h in load.histograms.items()}
        return replace(trial, load=replace(load, histograms=histograms))

    plain, sevenfold = (analyse(make_run(edit=edit)) for edit in (None, multiplied))
    for label in ("envoy-1.40.0 · mtls", "haproxy-2.8.9 · mtls"):
        assert _find(sevenfold, label).effect == _find(plain, label).effect


def test_block_numbers_are_only_names(make_run: MakeRun) -> None:
    run = make_run(ratio={"envoy-1.40.0": 1.1})
    renamed = replace(run, trials=tuple(replace(t, block=97 - t.block) for t in reversed(run.trials)))
    before, after = (_find(analyse(r), "envoy-1.40.0 · mtls") for r in (run, renamed))
    assert before.effect is not None
    assert after.effect is not None
    assert after.effect.estimate == pytest.approx(before.effect.estimate)
    assert after.p == pytest.approx(before.p)


def test_a_trial_counted_twice_is_refused(make_run: MakeRun) -> None:
    run = make_run(blocks=6)
    with pytest.raises(MeasurementError, match="counted twice in block"):
        analyse(replace(run, trials=(*run.trials, run.trials[0])))


def test_an_invalid_run_takes_its_block_from_both_sides(make_run: MakeRun) -> None:
    bad = GateResult("steal_mean", "invalid", frozenset({"latency"}), 30.0, 10.0, "%", "host steal 30 %")

    def spoiled(trial: TrialRecord) -> TrialRecord:
        hit = trial.block == 3 and trial.cell.startswith("none/")
        return replace(trial, state="invalid", gates=(bad,)) if hit else trial

    analysis = analyse(make_run(edit=spoiled))
    for mesh in ("envoy-1.40.0", "envoy-1.36.4", "nginx-1.31.0"):
        c = _find(analysis, f"{mesh} · mtls")
        assert (c.n, 3 in c.blocks) == (9, False)
        assert c.losses == ("control: steal mean 1x",)
    assert _find(analysis, "envoy-1.40.0 · mtls", "cpu").n == 10
    assert _find(analysis, "envoy-1.40.0 vs envoy-1.36.4 · mtls", question="release").n == 10


def test_each_gate_that_cost_a_block_is_counted_for_its_side(make_run: MakeRun) -> None:
    def gate(name: str) -> GateResult:
        return GateResult(name, "invalid", frozenset({"latency"}), 2.0, 1.2, "", name)

    def spoiled(trial: TrialRecord) -> TrialRecord:
        if trial.cell.startswith("nginx") and trial.block < 2:
            return replace(trial, state="invalid", gates=(gate("growth"), *((gate("drift"),) if trial.block else ())))
        return replace(trial, state="pending", load=None) if trial.block == 5 else trial

    c = _find(analyse(make_run(edit=spoiled)), "nginx-1.31.0 · mtls")
    assert c.losses == ("arm: growth 2x, drift 1x, not measured yet 1x", "control: not measured yet 1x")


def test_the_controls_two_turns_of_a_block_are_averaged(make_run: MakeRun, make_arm: MakeArm) -> None:
    arms = (make_arm("none"), *(make_arm(f"mesh-{i}", "envoy", f"1.{i}.0") for i in range(5)))
    run = make_run(arms, blocks=6)
    logs: dict[int, list[float]] = {}
    for trial in run.trials:
        if trial.cell.startswith("none/") and trial.load is not None:
            logs.setdefault(trial.block, []).append(math.log(trial.load.clock("net").quantile_ns(0.5) or math.nan))
    assert all(len(turns) == 2 for turns in logs.values())
    c = _find(analyse(run), "mesh-0 · mtls")
    expected = math.exp(sum(sum(turns) / 2 for turns in logs.values()) / 6) / 1e6
    assert c.control_level == pytest.approx(expected)


@pytest.mark.parametrize(("blocks", "planned"), [(5, 5), (6, 10), (7, 10)])
def test_too_few_valid_blocks_give_no_verdict_and_keep_the_interval(
    make_run: MakeRun, blocks: int, planned: int
) -> None:
    run = make_run(blocks=planned, edit=lambda t: t if t.block < blocks else None)
    c = _find(analyse(run), "envoy-1.40.0 · mtls")
    assert _word(c) == "invalid"
    assert c.verdict is not None
    assert f"{blocks} of {planned} planned blocks are valid" in c.verdict.reason
    assert c.interval is not None


def test_one_block_gives_an_estimate_without_interval(make_run: MakeRun) -> None:
    c = _find(analyse(make_run(blocks=1)), "envoy-1.40.0 · mtls")
    assert c.effect is not None
    assert (_word(c), c.interval, c.detectable) == ("invalid", None, None)


def test_too_few_requests_for_a_percentile_say_so(make_run: MakeRun) -> None:
    c = _find(analyse(make_run(world={"requests": 8000})), "envoy-1.40.0 · mtls", "p99")
    assert (_word(c), c.effect) == ("invalid", None)
    assert c.losses == ("arm: fewer than 100 requests above it 10x", "control: fewer than 100 requests above it 10x")


def test_an_arm_that_fails_more_often_is_invalid_and_that_is_said(make_run: MakeRun) -> None:
    def failing(trial: TrialRecord) -> TrialRecord:
        if trial.cell.startswith("nginx") and trial.block >= 10:
            return replace(trial, state="failed", load=None, reason="nginx did not start", gates=())
        return trial

    analysis = analyse(make_run(blocks=20, edit=failing))
    c = _find(analysis, "nginx-1.31.0 · mtls")
    assert c.verdict is not None
    assert c.verdict.word == "invalid"
    assert "10 of 20 trials of the arm are invalid, 0 of 20 of the control" in c.verdict.reason
    assert any("unequal failure" in remark.text for remark in analysis.remarks)


def test_closed_loop_gets_no_verdict(make_run: MakeRun) -> None:
    run = make_run(loads=[{"loop": "closed", "window_s": 20}])
    c = _find(analyse(run), "envoy-1.40.0 · mtls")
    assert c.verdict is not None
    assert (c.verdict.word, c.verdict.reason.startswith("closed loop")) == ("invalid", True)


def test_different_engines_are_never_compared(make_run: MakeRun) -> None:
    def other_engine(trial: TrialRecord) -> TrialRecord:
        load: LoadResult | None = trial.load
        assert load is not None
        return replace(trial, load=replace(load, engine="python")) if trial.cell.startswith("envoy-1.40") else trial

    c = _find(analyse(make_run(edit=other_engine)), "envoy-1.40.0 · mtls")
    assert c.verdict is not None
    assert c.verdict.reason == "different load engines (native, python) are never compared"


def test_arm_and_control_on_different_hosts_are_not_compared(make_run: MakeRun) -> None:
    run = make_run(blocks=10)
    moved = tuple(replace(e, host="bench-2") if e.key.startswith("none/") else e for e in run.environments)
    c = _find(analyse(replace(run, environments=moved)), "envoy-1.40.0 · mtls")
    assert (c.n, c.losses) == (0, ("both sides: ran on different hosts 10x",))


def test_a_binary_that_changed_between_blocks_gets_no_verdict(make_run: MakeRun) -> None:
    run = make_run()
    changed = tuple(
        replace(e, provenance={"hops": {"client": {"sha256": "aa" if e.block < 5 else "bb"}}})
        if e.key.startswith("envoy-1.40")
        else e
        for e in run.environments
    )
    analysis = analyse(replace(run, environments=changed))
    c = _find(analysis, "envoy-1.40.0 · mtls")
    assert c.verdict is not None
    assert "changed between blocks: hops.client.sha256 (aa / bb)" in c.verdict.reason
    assert _word(_find(analysis, "nginx-1.31.0 · mtls")) != "invalid"


def test_degraded_trials_count_and_make_the_verdict_indicative(make_run: MakeRun) -> None:
    steal = GateResult("steal_mean", "degraded", frozenset({"latency"}), 3.0, 2.0, "%", "steal")

    def degraded(trial: TrialRecord) -> TrialRecord:
        return replace(trial, gates=(steal,)) if trial.cell.startswith("envoy-1.40") else trial

    analysis = analyse(make_run(edit=degraded, ratio={"envoy-1.40.0": 1.5}))
    for metric, flagged in (("p50", True), ("cpu", False)):
        c = _find(analysis, "envoy-1.40.0 · mtls", metric)
        assert c.verdict is not None
        assert (c.n, "indicative" in c.verdict.flags) == (10, flagged)


def test_what_the_control_has_none_of_is_compared_as_a_difference(make_run: MakeRun) -> None:
    c = _find(analyse(make_run(cores={"envoy-1.40.0": 0.15})), "envoy-1.40.0 · mtls", "cpu_data_plane")
    assert c.effect is not None
    assert c.effect.estimate == pytest.approx(0.30, abs=0.01)
    assert (c.control_level, c.verdict) == (0.0, None)


def test_the_family_is_adjusted_together_and_large_ones_share_variances(make_run: MakeRun, make_arm: MakeArm) -> None:
    loads = [{"rate_rps": 500 + 10 * i, "window_s": 20} for i in range(24)]
    analysis = analyse(make_run((make_arm("none"), make_arm("envoy", "envoy")), loads=loads, blocks=6))
    primary = [c for answer in analysis.answers for c in answer.comparisons if c.metric.primary]
    ps = [c.p for c in primary if c.p is not None]
    assert len(ps) == 72
    assert [c.p_adjusted for c in primary] == pytest.approx(stats.false_discovery_control(ps).tolist())
    medians = [c for c in primary if c.metric.name == "p50"]
    assert all(c.effect is not None and (c.effect.df or 0) > 5 for c in medians)


def test_the_aa_alarm_withholds_every_verdict_but_its_own(make_run: MakeRun, make_arm: MakeArm) -> None:
    arms = (make_arm("none"), make_arm("none-again"), make_arm("envoy", "envoy"))
    calm, broken = (analyse(make_run(arms, ratio={"none-again": r, "envoy": 1.5})) for r in (1.0, 1.2))
    assert calm.withheld is None
    assert _word(_find(calm, "envoy · mtls")) == "slower"
    assert broken.withheld is not None
    assert _word(_find(broken, "envoy · mtls")) == "invalid"
    assert _word(_find(broken, "none-again vs none", question="aa")) == "slower"
    assert broken.remarks[0].severity == "alarm"


def test_an_aa_plan_gives_no_confirmed_difference(make_run: MakeRun, make_arm: MakeArm) -> None:
    arms = (make_arm("none"), make_arm("none-again"))
    words = [
        _word(c)
        for seed in range(12)
        for answer in analyse(make_run(arms, seed=seed, blocks=6)).answers
        for c in answer.comparisons
        if c.metric.primary
    ]
    assert len(words) == 36
    assert sum(word in {"slower", "faster", "more", "less"} for word in words) <= 3


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.floats(-0.5, 0.5, allow_nan=False), min_size=6, max_size=20),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
)
def test_any_input_gives_exactly_one_word(values: list[float], p: float, rank_p: float, degraded: bool) -> None:
    for name in ("p50", "cpu"):
        verdict = judge(trimmed_effect(values), METRIC_OF[name], math.log1p(0.03), p, rank_p, degraded=degraded)
        assert verdict.word in WORDS - {"invalid"}


@settings(deadline=None, max_examples=150)
@given(st.lists(st.floats(-0.5, 0.5, allow_nan=False), min_size=6, max_size=20), st.sampled_from([0.05, 0.018]))
def test_slower_implies_that_the_interval_lies_above_zero(values: list[float], alpha: float) -> None:
    effect = trimmed_effect(values)
    interval = effect.interval(1 - alpha)
    assert interval is not None
    verdict = judge(effect, METRIC_OF["p50"], math.log1p(0.03), effect.p or 1.0, 0.01, degraded=False, alpha=alpha)
    assert (verdict.word == "slower") <= (interval.low > 0)
    assert (verdict.word == "faster") <= (interval.high < 0)
