"""Pairs of cells compared block by block: effects, one family's significance, verdicts."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from meshgauge.errors import MeasurementError
from meshgauge.matrix import Cell
from meshgauge.plan import Margins
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.gates import THRESHOLDS
from reports.metrics import (
    METRICS,
    ClockLevels,
    Metric,
    Reading,
    clock_levels,
    degraded_kinds,
    read_trial,
    spoiled_kinds,
    usable,
)
from reports.provenance import changed_environments
from reports.questions import Pair, Question
from reports.statistics import (
    ALPHA,
    MODERATION_CELLS,
    Effect,
    Interval,
    adjusted_p,
    blocks_needed,
    moderated,
    signed_rank_p,
    smallest_detectable,
    trimmed_effect,
)
from reports.verdict import FEWEST_VALID_BLOCKS, Verdict, judge, margin_on_scale, selected_interval, too_few_blocks

UNEQUAL_FAILURE_P = 0.01


@dataclass(frozen=True, slots=True)
class MeasuredTrial:
    """A trial with what was read from it.

    Attributes:
        clocks: p50 and p99 of each clock, in ms.
        host: where its environment ran; None when nobody recorded it.
    """

    trial: TrialRecord
    cell: Cell
    reading: Reading
    clocks: ClockLevels
    spoiled: frozenset[str]
    degraded: frozenset[str]
    host: str | None

    def value(self, metric: Metric) -> float | None:
        """Return the reading where it may enter a comparison."""
        return usable(self.reading[metric.name], metric, self.spoiled)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one pair, over the blocks in which both sides are valid.

    Attributes:
        differences: per block of ``blocks``, arm - control, on the scale of the metric (ln for ratios).
        arm_level, control_level: mean over those blocks in the metric's unit, geometric for ratios.
        p, p_adjusted: Yuen's p, moderated in large families; adjusted over the question's primary results.
        selected: the wider interval for significant results of a large family; None for the others.
        detectable: smallest difference these blocks could have shown, on the metric's scale.
        needed: blocks that would show a difference as large as the margin; None: more than anyone would run.
        losses: why blocks are missing, with how often.
        verdict: None for secondary metrics.
    """

    pair: Pair
    metric: Metric
    planned: int
    blocks: tuple[int, ...]
    differences: tuple[float, ...]
    arm_level: float | None
    control_level: float | None
    effect: Effect | None
    losses: tuple[str, ...]
    degraded: bool
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
        """Blocks compared."""
        return len(self.blocks)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval."""
        return None if self.effect is None else self.effect.interval()


class Readings:
    """The trials of a run with their values, indexed by cell and block.

    Attributes:
        trials: all of them, in the run's order.
        changed: per environment key, what differed between its blocks; such environments get no verdict.
    """

    def __init__(self, run: RunRecord) -> None:
        cells = {cell.key: cell for cell in run.cells}
        hosts = {(e.key, e.block, e.replicate): e.host for e in sorted(run.environments, key=lambda e: e.attempt)}
        self.changed = changed_environments(run)
        self.trials: tuple[MeasuredTrial, ...] = tuple(
            MeasuredTrial(
                trial,
                cells[trial.cell],
                read_trial(trial, cells[trial.cell]),
                clock_levels(trial.load),
                spoiled_kinds(trial),
                degraded_kinds(trial),
                hosts.get((cells[trial.cell].environment.key, trial.block, trial.replicate)),
            )
            for trial in run.trials
        )
        self._by_cell: dict[str, dict[int, list[MeasuredTrial]]] = defaultdict(lambda: defaultdict(list))
        for measured in self.trials:
            turns = self._by_cell[measured.cell.key][measured.trial.block]
            if any(other.trial.replicate == measured.trial.replicate for other in turns):
                raise MeasurementError(
                    f"cell {measured.cell.key} is counted twice in block {measured.trial.block}: "
                    "give the report one attempt of each trial"
                )
            turns.append(measured)

    def blocks_of(self, cell: Cell) -> Mapping[int, Sequence[MeasuredTrial]]:
        """Return the trials of a cell per block, replicates together."""
        return self._by_cell.get(cell.key, {})


def compare(
    question: Question, readings: Readings, planned: int, margins: Margins, withheld: str | None = None
) -> tuple[Comparison, ...]:
    """Return all comparisons of one question: its primary results form one family.

    Args:
        planned: blocks the plan asked for.
        withheld: why no verdict may be given at all; None when they may.
    """
    raw = [
        comparison
        for pair in question.pairs
        for metric in METRICS
        if (comparison := _observe(pair, metric, readings, planned, margins)).losses or comparison.blocks
    ]
    refusals = {id(c): withheld or _refusal(c, readings) for c in raw if c.metric.primary}
    family = [c for c in raw if c.metric.primary and refusals[id(c)] is None]
    judged = {id(before): after for before, after in zip(family, _judged(family), strict=True)}
    return tuple(judged.get(id(c)) or _unjudged(c, refusals.get(id(c))) for c in raw)


def _observe(pair: Pair, metric: Metric, readings: Readings, planned: int, margins: Margins) -> Comparison:
    arms, controls = readings.blocks_of(pair.cell), readings.blocks_of(pair.control)
    blocks, differences, arm_levels, control_levels = [], [], [], []
    losses: Counter[str] = Counter()
    degraded = False
    for block in sorted(set(arms) | set(controls)):
        arm, control = _level(arms.get(block, ()), metric), _level(controls.get(block, ()), metric)
        if arm is None or control is None:
            if metric.primary or arm is not None or control is not None:
                losses.update(_why_lost(arms.get(block, ()), controls.get(block, ()), metric))
            continue
        if _hosts_differ(arms[block], controls[block]):
            losses["arm and control ran on different hosts"] += 1
            continue
        blocks.append(block)
        differences.append(arm - control)
        arm_levels.append(arm)
        control_levels.append(control)
        degraded |= any(metric.spoiled_by in t.degraded for t in (*arms[block], *controls[block]))
    return Comparison(
        pair,
        metric,
        planned,
        tuple(blocks),
        tuple(differences),
        _mean_level(arm_levels, metric),
        _mean_level(control_levels, metric),
        trimmed_effect(differences, metric.resolution) if differences else None,
        tuple(f"{reason} ({count}x)" for reason, count in losses.most_common()),
        degraded,
        margin_on_scale(metric, metric.margin(margins)) if metric.margin else None,
    )


def _level(turns: Sequence[MeasuredTrial], metric: Metric) -> float | None:
    """Return the block's value on the metric's scale: the control's turns averaged; None without a valid one."""
    values = [value for turn in turns if (value := turn.value(metric)) is not None]
    if not values:
        return None
    return (
        statistics.fmean(math.log(value) for value in values) if metric.scale == "ratio" else statistics.fmean(values)
    )


