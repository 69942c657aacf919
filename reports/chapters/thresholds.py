"""Thresholds: how the run stands against what its plan asks for; what `meshgauge gate` answers before confirming."""

from __future__ import annotations

from collections.abc import Iterator

from meshgauge.errors import InvalidPlanError
from reports.analysis import Analysis
from reports.pages.chapter import Cell, Chapter, Grid, Part, Text
from reports.thresholds.holding import hold
from reports.thresholds.outcome import Check, Outcome
from reports.wording import ABSENT, decimals_for, level, signed

_COLUMNS = ("what is held", "threshold", "measured", "interval", "allowed", "blocks", "answer")
_TONES = {"passed": "good", "failed": "bad", "undecided": "warning"}
_ORDER = ("failed", "undecided", "passed")
_TITLE = "Thresholds: does the run keep what its plan asks for?"


def thresholds_chapter(analysis: Analysis) -> Chapter | None:
    """Return how a run stands against its plan's thresholds; None when the plan has none.

    Other runs are not looked at: what fresh blocks confirmed is in the answer of ``meshgauge gate``.
    """
    if not analysis.run.plan.thresholds:
        return None
    try:
        outcome = hold(analysis)
    except InvalidPlanError as error:  # a plan may ask for what its cells do not have
        return Chapter("thresholds", _TITLE, f"Undecided: {error}", ())
    return Chapter("thresholds", _TITLE, outcome.sentence, tuple(_parts(outcome)))


def _parts(outcome: Outcome) -> Iterator[Part]:
    if outcome.to_confirm:
        yield Text((_how_to_confirm(outcome),), "warning")
    rows = tuple(_row(check) for status in _ORDER for check in outcome.checks if check.status == status)
    yield Grid("thresholds", "Each threshold and what it was held against", _COLUMNS, rows, frozenset({2, 3, 4, 5}))
    yield Text(
        (
            "A level passes when its whole interval between blocks keeps the limit, and fails when all of it breaks "
            "it. A worsening (plus is worse) passes when its one-sided bound keeps the limit. What lies between is "
            "undecided.",
        )
    )


def _how_to_confirm(outcome: Outcome) -> str:
    picked = f"picked as the worst of {len(outcome.checks)} checks"
    cells, blocks = len(outcome.to_confirm), outcome.confirm_blocks
    return (
        f"Failures called unconfirmed were found by this run alone, {picked}. meshgauge gate {outcome.run_id[:8]} "
        f"--confirm repeats their {cells} cells on {blocks} fresh blocks and answers for good."
    )


def _row(check: Check) -> tuple[Cell, ...]:
    shown, interval = _numbers(check)
    bound = {"at_most": "at most", "at_least": "at least", "worse_by_at_most": "worse by at most"}[check.bound]
    return (
        Cell(f"{check.title}, {check.subject}"),
        Cell(check.threshold),
        Cell(shown),
        Cell(interval),
        Cell(f"{bound} {check.limit:g} {check.unit}"),
        Cell(f"{check.n} of {check.planned}" if check.n <= check.planned else str(check.n)),
        Cell(check.word, _TONES[check.status]),
    )


def _numbers(check: Check) -> tuple[str, str]:
    """Return the value with its unit, and its interval with its level."""
    if check.value is None:
        return ABSENT, ABSENT
    known = check.low is not None and check.high is not None
    low, high = check.low or 0.0, check.high or 0.0
    at = f"({100 * check.level:g} %)"
    if check.against is None:
        return level(check.value, check.unit), f"[{level(low)}, {level(high)}] {at}" if known else ABSENT
    decimals = min(decimals_for((high - low) / 2), 2) if known else 2
    return (
        f"{signed(check.value, decimals)} {check.unit}",
        f"[{signed(low, decimals)}, {signed(high, decimals)}] {at}" if known else ABSENT,
    )
