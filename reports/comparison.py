"""Pairs of cells compared block by block: effects, one family's significance, verdicts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from meshgauge.errors import MeasurementError
from meshgauge.plan import Margins
from reports.metrics import METRICS, Metric
from reports.questions import Pair, Question
from reports.readings import Losses, MeasuredTrial, Readings, block_level, hosts_differ, mean_level
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
class Comparison:
    """One metric of one pair, over the blocks in which both sides are valid.

    Attributes:
        differences: per block of ``blocks``, arm - control, on the scale of the metric (ln for ratios).
        arm_level, control_level: mean over those blocks in the metric's unit, geometric for ratios.
        p, p_adjusted: Yuen's p, moderated in large families; adjusted over the question's primary results.
        selected: the wider interval for significant results of a large family; None for the others.
        detectable: smallest difference these blocks could have shown, on the metric's scale.
        needed: blocks that would show a difference as large as the margin; None: more than anyone would run.
        losses: per side, why blocks are missing and how often.
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
    losses = Losses()
    degraded = False
    for block in sorted(set(arms) | set(controls)):
        arm, control = block_level(arms.get(block, ()), metric), block_level(controls.get(block, ()), metric)
        if arm is None or control is None:
            known = arm is not None or control is not None
            for side, turns, value in (("arm", arms, arm), ("control", controls, control)):
                if value is None and (metric.primary or known):
                    losses.add(side, turns.get(block, ()), metric)
            continue
        if hosts_differ(arms[block], controls[block]):
            losses.add_block("ran on different hosts")
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
        mean_level(arm_levels, metric),
        mean_level(control_levels, metric),
        trimmed_effect(differences, metric.resolution) if differences else None,
        losses.told(),
        degraded,
        margin_on_scale(metric, metric.margin(margins)) if metric.margin else None,
    )


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
    return unequal or too_few_blocks(comparison.n, comparison.planned)


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