def _mean_level(levels: Sequence[float], metric: Metric) -> float | None:
    if not levels:
        return None
    mean = statistics.fmean(levels)
    return math.exp(mean) if metric.scale == "ratio" else mean


def _hosts_differ(arms: Iterable[MeasuredTrial], controls: Iterable[MeasuredTrial]) -> bool:
    return len({turn.host for turn in (*arms, *controls)} - {None}) > 1


def _why_lost(arms: Sequence[MeasuredTrial], controls: Sequence[MeasuredTrial], metric: Metric) -> Iterable[str]:
    """Yield one reason per side that has no value in a block."""
    for side, turns in (("arm", arms), ("control", controls)):
        if _level(turns, metric) is None:
            yield f"{side}: {_reason(turns[-1], metric) if turns else 'not measured in this block'}"


def _reason(turn: MeasuredTrial, metric: Metric) -> str:
    trial = turn.trial
    if trial.load is None or trial.state not in {"measured", "invalid"}:
        return trial.reason or f"trial {trial.state}"
    gates = [
        THRESHOLDS[g.gate].what if g.gate in THRESHOLDS else g.gate
        for g in trial.gates
        if g.status == "invalid" and metric.spoiled_by in g.spoils
    ]
    if gates:
        return "gate failed on " + ", ".join(dict.fromkeys(gates))
    if metric.spoiled_by in turn.spoiled:
        return trial.reason or "trial invalid"
    if metric.spoiled_by == "latency":
        return f"too few requests for {metric.name}: fewer than 100 lie above it"
    return "not measured"


