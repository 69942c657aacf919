"""Screen, then confirm: what one run found is repeated on fresh blocks, and only what shows up again is published."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from meshgauge.errors import MeasurementError
from meshgauge.matrix import Cell
from meshgauge.run import RunRecord
from reports.analysis import Analysis, Answer, analyse
from reports.comparing.comparison import Comparison, judge_family, observe
from reports.comparing.remarks import Remark
from reports.comparing.statistics import ALPHA
from reports.comparing.verdict import FEWEST_VALID_BLOCKS, Verdict
from reports.wording import difference, interval

# Each with the power of the whole procedure in mind (statistics.md 3.6 and 4.7): 10 blocks screen at .05, 6 at .10.
FULL_SCREEN_BLOCKS = 10
SHORT_SCREEN_P = 0.10
MOST_TOLD = 12  # findings in words; a page is read from its top
DIFFERENT = frozenset({"slower", "faster", "more", "less"})

Outcome = Literal["confirmed", "not confirmed", "not repeated"]
_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What fresh blocks say of one result of a screening run.

    Attributes:
        screened: the result as the screening run had it. Its size is inflated by having been picked.
        fresh: the same pair and metric in the confirming run alone, judged among the survivors: the estimate to
            publish. None where that run does not have the pair.
        outcome: ``not repeated`` when the fresh blocks allow no verdict.
        reason: a sentence.
    """

    screened: Comparison
    fresh: Comparison | None
    outcome: Outcome
    reason: str


def is_survivor(comparison: Comparison) -> bool:
    """Return whether a result of a screening run is worth fresh blocks.

    Its own p counts, before any adjustment: < .05 with at least 10 blocks, < .10 with at least 6; in sequential mode
    the level of its looks. A result without a valid verdict is none.

    Source: reference/statistics.md 4.7.
    """
    verdict, p = comparison.verdict, comparison.p
    if verdict is None or verdict.word == "invalid" or p is None or comparison.n < FEWEST_VALID_BLOCKS:
        return False
    is_full = comparison.n >= FULL_SCREEN_BLOCKS or comparison.alpha < ALPHA
    return p < (comparison.alpha if is_full else SHORT_SCREEN_P)


def survivors(analysis: Analysis) -> tuple[Comparison, ...]:
    """Return the primary results of a screening run that are worth fresh blocks; A/A pairs are none."""
    return tuple(
        c
        for answer in analysis.answers
        if answer.question.key != "aa"
        for c in answer.comparisons
        if c.metric.primary and is_survivor(c)
    )


def confirm(
    screen: Analysis, fresh: Analysis, screened: Sequence[Comparison] | None = None
) -> tuple[Confirmation, ...]:
    """Return what a confirming run says of each survivor of the screening run.

    Confirmed is what differs again, in the same direction, with Benjamini-Hochberg at 5 % over the survivors, on
    blocks of the confirming run alone.

    Args:
        screened: primary results of ``screen`` to confirm; by default all its survivors. Those among them that are
            no survivors are left out.

    Raises:
        MeasurementError: the screening run is not over, or a block of the other began before its end.

    Source: reference/statistics.md 3.6 and 4.7 (false discovery rate .006 to .009, power .65 to .72).
    """
    assert_fresh(screen.run, fresh.run)
    chosen = [c for c in (survivors(screen) if screened is None else screened) if is_survivor(c)]
    cells = {cell.key: cell for cell in fresh.run.cells}
    plan = fresh.run.plan
    observed: dict[int, Comparison] = {}
    for at, old in enumerate(chosen):
        pair = old.pair
        cell, control = cells.get(pair.cell.key), cells.get(pair.control.key)
        if cell and control and same_cell(cell, pair.cell) and same_cell(control, pair.control):
            again = replace(pair, cell=cell, control=control)
            observed[at] = observe(
                again, old.metric, fresh.readings, plan.blocks, plan.margins, sequential=plan.sequential
            )
    judged = dict(zip(observed, judge_family(tuple(observed.values()), fresh.readings, fresh.withheld), strict=True))
    return tuple(_confirmation(old, judged.get(at)) for at, old in enumerate(chosen))


def analyse_confirming(run: RunRecord, screening: RunRecord) -> Analysis:
    """Return the analysis of a run that repeats the findings of another; what it agrees with is no longer unconfirmed.

    Where its blocks cannot confirm anything, it stands by itself, and says why.
    """
    screen, fresh = analyse(screening), analyse(run)
    try:
        found = confirm(screen, fresh)
    except MeasurementError as error:
        return replace(fresh, remarks=(Remark("warning", f"It confirms nothing: {error}."), *fresh.remarks))
    return with_confirmations(fresh, found, screening.run_id)


