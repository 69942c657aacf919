"""Relative thresholds: the change for the worse of a pair of cells, tested one-sided against what is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scipy import special

from reports.analysis import Analysis
from reports.comparing.comparison import Comparison, observe, refusal
from reports.comparing.questions import Pair
from reports.comparing.statistics import LN_SD_FLOOR, Effect, Interval, blocks_needed
from reports.readings.metrics import Metric
from reports.thresholds.selection import Held
from reports.wording import lost

_LESS_IS_WORSE = ("achieved_rps",)

# By question, arm's cell, control's cell and metric.
Judged = Mapping[tuple[str, str, str, str], Comparison]


@dataclass(frozen=True, slots=True)
class Worsening:
    """One pair's change for the worse and what is allowed of it.

    Attributes:
        effect: turned so that more is worse, on the scale of ``metric`` (ln for ratios); None without a valid block.
        limit: on the same scale; infinite where nothing could break it.
        alpha: one-sided level of its bounds; 0.05, in sequential mode 0.018.
        reason: why it decides nothing; None when it may.
    """

    metric: Metric
    effect: Effect | None
    limit: float
    alpha: float
    n: int
    planned: int
    reason: str | None

    @property
    def p(self) -> float | None:
        """One-sided p against a worsening of exactly the limit; None where nothing may be judged."""
        return None if self.reason is not None else self._tail(1)

    @property
    def is_kept(self) -> bool:
        """Whether the one-sided bound shows that the worsening is within the limit."""
        tail = self._tail(-1)
        return self.reason is None and tail is not None and tail <= self.alpha

    @property
    def level(self) -> float:
        """Level of the two-sided interval whose ends are the one-sided bounds."""
        return 1 - 2 * self.alpha

    @property
    def interval(self) -> Interval | None:
        """That interval in per cent, or in the metric's unit: its high end is the worst."""
        found = None if self.effect is None else self.effect.interval(self.level)
        return None if found is None else Interval(self._shown(found.low), self._shown(found.high))

    @property
    def value(self) -> float | None:
        """The change for the worse in per cent of the control, or in the metric's unit."""
        return None if self.effect is None else self._shown(self.effect.estimate)

    @property
    def blocks_to_decide(self) -> int | None:
        """Blocks that would show which side of the limit it is on with power 0.8, if it is where it seems; or None."""
        if self.effect is None or self.effect.sd is None:
            return None
        distance = abs(self.effect.estimate - self.limit)
        return blocks_needed(self.effect.sd, distance, 2 * self.alpha) if 0 < distance < math.inf else None

    def _tail(self, sign: int) -> float | None:
        effect = self.effect
        if effect is None or effect.standard_error is None or effect.df is None:
            return None
        return float(special.stdtr(effect.df, sign * (self.limit - effect.estimate) / effect.standard_error))

    def _shown(self, worse: float) -> float:
        if self.metric.scale != "ratio":
            return worse
        # Fewer replies are worse: half of them is 50 % worse, and not 100 %.
        return -100 * math.expm1(-worse) if self.metric.name in _LESS_IS_WORSE else 100 * math.expm1(worse)


def judged_in(analysis: Analysis) -> Judged:
    """Return the comparisons of a run that have a verdict."""
    return {
        (answer.question.key, c.pair.cell.key, c.pair.control.key, c.metric.name): c
        for answer in analysis.answers
        for c in answer.comparisons
        if c.verdict is not None
    }


def worsening_of(held: Held, pair: Pair, analysis: Analysis, judged: Judged) -> Worsening:
    """Return how much worse the arm of ``pair`` is, as the report of the same run has it.

    Metrics that the report compares by plain difference are compared as ratios here, because their limit is in per
    cent; errors stay in points.

    Args:
        pair: of cells of the run in ``analysis``.
        judged: comparisons to take as the report has them: their variance may be shared with their family.
    """
    plan, metric = analysis.run.plan, held.metric
    if metric.scale == "difference" and metric.name != "errors":
        metric = replace(metric, scale="ratio", resolution=LN_SD_FLOOR)
    key = (held.threshold.against, pair.cell.key, pair.control.key, metric.name)
    comparison = judged.get(key) or observe(
        pair, metric, analysis.readings, plan.blocks, plan.margins, sequential=plan.sequential
    )
    sign = -1 if metric.name in _LESS_IS_WORSE else 1
    effect = comparison.effect
    turned = None if effect is None else replace(effect, estimate=sign * effect.estimate)
    limit = _limit(metric, held.threshold.worse_by_at_most or 0.0)
    reason = analysis.withheld or _refusal(comparison, analysis)
    return Worsening(metric, turned, limit, comparison.alpha, comparison.n, comparison.planned, reason)


def _refusal(comparison: Comparison, analysis: Analysis) -> str | None:
    verdict = comparison.verdict or refusal(comparison, analysis.readings)
    if verdict is None or verdict.word != "invalid":
        return None
    return ". ".join(part for part in (verdict.reason, lost(comparison)) if part)


def _limit(metric: Metric, limit: float) -> float:
    """Return a limit in per cent, or in points, on the scale of turned effects."""
    if metric.scale != "ratio":
        return limit
    if metric.name in _LESS_IS_WORSE:
        return -math.log1p(-limit / 100) if limit < 100 else math.inf
    return math.log1p(limit / 100)