def _refusal(comparison: Comparison, readings: Readings) -> str | None:
    """Return why this comparison gets no verdict, or None when it may."""
    pair, metric = comparison.pair, comparison.metric
    arms, controls = readings.blocks_of(pair.cell), readings.blocks_of(pair.control)
    if pair.cell.load.loop == "closed":
        return "closed loop: a request waits for the reply before it, so this restates throughput"
    changed = [readings.changed.get(cell.environment.key) for cell in (pair.cell, pair.control)]
    if any(changed):
        return "; ".join(filter(None, changed))
    engines = {
        turn.trial.load.engine
        for block in comparison.blocks
        for turn in (*arms[block], *controls[block])
        if turn.trial.load is not None
    }
    if len(engines) > 1:
        return f"different load engines ({', '.join(sorted(engines))}) are never compared"
    unequal = _unequal_failure(arms, controls, metric)
    return unequal or _too_few(comparison)


def _too_few(comparison: Comparison) -> str | None:
    reason = too_few_blocks(comparison.n, comparison.planned)
    if reason and comparison.losses:
        return f"{reason}. {'; '.join(comparison.losses)}"
    return reason


def _unequal_failure(
    arms: Mapping[int, Sequence[MeasuredTrial]], controls: Mapping[int, Sequence[MeasuredTrial]], metric: Metric
) -> str | None:
    def counts(blocks: Mapping[int, Sequence[MeasuredTrial]]) -> tuple[int, int]:
        tried = [t for turns in blocks.values() for t in turns if t.trial.state in {"measured", "invalid", "failed"}]
        failed = sum(metric.spoiled_by in turn.spoiled for turn in tried)
        return failed, len(tried) - failed

    arm, control = counts(arms), counts(controls)
    if sum(arm) < FEWEST_VALID_BLOCKS or stats.fisher_exact(np.array([arm, control])).pvalue >= UNEQUAL_FAILURE_P:
        return None
    return (
        f"unequal failure: {arm[0]} of {sum(arm)} trials of the arm are invalid, "
        f"{control[0]} of {sum(control)} of the control; that is the finding"
    )


def _judged(family: Sequence[Comparison]) -> list[Comparison]:
    """Return the family with p values, adjusted together, and verdicts."""
    effects = _moderated_by_group(family)
    # Every effect here has FEWEST_VALID_BLOCKS or more, so it has a p.
    ps = [effect.p if effect.p is not None else math.nan for effect in effects]
    adjusted = adjusted_p(ps)
    selected = sum(p <= ALPHA for p in adjusted)
    judged = []
    for comparison, effect, p, q in zip(family, effects, ps, adjusted, strict=True):
        rank_p, margin, sd = signed_rank_p(comparison.differences), comparison.margin, effect.sd
        if margin is None or sd is None:
            raise MeasurementError(f"{comparison.metric.name} has no margin or no spread, yet is to be judged")
        judged.append(
            replace(
                comparison,
                effect=effect,
                p=p,
                p_adjusted=q,
                rank_p=rank_p,
                selected=selected_interval(effect, selected, len(family)) if q <= ALPHA else None,
                detectable=smallest_detectable(sd, comparison.n),
                needed=blocks_needed(sd, margin),
                verdict=judge(effect, comparison.metric, margin, q, rank_p, degraded=comparison.degraded),
            )
        )
    return judged


def _moderated_by_group(family: Sequence[Comparison]) -> list[Effect]:
    """Return the effects, their variances shared among cells of the same metric and n where there are enough."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    effects: list[Effect] = []
    for at, comparison in enumerate(family):
        if comparison.effect is None:
            raise MeasurementError(f"{comparison.pair.label}: nothing to judge")
        effects.append(comparison.effect)
        groups[comparison.metric.name, comparison.n].append(at)
    for members in groups.values():
        if len(members) >= MODERATION_CELLS:
            for at, effect in zip(members, moderated([effects[at] for at in members]), strict=True):
                effects[at] = effect
    return effects


def _unjudged(comparison: Comparison, refusal: str | None) -> Comparison:
    """Return a comparison without significance: secondary, or primary and invalid for the reason given."""
    effect = comparison.effect
    sd = None if effect is None else effect.sd
    return replace(
        comparison,
        p=None if effect is None else effect.p,
        detectable=None if sd is None else smallest_detectable(sd, comparison.n),
        needed=None if sd is None or comparison.margin is None else blocks_needed(sd, comparison.margin),
        verdict=Verdict("invalid", (), refusal) if refusal is not None else None,
    )
