"""Pairs of cells compared block by block: effects, one family's significance, verdicts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from meshgauge.errors import MeasurementError
from meshgauge.plan import LOOKS, Margins
from reports.comparing.questions import Pair, Question
from reports.comparing.sequential import LOOK_ALPHA, look_at
from reports.comparing.statistics import (
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
from reports.comparing.verdict import (
    FEWEST_VALID_BLOCKS,
    Verdict,
    judge,
    margin_on_scale,
    selected_interval,
    too_few_blocks,
)
from reports.readings.metrics import METRICS, Metric
from reports.readings.trials import (
    TOO_FEW_REQUESTS,
    Losses,
    MeasuredTrial,
    Readings,
    block_level,
    hosts_differ,
    mean_level,
)

UNEQUAL_FAILURE_P = 0.01


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one pair, over the blocks in which both sides are valid.

    Attributes:
        blocks: those compared; in sequential mode exactly those of the last look, never more.
        differences: per block of ``blocks``, arm - control, on the scale of the metric (ln for ratios).
        arm_level, control_level: mean over those blocks in the metric's unit, geometric for ratios.
        p, p_adjusted: Yuen's p, moderated in large families; adjusted over the question's primary results.
        selected: the wider interval for significant results of a large family; None for the others.
        detectable: smallest difference these blocks could have shown, on the metric's scale.
        needed: blocks that would show a difference as large as the margin; None: more than anyone would run.
        losses: per side, why blocks are missing and how often.
        verdict: None for secondary metrics.
        alpha: level of significance; intervals are of 1 - alpha.
        tried: blocks up to the last one compared, lost ones included.
        look: in sequential mode the look it was read at; None before the first, and in fixed mode.
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
    alpha: float = ALPHA
    tried: int = 0
    look: int | None = None

    @property
    def n(self) -> int:
        """Blocks compared."""
        return len(self.blocks)

    @property
    def interval(self) -> Interval | None:
        """The interval of 1 - alpha: 95 %, in sequential mode 98.2 %."""
        return None if self.effect is None else self.effect.interval(1 - self.alpha)


def compare(
    question: Question,
    readings: Readings,
    planned: int,
    margins: Margins,
    withheld: str | None = None,
    *,
    sequential: bool = False,
) -> tuple[Comparison, ...]:
    """Return all comparisons of one question: its primary results form one family.

    Args:
        planned: blocks the plan asked for.
        withheld: why no verdict may be given at all; None when they may.
        sequential: whether the plan declared early looks: then only blocks of a look count, at LOOK_ALPHA.
    """
    raw = [
        comparison
        for pair in question.pairs
        for metric in METRICS
        if (comparison := observe(pair, metric, readings, planned, margins, sequential=sequential)).losses
        or comparison.blocks
    ]
    return judge_family(raw, readings, withheld)


def judge_family(
    observed: Sequence[Comparison], readings: Readings, withheld: str | None = None
) -> tuple[Comparison, ...]:
    """Return comparisons with their verdicts, in the order given: the primary ones that may be judged are one family.

    Args:
        observed: as ``observe`` made them, of one run.
    """
    refused = {id(c): _withheld(withheld) or refusal(c, readings) for c in observed if c.metric.primary}
    family = [c for c in observed if c.metric.primary and refused[id(c)] is None]
    judged = {id(before): after for before, after in zip(family, _judged(family), strict=True)}
    return tuple(judged.get(id(c)) or _unjudged(c, refused.get(id(c))) for c in observed)


@dataclass(frozen=True, slots=True)
class _Block:
    """One block in which both sides are valid: levels on the metric's scale."""

    number: int
    arm: float
    control: float
    degraded: bool


def observe(
    pair: Pair, metric: Metric, readings: Readings, planned: int, margins: Margins, *, sequential: bool = False
) -> Comparison:
    """Return what was seen of one metric of one pair: differences, levels, effect and losses, not yet judged."""
    arms, controls = readings.blocks_of(pair.cell), readings.blocks_of(pair.control)
    valid: list[_Block] = []
    lost: list[tuple[int, str, Sequence[MeasuredTrial] | None]] = []
    numbers = sorted(set(arms) | set(controls))
    for block in numbers:
        ours, theirs = arms.get(block, ()), controls.get(block, ())
        if sequential and _is_open((*ours, *theirs)):
            break  # a later block must never take the place of one that is still to come
        arm, control = block_level(ours, metric), block_level(theirs, metric)
        if arm is None or control is None:
            known = arm is not None or control is not None
            for side, turns, value in (("arm", ours, arm), ("control", theirs, control)):
                if value is None and (metric.primary or known):
                    lost.append((block, side, turns))
        elif hosts_differ(ours, theirs):
            lost.append((block, "", None))
        else:
            degraded = any(metric.spoiled_by in turn.degraded for turn in (*ours, *theirs))
            valid.append(_Block(block, arm, control, degraded))
    look = look_at(len(valid)) if sequential else None
    compared = valid if look is None else valid[:look]
    last = numbers[-1] if look is None and numbers else compared[-1].number if compared else -1
    differences = tuple(block.arm - block.control for block in compared)
    return Comparison(
        pair,
        metric,
        planned,
        tuple(block.number for block in compared),
        differences,
        mean_level([block.arm for block in compared], metric),
        mean_level([block.control for block in compared], metric),
        trimmed_effect(differences, metric.resolution) if differences else None,
        _losses([loss for loss in lost if loss[0] <= last], metric),
        any(block.degraded for block in compared),
        margin_on_scale(metric, metric.margin(margins)) if metric.margin else None,
        alpha=LOOK_ALPHA if sequential else ALPHA,
        tried=sum(number <= last for number in numbers),
        look=look,
    )


