"""Holding a run against its plan's thresholds: screen, confirmation on fresh blocks, and the one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from meshgauge.matrix import MeshArm, is_baseline
from meshgauge.run import RunRecord
from reports.analysis import Analysis
from reports.comparing.confirmation import FULL_SCREEN_BLOCKS, SHORT_SCREEN_P, assert_fresh, same_cell
from reports.comparing.questions import Pair
from reports.comparing.statistics import ALPHA, adjusted_p
from reports.comparing.verdict import FEWEST_VALID_BLOCKS
from reports.provenance import made_by
from reports.thresholds import words
from reports.thresholds.levels import blocks_to_decide, judge_level, level_of
from reports.thresholds.outcome import Check, Confirmation, Outcome, Status
from reports.thresholds.selection import Held, bound_of, held_in, name_of
from reports.thresholds.worsenings import Worsening, judged_in, worsening_of


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one worsening came to; ``seen`` is what counts, from the fresh blocks where there are any."""

    held: Held
    first: Worsening
    seen: Worsening
    status: Status
    confirmation: Confirmation | None
    p_adjusted: float | None
    lacking: str = ""  # why a confirming run that is over confirmed nothing


def hold(screen: Analysis, fresh: Analysis | None = None) -> Outcome:
    """Return how the run of ``screen`` stands against the thresholds of its plan.

    Levels: passed when the whole 95 % interval between blocks keeps the limit, failed when all of it breaks it,
    otherwise undecided. Each stands alone: a gate that passes only when every level passes needs no adjustment.

    Worsenings: one-sided tests against a worsening of exactly the limit. Passed when the one-sided 95 % bound keeps
    the limit. Whatever the first run finds beyond it (p < .05 with at least 10 blocks, < .10 with at least 6) is
    repeated on the plan's ``confirm_blocks`` fresh blocks, and fails when Benjamini-Hochberg at 5 % over what was
    repeated finds it again; the fresh estimate is the one published. With ``confirm_blocks: 0`` the first run
    decides alone, with Benjamini-Hochberg at 5 % over all worsenings of the plan's thresholds. In sequential mode the
    run's own level (1.8 %) takes the place of 5 % in its intervals and its screen, at every look.

    Args:
        fresh: analysis of the run that repeats what this one found; None while there is none that is over.

    Raises:
        InvalidPlanError: the plan has no thresholds, or one that selects nothing.
        MeasurementError: ``fresh`` began before the run of ``screen`` was over.

    Source: reference/statistics.md 3.6, 4.7 (screen and confirmation), 4.9 (equivalence by one-sided bounds).
    """
    run = screen.run
    if fresh is not None:
        assert_fresh(run, fresh.run)
    held = held_in(run)
    findings = {id(f.held): f for f in _findings([h for h in held if h.pair is not None], screen, fresh)}
    checks = tuple(
        _level_check(h, screen) if h.pair is None else _worsening_check(findings[id(h)], fresh) for h in held
    )
    statuses = {check.status for check in checks}
    status: Status = "failed" if "failed" in statuses else "undecided" if "undecided" in statuses else "passed"
    waiting = [f.held.pair for f in findings.values() if f.confirmation == "unconfirmed" and f.held.pair is not None]
    return Outcome(
        run_id=run.run_id,
        plan=run.plan.name,
        plan_sha256=run.plan_sha256,
        state=run.state,
        status=status,
        sentence=words.answer(status, checks),
        checks=checks,
        to_confirm=tuple(dict.fromkeys(cell.key for pair in waiting for cell in (pair.cell, pair.control))),
        confirm_blocks=run.plan.confirm_blocks,
        confirming_run_id=None if fresh is None else fresh.run.run_id,
        versions={arm.label: _version(arm) for arm in run.arms},
        meshgauge=made_by(run),
        at=(run.started_at or run.created_at).isoformat(),
        duration_s=_duration_s(run),
        remarks=_remarks(screen, fresh),
    )


def is_survivor(worsening: Worsening) -> bool:
    """Return whether a first run found so much that fresh blocks have to repeat it.

    Source: reference/statistics.md 4.7; in sequential mode its own level counts at every look (3.5).
    """
    p = worsening.p
    if p is None or worsening.n < FEWEST_VALID_BLOCKS:
        return False
    is_full = worsening.n >= FULL_SCREEN_BLOCKS or worsening.alpha < ALPHA
    return p < (worsening.alpha if is_full else SHORT_SCREEN_P)


def _findings(held: Sequence[Held], screen: Analysis, fresh: Analysis | None) -> list[_Finding]:
    judged = judged_in(screen)
    first = [(h, worsening_of(h, h.pair, screen, judged)) for h in held if h.pair is not None]
    adjusted = _adjusted([w for _, w in first])
    if screen.run.plan.confirm_blocks == 0:
        return [_decided_alone(h, w, q) for (h, w), q in zip(first, adjusted, strict=True)]
    survivors = [h for h, w in first if is_survivor(w)]
    repeated = _repeated(survivors, fresh)
    return [
        _confirmed(h, w, q, fresh, repeated.get(id(h)))
        if is_survivor(w)
        else _Finding(h, w, w, "passed" if w.is_kept else "undecided", None, q)
        for (h, w), q in zip(first, adjusted, strict=True)
    ]


