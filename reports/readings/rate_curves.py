"""Latency over offered rate for each arm, and the highest rate that held among those measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from meshgauge.matrix import Cell
from meshgauge.plan import Threshold
from meshgauge.run import RunRecord
from reports.comparing.questions import arm_name
from reports.readings.metrics import METRIC_OF, error_percent
from reports.readings.trials import MeasuredTrial, Readings, block_level
from reports.thresholds.selection import selected_cells

LEAST_ANSWERED_RATIO = 0.99
MOST_ERRORS_PERCENT = 0.1
HELD_SHARE = 2 / 3  # best two of three (measurement.md 4)
# What a failure of says something about the instrument, not about the arm: such a trial is no probe of its capacity.
INSTRUMENT_GATES = frozenset(
    {
        "send_lag_p50",
        "send_lag_p99",
        "run_delay",
        "engine_cpu",
        "steal_mean",
        "steal_worst_10s",
        "treatment",
        "components",
        "nodes",
    }
)
LIMITED = frozenset({"p50", "p90", "p99", "p999", "errors"})


@dataclass(frozen=True, slots=True)
class Level:
    """Geometric mean over blocks in ms, with its 95 % t interval between them; no interval for a single block."""

    blocks: int
    middle_ms: float
    low_ms: float | None
    high_ms: float | None


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One arm at one offered rate.

    Attributes:
        trials: that measured anything; ``valid`` of them may speak of latency.
        levels: p50 and p99 over the valid ones.
        seen_ms: the same over all trials, to show where an arm without a valid one lies.
        answered_ratio: replies over arrivals, mean over trials.
        passed, probed: trials that kept up and within the plan's limits, of those that could tell.
        carried, loaded: trials that kept up whatever their latency, of those that could tell.
    """

    rate_rps: float
    trials: int
    valid: int
    levels: Mapping[str, Level]
    seen_ms: Mapping[str, float]
    answered_ratio: float | None
    errors_percent: float | None
    passed: int
    probed: int
    carried: int
    loaded: int

    @property
    def held(self) -> bool | None:
        """Whether the arm held this rate; None where no trial could tell."""
        return _most(self.passed, self.probed)

    @property
    def kept_up(self) -> bool | None:
        """Whether the arm answered what was asked at this rate, however late; None where no trial could tell."""
        return _most(self.carried, self.loaded)


@dataclass(frozen=True, slots=True)
class RateCurve:
    """One arm over its offered rates, ascending."""

    arm: str
    points: tuple[RatePoint, ...]

    @property
    def bracket(self) -> tuple[float | None, float | None]:
        """The highest rate that held below any that failed, and the lowest that failed; None: not measured."""
        return _bracket([(point.rate_rps, point.held) for point in self.points])

    @property
    def carried_rps(self) -> tuple[float | None, float | None]:
        """The same without the plan's limits: the rates between which its capacity lies."""
        return _bracket([(point.rate_rps, point.kept_up) for point in self.points])


@dataclass(frozen=True, slots=True)
class RateFamily:
    """All arms over the rates of loads that differ in nothing else. ``limits``: the plan's own, in words."""

    where: str
    limits: tuple[str, ...]
    curves: tuple[RateCurve, ...]

    @property
    def weakest_rps(self) -> float | None:
        """The highest rate the weakest arm kept up with, 0 where with none; None where all did at every rate."""
        brackets = [curve.carried_rps for curve in self.curves]
        return min((held or 0.0 for held, failed in brackets if failed is not None), default=None)


def _most(passed: int, probed: int) -> bool | None:
    return None if probed == 0 else passed >= HELD_SHARE * probed


def _bracket(answers: Sequence[tuple[float, bool | None]]) -> tuple[float | None, float | None]:
    failed = next((rate for rate, held in answers if held is False), None)
    held = [rate for rate, held in answers if held and (failed is None or rate < failed)]
    return (held[-1] if held else None), failed


def rate_families(run: RunRecord, readings: Readings) -> tuple[RateFamily, ...]:
    """Return the families with two rates or more; closed loops and ramps have no rate of their own."""
    limits = _limits(run)
    groups: dict[tuple[object, ...], dict[str, list[Cell]]] = {}
    for cell in run.cells:
        environment, load = cell.environment, cell.load
        if load.loop == "closed" or load.arrival == "ramp" or load.rate_rps is None:
            continue
        alike = load.model_dump(exclude={"name", "rate_rps"}).values()
        key = (environment.workload.label, environment.infrastructure.name, *alike)
        groups.setdefault(key, {}).setdefault(arm_name(cell), []).append(cell)
    return tuple(
        _family(arms, limits, readings)
        for arms in groups.values()
        if any(len({cell.load.rate_rps for cell in members}) > 1 for members in arms.values())
    )


