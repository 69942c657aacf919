"""Any two runs: each arm divided by the control of its own run, then run against run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from meshgauge.errors import InvalidRequestError
from meshgauge.run import RunRecord
from reports.analysis import Analysis
from reports.comparing.comparison import Comparison, observe, refusal
from reports.comparing.conditions import Condition, conditions
from reports.comparing.matching import Match, Unmatched, match
from reports.comparing.questions import Pair
from reports.comparing.statistics import (
    Effect,
    Interval,
    adjusted_p,
    blocks_needed_apart,
    detectable_in_errors,
    rank_sum_p,
    welch_effect,
)
from reports.comparing.verdict import Verdict, judge, margin_on_scale, selected_interval
from reports.readings.metrics import METRICS, Metric


@dataclass(frozen=True, slots=True)
class AcrossResult:
    """One metric of one matched cell, the second run against the first.

    Attributes:
        pair: the arm in the second run, and in the first as its control.
        first, second: what was seen in either run, arm against its own control.
        effect: second - first on the metric's scale, with Welch's standard error. For ratios: the ln of how much the
            overhead changed, not of how much the milliseconds did.
        detectable: smallest difference so many blocks could have shown, on the metric's scale.
        needed: blocks of either run that would show a difference as large as the margin; None: more than anyone runs.
        verdict: carries the flag ``across runs``; None for secondary metrics.
    """

    pair: Pair
    metric: Metric
    first: Comparison
    second: Comparison
    versions: tuple[str, str]
    alpha: float
    effect: Effect | None
    margin: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    rank_p: float | None = None
    selected: Interval | None = None
    detectable: float | None = None
    needed: int | None = None
    verdict: Verdict | None = None

    @property
    def n(self) -> int:
        """Blocks of the run that has fewer."""
        return min(self.first.n, self.second.n)

    @property
    def losses(self) -> tuple[str, ...]:
        """Why blocks are missing in either run."""
        runs = (("first run", self.first), ("second run", self.second))
        return tuple(f"{name}, {loss}" for name, seen in runs for loss in seen.losses)

    @property
    def interval(self) -> Interval | None:
        """The interval of 1 - alpha."""
        return None if self.effect is None else self.effect.interval(1 - self.alpha)


@dataclass(frozen=True, slots=True)
class Across:
    """Two runs side by side.

    Attributes:
        conditions: what differs besides what is compared; to be read first.
        results: in the order of the second run's cells.
        unmatched: cells that cannot be compared, each with its reason.
    """

    first: Analysis
    second: Analysis
    conditions: tuple[Condition, ...]
    results: tuple[AcrossResult, ...]
    unmatched: tuple[Unmatched, ...]

    @property
    def alpha(self) -> float:
        """Level of significance: the stricter of both runs."""
        return min(self.first.alpha, self.second.alpha)


def compare_runs(first: Analysis, second: Analysis) -> Across:
    """Return the second run against the first.

    Milliseconds of different days are not comparable (false differences in 61 to 73 %), ratios to the control of the
    same blocks are: 5 %, with intervals 1.35 times as wide as of blocks in common. What cannot be taken out is how
    an arm and its control happened to be placed in each run: a difference that matters is measured again with both
    sides in the same blocks.

    Raises:
        InvalidRequestError: both are the same run.

    Source: reference/statistics.md 3.1, 3.4; measurement.md 4.
    """
    if first.run.run_id == second.run.run_id:
        raise InvalidRequestError("a run cannot be compared with itself; name two different runs")
    matches, unmatched = match(first.run, second.run)
    raw = [
        result
        for found in matches
        for metric in METRICS
        if (result := _observed(found, metric, first, second)) is not None
    ]
    return Across(first, second, conditions(first.run, second.run, matches), _judged(raw, first, second), unmatched)


def _observed(found: Match, metric: Metric, first: Analysis, second: Analysis) -> AcrossResult | None:
    one, other = _seen(found.first, metric, first), _seen(found.second, metric, second)
    if not metric.primary and not (one.blocks and other.blocks):
        return None
    both = one.differences and other.differences
    margin = None if metric.margin is None else _margin(metric, first.run, second.run)
    return AcrossResult(
        found.pair,
        metric,
        one,
        other,
        found.versions,
        min(first.alpha, second.alpha),
        welch_effect(other.differences, one.differences, metric.resolution) if both else None,
        margin,
    )


def _seen(pair: Pair, metric: Metric, analysis: Analysis) -> Comparison:
    plan = analysis.run.plan
    return observe(pair, metric, analysis.readings, plan.blocks, plan.margins, sequential=plan.sequential)


def _margin(metric: Metric, first: RunRecord, second: RunRecord) -> float:
    """Return the smaller margin of both plans, on the metric's scale."""
    margins = [metric.margin(run.plan.margins) for run in (first, second)] if metric.margin else []
    return margin_on_scale(metric, min(margins))