def _adjusted(worsenings: Sequence[Worsening]) -> list[float | None]:
    """Return Benjamini-Hochberg adjusted p values over one family; None for those that may not be judged."""
    ps = [w.p for w in worsenings]
    known = iter(adjusted_p([p for p in ps if p is not None]))
    return [None if p is None else next(known) for p in ps]


def _decided_alone(held: Held, w: Worsening, q: float | None) -> _Finding:
    fails = q is not None and q <= w.alpha
    return _Finding(held, w, w, "failed" if fails else "passed" if w.is_kept else "undecided", None, q)


def _repeated(survivors: Sequence[Held], fresh: Analysis | None) -> Mapping[int, tuple[Worsening, float | None]]:
    """Return what the fresh blocks show of each survivor, with its p adjusted among the survivors."""
    if fresh is None:
        return {}
    cells = {cell.key: cell for cell in fresh.run.cells}
    found: dict[int, Worsening] = {}
    for held in survivors:
        pair = held.pair
        cell, control = (cells.get(pair.cell.key), cells.get(pair.control.key)) if pair else (None, None)
        if pair and cell and control and same_cell(cell, pair.cell) and same_cell(control, pair.control):
            found[id(held)] = worsening_of(held, Pair(cell, control, pair.label, pair.scope), fresh, {})
    return dict(zip(found, zip(found.values(), _adjusted(list(found.values())), strict=True), strict=True))


def _confirmed(
    held: Held, first: Worsening, q: float | None, fresh: Analysis | None, again: tuple[Worsening, float | None] | None
) -> _Finding:
    unconfirmed = _Finding(held, first, first, "failed", "unconfirmed", q)
    if fresh is None:
        return unconfirmed
    if again is None:
        return replace(unconfirmed, lacking="the confirming run does not have this pair")
    seen, adjusted = again
    if adjusted is None:
        return replace(unconfirmed, lacking=seen.reason or "its fresh blocks have no spread to judge by")
    if adjusted <= ALPHA:
        return _Finding(held, first, seen, "failed", "confirmed", adjusted)
    return _Finding(held, first, seen, "passed" if seen.is_kept else "undecided", "not reproduced", adjusted)


def _level_check(held: Held, analysis: Analysis) -> Check:
    bound, limit = bound_of(held.threshold)
    level = level_of(held.cell, held.metric, analysis)
    status = judge_level(level, bound, limit)
    needed = blocks_to_decide(level, limit) if status == "undecided" else None
    interval = level.interval
    environment = held.cell.environment
    return Check(
        threshold=name_of(held.threshold),
        index=held.index,
        metric=held.metric.name,
        title=held.metric.title,
        bound=bound,
        limit=limit,
        unit=held.metric.unit,
        arm=environment.mesh.label,
        profile=environment.profile.name,
        workload=environment.workload.label,
        infrastructure=environment.infrastructure.name,
        load=held.cell.load.label,
        against=None,
        status=status,
        confirmation=None,
        value=level.value,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        level=1 - level.alpha,
        n=level.n,
        planned=level.planned,
        p=None,
        p_adjusted=None,
        blocks_needed=needed,
        sentence=words.level_sentence(level, bound, limit, status, needed),
    )


def _worsening_check(finding: _Finding, fresh: Analysis | None) -> Check:
    held, seen = finding.held, finding.seen
    if held.pair is None:
        raise ValueError("a level is not compared with anything")
    bound, limit = bound_of(held.threshold)
    environment, control = held.pair.cell.environment, held.pair.control.environment
    against = control.workload.label if held.threshold.against == "application" else control.mesh.label
    needed = seen.blocks_to_decide if finding.status == "undecided" else None
    interval = seen.interval
    return Check(
        threshold=name_of(held.threshold),
        index=held.index,
        metric=held.metric.name,
        title=held.metric.title,
        bound=bound,
        limit=limit,
        unit=words.unit_of(seen.metric),
        arm=environment.mesh.label,
        profile=environment.profile.name,
        workload=environment.workload.label,
        infrastructure=environment.infrastructure.name,
        load=held.cell.load.label,
        against=against,
        status=finding.status,
        confirmation=finding.confirmation,
        value=seen.value,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        level=seen.level,
        n=seen.n,
        planned=seen.planned,
        p=seen.p,
        p_adjusted=finding.p_adjusted,
        blocks_needed=needed,
        sentence=words.worsening_sentence(
            seen,
            finding.first,
            limit,
            "no mesh" if held.threshold.against == "baseline" and is_baseline(control.mesh) else against,
            status=finding.status,
            confirmation=finding.confirmation,
            needed=needed,
            confirmed_by=None if fresh is None else fresh.run.run_id,
            lacking=finding.lacking,
        ),
    )


def _version(arm: MeshArm) -> str:
    hops = (f"{hop.role} {hop.adapter} {hop.binary or hop.version}" for hop in arm.hops)
    return ", ".join(hops) or "no mesh"


def _duration_s(run: RunRecord) -> float | None:
    if run.started_at is None or run.finished_at is None:
        return None
    return (run.finished_at - run.started_at).total_seconds()


def _remarks(screen: Analysis, fresh: Analysis | None) -> tuple[str, ...]:
    remarks = []
    if screen.run.finished_at is None:
        remarks.append("The run is not over yet: this is how it stands.")
    if screen.withheld:
        remarks.append(f"All comparisons are withheld: {screen.withheld}")
    remarks += [text for text in dict.fromkeys((screen.indicative, fresh.indicative if fresh else None)) if text]
    return tuple(remarks)
