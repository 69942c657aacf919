"""Absolute thresholds: the level of one cell over its blocks, and whether its interval keeps a limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from meshgauge.matrix import Cell
from reports.analysis import Analysis
from reports.comparing.statistics import Effect, Interval, blocks_needed, trimmed_effect
from reports.comparing.verdict import too_few_blocks
from reports.readings.metrics import Metric
from reports.readings.trials import Losses, Readings, block_level
from reports.thresholds.outcome import Bound, Status

_ENDED = ("measured", "invalid", "failed")


@dataclass(frozen=True, slots=True)
class Level:
    """One metric of one cell over its valid blocks.

    Attributes:
        effect: trimmed mean over blocks on the metric's scale (ln for ratios); None without a valid block.
        n, planned: valid blocks, blocks the plan asked for (in sequential mode: those measured before it stopped).
        alpha: its interval is of 1 - alpha.
        reason: why it decides nothing; None when it may.
    """

    metric: Metric
    effect: Effect | None
    n: int
    planned: int
    alpha: float
    reason: str | None

    @property
    def interval(self) -> Interval | None:
        """The interval between blocks, in the metric's unit: 95 %, in sequential mode 98.2 %."""
        found = None if self.effect is None else self.effect.interval(1 - self.alpha)
        return None if found is None else Interval(self._shown(found.low), self._shown(found.high))

    @property
    def value(self) -> float | None:
        """The level in the metric's unit, geometric for ratios."""
        return None if self.effect is None else self._shown(self.effect.estimate)

    @property
    def _shown(self) -> Callable[[float], float]:
        return math.exp if self.metric.scale == "ratio" else float


def level_of(cell: Cell, metric: Metric, analysis: Analysis) -> Level:
    """Return the level of a cell: one value a block, never one a request.

    The same trimmed mean and t as for differences, on one side's block levels.

    Source: Yuen 1974, as ``trimmed_effect``; blocks as the unit of evidence, measurement.md 3.
    """
    plan, readings = analysis.run.plan, analysis.readings
    values, losses = [], Losses()
    blocks = sorted(readings.blocks_of(cell).items())
    for _, turns in blocks:
        value = block_level(turns, metric)
        if value is None:
            losses.add("arm", turns, metric)
        else:
            values.append(value)
    tried = sum(any(turn.trial.state in _ENDED for turn in turns) for _, turns in blocks)
    planned = tried if plan.sequential else plan.blocks
    reason = _refusal(cell, metric, readings) or _lacks_blocks(len(values), planned, losses)
    effect = trimmed_effect(values, metric.resolution) if values else None
    return Level(metric, effect, len(values), planned, analysis.alpha, reason)


def _refusal(cell: Cell, metric: Metric, readings: Readings) -> str | None:
    if cell.load.loop == "closed" and metric.spoiled_by == "latency":
        return "closed loop: a request waits for the reply before it, so its latency hides stalls"
    return readings.changed.get(cell.environment.key)


def _lacks_blocks(valid: int, planned: int, losses: Losses) -> str | None:
    lacking = too_few_blocks(valid, planned)
    return None if lacking is None else "; ".join((lacking, *losses.told()))


def judge_level(level: Level, bound: Bound, limit: float) -> Status:
    """Return whether the whole interval keeps the limit, breaks it, or holds it inside."""
    interval = level.interval
    if level.reason is not None or interval is None:
        return "undecided"
    if bound == "at_least":
        return "passed" if interval.low >= limit else "failed" if interval.high < limit else "undecided"
    return "passed" if interval.high <= limit else "failed" if interval.low > limit else "undecided"


def blocks_to_decide(level: Level, limit: float) -> int | None:
    """Return the blocks that would show which side of the limit the level is on, if it is where it seems; else None."""
    effect = level.effect
    if effect is None or effect.sd is None:
        return None
    if level.metric.scale == "ratio" and limit <= 0:
        return None
    distance = abs(effect.estimate - (math.log(limit) if level.metric.scale == "ratio" else limit))
    return blocks_needed(effect.sd, distance, level.alpha) if distance > 0 else None