def _judged(raw: Sequence[AcrossResult], first: Analysis, second: Analysis) -> tuple[AcrossResult, ...]:
    """Return the results with verdicts: all primary ones that may be judged are one family."""
    measured = [_measured(result) for result in raw]
    refused = {id(r): _refusal(r, first, second) for r in measured if r.metric.primary}
    family = [r for r in measured if r.metric.primary and refused[id(r)] is None and r.p is not None]
    adjusted = adjusted_p([r.p for r in family if r.p is not None])
    selected = sum(q <= r.alpha for r, q in zip(family, adjusted, strict=True))
    judged = {id(r): _with_verdict(r, q, selected, len(family)) for r, q in zip(family, adjusted, strict=True)}
    return tuple(judged.get(id(r)) or replace(r, verdict=refused.get(id(r))) for r in measured)


def _measured(result: AcrossResult) -> AcrossResult:
    """Return the result with its p and with what it could have shown."""
    effect = result.effect
    if effect is None or effect.standard_error is None or effect.df is None:
        return result
    spread = sum((seen.effect.sd or 0.0) ** 2 for seen in (result.first, result.second) if seen.effect) ** 0.5
    margin, alpha = result.margin, result.alpha
    return replace(
        result,
        p=effect.p,
        # Welch's df is a fraction of its own in every result: a whole one is computed once for all.
        detectable=effect.standard_error * detectable_in_errors(max(int(effect.df), 1), alpha),
        needed=None if margin is None else blocks_needed_apart(spread, margin, alpha),
    )


def _refusal(result: AcrossResult, first: Analysis, second: Analysis) -> Verdict | None:
    """Return the verdict ``invalid`` where one of the runs allows no other, or None."""
    for name, analysis, seen in (("first", first, result.first), ("second", second, result.second)):
        refused = refusal(seen, analysis.readings)
        reason = analysis.withheld or (refused.reason if refused else None)
        if reason is not None:
            return Verdict("invalid", ("across runs",), f"{name} run: {reason}")
    engines = [_engines(seen, analysis) for seen, analysis in ((result.first, first), (result.second, second))]
    if engines[0] != engines[1]:
        named = ", ".join(sorted(engines[0] | engines[1]))
        return Verdict("invalid", ("across runs",), f"different load engines ({named}) are never compared")
    return None


def _engines(seen: Comparison, analysis: Analysis) -> frozenset[str]:
    blocks = analysis.readings.blocks_of(seen.pair.cell)
    turns = (turn for number in seen.blocks for turn in blocks[number])
    return frozenset(turn.trial.load.engine for turn in turns if turn.trial.load is not None)


def _with_verdict(result: AcrossResult, p_adjusted: float, selected: int, family: int) -> AcrossResult:
    effect, margin, alpha = result.effect, result.margin, result.alpha
    if effect is None or margin is None:
        return result
    rank_p = rank_sum_p(result.second.differences, result.first.differences)
    degraded = result.first.degraded or result.second.degraded
    verdict = judge(effect, result.metric, margin, p_adjusted, rank_p, degraded=degraded, alpha=alpha)
    return replace(
        result,
        p_adjusted=p_adjusted,
        rank_p=rank_p,
        selected=selected_interval(effect, selected, family, alpha) if p_adjusted <= alpha else None,
        verdict=replace(verdict, flags=(*verdict.flags, "across runs"), open=False),
    )
