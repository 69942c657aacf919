"""Absolute thresholds: the level of one cell over its blocks, and whether its interval keeps a limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from meshgauge.matrix import Cell
from reports.metrics import Metric
from reports.readings import Losses, Readings, block_level
from reports.statistics import ALPHA, Effect, Interval, blocks_needed, trimmed_effect
from reports.thresholds.outcome import Bound, Status
from reports.verdict import too_few_blocks


@dataclass(frozen=True, slots=True)
class Level:
    """One metric of one cell over its valid blocks.

    Attributes:
        effect: trimmed mean over blocks on the metric's scale (ln for ratios); None without a valid block.
        n, planned: valid blocks, blocks the plan asked for.
        reason: why it decides nothing; None when it may.
    """

    metric: Metric
    effect: Effect | None
    n: int
    planned: int
    reason: str | None

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval between blocks, in the metric's unit."""
        found = None if self.effect is None else self.effect.interval(1 - ALPHA)
        return None if found is None else Interval(self._shown(found.low), self._shown(found.high))

    @property
    def value(self) -> float | None:
        """The level in the metric's unit, geometric for ratios."""
        return None if self.effect is None else self._shown(self.effect.estimate)

    @property
    def _shown(self) -> Callable[[float], float]:
        return math.exp if self.metric.scale == "ratio" else float


def level_of(cell: Cell, metric: Metric, readings: Readings, planned: int) -> Level:
    """Return the level of a cell: one value a block, never one a request.

    The same trimmed mean and t as for differences, on one side's block levels.

    Source: Yuen 1974, as ``reports.statistics.trimmed_effect``; blocks as the unit of evidence, measurement.md 3.
    """
    values, losses = [], Losses()
    for _, turns in sorted(readings.blocks_of(cell).items()):
        value = block_level(turns, metric)
        if value is None:
            losses.add("arm", turns, metric)
        else:
            values.append(value)
    effect = trimmed_effect(values, metric.resolution) if values else None
    return Level(metric, effect, len(values), planned, _refusal(cell, metric, readings, len(values), planned, losses))


def _refusal(cell: Cell, metric: Metric, readings: Readings, valid: int, planned: int, losses: Losses) -> str | None:
    if cell.load.loop == "closed" and metric.spoiled_by == "latency":
        return "closed loop: a request waits for the reply before it, so its latency hides stalls"
    changed = readings.changed.get(cell.environment.key)
    if changed:
        return changed
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
    return blocks_needed(effect.sd, distance) if distance > 0 else None