def _family(
    arms: Mapping[str, Sequence[Cell]], limits: Mapping[str, Sequence[Threshold]], readings: Readings
) -> RateFamily:
    first = next(iter(arms.values()))[0]
    load = first.load
    where = (
        f"{first.environment.workload.label}, {first.environment.infrastructure.name}, "
        f"{load.connections} connections, {load.arrival} arrivals"
    )
    named = {id(t): t for members in arms.values() for cell in members for t in limits.get(cell.key, ())}
    curves = []
    for arm, members in arms.items():
        points = [point for cell in members if (point := _point(cell, limits.get(cell.key, ()), readings))]
        if points:
            curves.append(RateCurve(arm, tuple(sorted(points, key=lambda point: point.rate_rps))))
    return RateFamily(where, tuple(map(_limit_text, named.values())), tuple(curves))


def _limits(run: RunRecord) -> Mapping[str, list[Threshold]]:
    """Return the plan's absolute limits on latency and errors, per key of the cells they speak of."""
    limits: dict[str, list[Threshold]] = {}
    for threshold in run.plan.thresholds:
        if threshold.at_most is not None and threshold.metric in LIMITED:
            for cell in selected_cells(run, threshold.where):
                limits.setdefault(cell.key, []).append(threshold)
    return limits


def _limit_text(threshold: Threshold) -> str:
    metric = METRIC_OF[threshold.metric]
    where = threshold.where
    named = "" if where is None else ", ".join(v for v in where.model_dump(exclude_none=True).values())
    return f"{metric.title} at most {threshold.at_most:g} {metric.unit}{f' ({named})' if named else ''}"


def _point(cell: Cell, limits: Sequence[Threshold], readings: Readings) -> RatePoint | None:
    turns = [turn for _, block in sorted(readings.blocks_of(cell).items()) for turn in block]
    loaded = [(turn, turn.trial.load) for turn in turns if turn.trial.load is not None]
    if not loaded or cell.load.rate_rps is None:
        return None
    levels, seen = {}, {}
    for name in ("p50", "p99"):
        blocks = [block_level(turns, METRIC_OF[name]) for _, turns in sorted(readings.blocks_of(cell).items())]
        values = [value for value in blocks if value is not None]
        shown = [v for turn, _ in loaded if (v := turn.reading[name]) is not None and v > 0]
        if values:
            levels[name] = _level(values)
        if shown:
            seen[name] = math.exp(statistics.fmean(map(math.log, shown)))
    answered = [load.done / load.offered for _, load in loaded if load.offered]
    errors = [share for _, load in loaded if (share := error_percent(load)) is not None]
    probes = [passed for turn, _ in loaded if (passed := _passed(turn, limits)) is not None]
    carried = [passed for turn, _ in loaded if (passed := _passed(turn, ())) is not None]
    return RatePoint(
        cell.load.rate_rps,
        len(loaded),
        sum("latency" not in turn.spoiled for turn, _ in loaded),
        levels,
        seen,
        statistics.fmean(answered) if answered else None,
        statistics.fmean(errors) if errors else None,
        sum(probes),
        len(probes),
        sum(carried),
        len(carried),
    )


def _level(logs: Sequence[float]) -> Level:
    n, middle = len(logs), statistics.fmean(logs)
    if n < 2:
        return Level(n, math.exp(middle), None, None)
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(logs) / math.sqrt(n)
    return Level(n, math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _passed(turn: MeasuredTrial, limits: Sequence[Threshold]) -> bool | None:
    """Return whether a trial held its rate; None where the instrument failed or a limit could not be read.

    Source: reference/statistics.md 4.11.
    """
    load = turn.trial.load
    failed = {gate.gate for gate in turn.trial.gates if gate.status == "invalid"}
    if load is None or not load.offered or failed & INSTRUMENT_GATES:
        return None
    errors = error_percent(load)
    answered = load.done / load.offered >= LEAST_ANSWERED_RATIO and load.dropped == 0
    if not answered or errors is None or errors > MOST_ERRORS_PERCENT or "growth" in failed:
        return False
    readings = [(turn.reading[limit.metric], limit.at_most) for limit in limits]
    if any(value is not None and most is not None and value > most for value, most in readings):
        return False
    return None if any(value is None for value, _ in readings) else True