def with_confirmations(fresh: Analysis, confirmations: Sequence[Confirmation], screen_id: str) -> Analysis:
    """Return the confirming run's analysis in which confirmed results have lost the flag ``unconfirmed``.

    The result published is the fresh one, with the significance it has among the survivors; all other results stay as
    this run found them by itself.
    """
    confirmed = {_key(c.fresh): c.fresh for c in confirmations if c.outcome == "confirmed" and c.fresh is not None}
    answers = tuple(
        Answer(answer.question, tuple(_published(c, confirmed.get(_key(c))) for c in answer.comparisons))
        for answer in fresh.answers
    )
    return replace(fresh, answers=answers, remarks=(*fresh.remarks, *remarks_on(confirmations, screen_id)))


def remarks_on(confirmations: Sequence[Confirmation], screen_id: str) -> tuple[Remark, ...]:
    """Return what the confirming run's page says about the findings it was made for."""
    repeated = [c for c in confirmations if c.fresh is not None]  # a confirming run holds what it was made for
    if not repeated:
        return (Remark("note", f"This run repeats run {screen_id[:8]} on fresh blocks; it has nothing to confirm."),)
    count = sum(c.outcome == "confirmed" for c in repeated)
    head = Remark(
        "note",
        f"This run repeats findings of run {screen_id[:8]} on fresh blocks: {count} of {len(repeated)} confirmed. "
        "Estimates are those of the fresh blocks alone: the first run's are inflated by having been picked.",
    )
    left = len(repeated) - MOST_TOLD
    more = (Remark("note", f"{left} more findings are in the tables."),) if left > 0 else ()
    return (head, *(Remark("note", c.reason) for c in repeated[:MOST_TOLD]), *more)


def assert_fresh(screen: RunRecord, fresh: RunRecord) -> None:
    """See that every block of ``fresh`` began after ``screen`` had ended.

    Raises:
        MeasurementError: the screening run is not over, or a block began before its end.
    """
    ended = screen.finished_at
    if ended is None:
        raise MeasurementError(f"run {screen.run_id} is not over: nothing of it can be confirmed yet")
    early = [t for t in fresh.trials if t.started_at is not None and t.started_at <= ended]
    if early or fresh.run_id == screen.run_id:
        blocks = ", ".join(sorted({str(trial.block + 1) for trial in early})) or "all"
        raise MeasurementError(
            f"run {fresh.run_id} cannot confirm run {screen.run_id}: its blocks ({blocks}) began before that run ended "
            f"at {ended.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC; only fresh blocks confirm"
        )


def same_cell(one: Cell, other: Cell) -> bool:
    """Return whether two cells of different runs measure the same thing; where it was measured may differ in name."""
    ours, theirs = one.environment, other.environment
    return (
        ours.mesh.hops == theirs.mesh.hops
        and ours.profile == theirs.profile
        and ours.workload == theirs.workload
        and one.load == other.load
    )


def _confirmation(old: Comparison, new: Comparison | None) -> Confirmation:
    what = (
        f"{old.pair.label} ({old.pair.scope}), {old.metric.title}: {difference(old)} {interval(old)} in the first run"
    )
    if new is None:
        return Confirmation(old, None, "not repeated", f"{what}; the confirming run does not have the same pair.")
    verdict = new.verdict
    if verdict is None or verdict.word == "invalid" or new.effect is None or old.effect is None:
        why = verdict.reason if verdict else "it was not judged"
        return Confirmation(old, new, "not repeated", f"{what}; not repeated: {why}.")
    seen = f"{difference(new)} {interval(new)} on {new.n} fresh blocks"
    same_sign = new.effect.estimate * old.effect.estimate > 0
    if verdict.word in DIFFERENT and same_sign:
        flags = tuple(flag for flag in verdict.flags if flag != "unconfirmed")
        agreed = replace(new, verdict=replace(verdict, flags=flags))
        return Confirmation(old, agreed, "confirmed", f"{what}; confirmed: {seen}.")
    why = "in the other direction" if verdict.word in DIFFERENT else verdict.word
    return Confirmation(old, new, "not confirmed", f"{what}; not confirmed: {seen}, {why}.")


def _key(comparison: Comparison) -> _Key:
    return comparison.pair.cell.key, comparison.pair.control.key, comparison.metric.name


def _published(comparison: Comparison, fresh: Comparison | None) -> Comparison:
    verdict: Verdict | None = comparison.verdict
    return (
        comparison
        if fresh is None or verdict is None or verdict.word == "invalid"
        else replace(fresh, pair=comparison.pair)
    )