def _losses(lost: Iterable[tuple[int, str, Sequence[MeasuredTrial] | None]], metric: Metric) -> tuple[str, ...]:
    losses = Losses()
    for _, side, turns in lost:
        if turns is None:
            losses.add_block("ran on different hosts")
        else:
            losses.add(side, turns, metric)
    return losses.told()


def _is_open(turns: Iterable[MeasuredTrial]) -> bool:
    return any(turn.trial.state in {"pending", "running"} for turn in turns)


def _withheld(reason: str | None) -> Verdict | None:
    return None if reason is None else Verdict("invalid", (), reason, open=True)


def refusal(comparison: Comparison, readings: Readings) -> Verdict | None:
    """Return the verdict ``invalid`` where this comparison gets no other, or None when it may be judged."""
    pair, metric = comparison.pair, comparison.metric
    arms, controls = readings.blocks_of(pair.cell), readings.blocks_of(pair.control)
    reason = None
    changed = [readings.changed.get(cell.environment.key) for cell in (pair.cell, pair.control)]
    engines = {
        turn.trial.load.engine
        for block in comparison.blocks
        for turn in (*arms[block], *controls[block])
        if turn.trial.load is not None
    }
    if pair.cell.load.loop == "closed":
        reason = "closed loop: a request waits for the reply before it, so this restates throughput"
    elif any(changed):
        reason = "; ".join(filter(None, changed))
    elif len(engines) > 1:
        reason = f"different load engines ({', '.join(sorted(engines))}) are never compared"
    else:
        reason = _unequal_failure(arms, controls, metric)
    if reason is not None:
        return Verdict("invalid", (), reason)
    lacking = _lacks_blocks(comparison)
    if lacking is None:
        return None
    # Windows too short for a percentile are so in every block: to wait for more blocks would be in vain.
    in_vain = comparison.n == 0 and any(TOO_FEW_REQUESTS in loss for loss in comparison.losses)
    return Verdict("invalid", (), lacking, open=not in_vain)


def _lacks_blocks(comparison: Comparison) -> str | None:
    if comparison.alpha == ALPHA:
        return too_few_blocks(comparison.n, comparison.planned)
    if comparison.look is None:
        return f"{comparison.n} valid blocks so far; the first look is at {LOOKS[0]}"
    return too_few_blocks(comparison.n, comparison.tried)


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
    selected = sum(q <= c.alpha for c, q in zip(family, adjusted, strict=True))
    judged = []
    for comparison, effect, p, q in zip(family, effects, ps, adjusted, strict=True):
        rank_p, margin, sd, alpha = (
            signed_rank_p(comparison.differences),
            comparison.margin,
            effect.sd,
            comparison.alpha,
        )
        if margin is None or sd is None:
            raise MeasurementError(f"{comparison.metric.name} has no margin or no spread, yet is to be judged")
        judged.append(
            replace(
                comparison,
                effect=effect,
                p=p,
                p_adjusted=q,
                rank_p=rank_p,
                selected=selected_interval(effect, selected, len(family), alpha) if q <= alpha else None,
                detectable=smallest_detectable(sd, comparison.n, alpha),
                needed=blocks_needed(sd, margin, alpha),
                verdict=judge(effect, comparison.metric, margin, q, rank_p, degraded=comparison.degraded, alpha=alpha),
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


def _unjudged(comparison: Comparison, refused: Verdict | None) -> Comparison:
    """Return a comparison without significance: secondary, or primary and invalid for the reason given."""
    effect, alpha = comparison.effect, comparison.alpha
    sd = None if effect is None else effect.sd
    return replace(
        comparison,
        p=None if effect is None else effect.p,
        detectable=None if sd is None else smallest_detectable(sd, comparison.n, alpha),
        needed=None if sd is None or comparison.margin is None else blocks_needed(sd, comparison.margin, alpha),
        verdict=refused,
    )
