"""Which requests get slower: the difference to the baseline over the whole distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reports.analysis import Analysis, Answer
from reports.chapters.answers import common_refusal, word_of
from reports.chapters.asking import MOST_FIGURES, answer_to, listed, of_metric, scopes_of
from reports.comparing.comparison import Comparison
from reports.comparing.questions import arm_name
from reports.figures.canvas import Row, arm_styles
from reports.figures.gallery import file_stem
from reports.figures.shift import rows_of, shift_figure
from reports.pages.chapter import Cell, Chapter, Grid, Part, Picture, Text
from reports.readings.shifts import FEWEST_BLOCKS, Shift, shift_of
from reports.wording import ABSENT, NBSP, level, level_name, percent_of_ln, signed

SLUG = "which-requests"
MOST_PAIRS_SHOWN = 60


def shifts_chapter(analysis: Analysis) -> Chapter | None:
    """Return the shift of each arm against the baseline; None where nothing can be compared with it."""
    answer = answer_to(analysis, "baseline")
    if answer is None:
        return None
    medians = of_metric(answer.comparisons, "p50")
    judged = [c for c in medians if word_of(c) not in {None, "invalid"}]
    found = [shift for c in judged[:MOST_PAIRS_SHOWN] if (shift := shift_of(c, analysis.readings))]
    if not found and not any(c.blocks for c in medians):
        return None
    parts = tuple(_parts(analysis, answer, found, len(judged)))
    return Chapter(SLUG, "Which requests get slower?", _answer(answer, medians, found), parts)


def _answer(answer: Answer, medians: Sequence[Comparison], found: Sequence[Shift]) -> str:
    refusal = common_refusal(medians)
    if refusal or not found:
        return f"No statement about single percentiles: {refusal or 'no pair has blocks enough'}."
    against = answer.question.against
    several = len({shift.comparison.pair.scope for shift in found}) > 1
    if len(found) > 3 or several:
        everywhere = [shift for shift in found if _sides(shift) == {1}]
        nowhere = [shift for shift in found if _sides(shift) == {0}]
        rest = len(found) - len(everywhere) - len(nowhere)
        what = "combinations of arm and load" if several else "arms"
        said = [
            f"Against {against}, {len(everywhere)} of {len(found)} {what} have a higher latency at every percentile"
        ]
        if nowhere:
            said.append(f"{len(nowhere)} are not shown to differ at any")
        if rest:
            said.append(f"{rest} differ at some percentiles only, or in both directions")
        return f"{'; '.join(said)}."
    return f"Against {against}: {'; '.join(f'{s.comparison.pair.label} {_told(s)}' for s in found)}."


def _signs(shift: Shift) -> list[int]:
    """Return per percentile 1 where the band lies above zero, -1 beneath, 0 where it holds zero."""
    if shift.band is None:
        return [0] * len(shift.p)
    above, beneath = shift.middle - shift.band > 0, shift.middle + shift.band < 0
    return [int(value) for value in np.where(above, 1, np.where(beneath, -1, 0))]


def _sides(shift: Shift) -> set[int]:
    return set(_signs(shift))


def _told(shift: Shift) -> str:
    if shift.band is None:
        return f"has {shift.blocks} blocks, a band takes {FEWEST_BLOCKS}"
    signs = _signs(shift)
    if set(signs) == {0}:
        return "is not shown to differ at any percentile"
    stretches = []
    for sign, what in ((1, "higher"), (-1, "lower")):
        where = _ranges(shift, [value == sign for value in signs])
        if where:
            stretches.append(f"{what} {where}")
    sizes = [percent_of_ln(float(shift.middle[at])) for at, sign in enumerate(signs) if sign]
    low, high = min(sizes), max(sizes)
    size = f"{signed(low, 0)}{NBSP}%" if round(low) == round(high) else f"{signed(low, 0)} to {signed(high, 0)}{NBSP}%"
    return f"is {' and '.join(stretches)} ({size})"


def _ranges(shift: Shift, marked: Sequence[bool]) -> str:
    if all(marked):
        return f"at every percentile from {_name(shift.p[0])} to {_name(shift.p[-1])}"
    ranges: list[list[int]] = []
    for at, on in enumerate(marked):
        if on and ranges and ranges[-1][-1] == at - 1:
            ranges[-1].append(at)
        elif on:
            ranges.append([at])
    names = [
        f"at {_name(shift.p[r[0]])}" if len(r) == 1 else f"from {_name(shift.p[r[0]])} to {_name(shift.p[r[-1]])}"
        for r in ranges
    ]
    return listed(names)


def _name(p: float) -> str:
    return f"p{100 * float(p):.4g}"


def _parts(analysis: Analysis, answer: Answer, found: Sequence[Shift], judged: int) -> Iterator[Part]:
    yield Text(
        (
            "A mesh can add the same to every request, or only to the slow ones. The band holds for all percentiles at "
            "once: where it does not touch zero, requests of that rank are shown to differ. It is made by flipping "
            "the signs of whole blocks, so correlated percentiles do not widen it.",
            "These are no verdicts, and margins do not enter. The line is the plain mean over blocks; the effect in "
            "the result tables is the trimmed mean, which can be a little different.",
        )
    )
    styles, scopes = arm_styles(analysis.run), scopes_of(analysis.run)
    for at, shift in enumerate(found[:MOST_FIGURES], 1):
        pair = shift.comparison.pair
        stem = file_stem(f"shift-{at}", "", pair.scope, scopes)
        yield Picture(shift_figure(shift, answer.question.against, styles[arm_name(pair.cell)], stem))
    if found:
        yield _grid(answer.question.against, found)
    if judged > len(found) or len(found) > MOST_FIGURES:
        drawn = min(len(found), MOST_FIGURES)
        yield Text(
            (
                f"Of {judged} arms with a verdict, {len(found)} are in the table and the first {drawn} drawn; all "
                "percentiles of all arms can be read from the percentile figures and the exported histograms.",
            ),
            "info",
        )


def _grid(against: str, found: Sequence[Shift]) -> Grid:
    alpha = found[0].comparison.alpha
    columns = (
        "arm",
        "workload, infrastructure, load",
        "percentile",
        f"difference to {against}",
        f"{level_name(alpha)} band, all percentiles",
        f"{level_name(alpha)} interval, this one",
        "this side",
        "other side",
        "blocks",
    )
    rows = [_row(shift, row) for shift in found for row in rows_of(shift)]
    title = f"Difference to {against} by percentile of net response time"
    return Grid("shifts", title, columns, tuple(rows), frozenset(range(2, 9)), folded=len(rows) > 40)


def _row(shift: Shift, row: Row) -> tuple[Cell, ...]:
    pair = shift.comparison.pair
    return (
        Cell(pair.label),
        Cell(str(pair.scope)),
        Cell(f"p{row['percentile']:g}"),
        Cell(_percent(row["difference_percent"])),
        Cell(_span(row["low_simultaneous_percent"], row["high_simultaneous_percent"])),
        Cell(_span(row["low_pointwise_percent"], row["high_pointwise_percent"])),
        Cell(level(_number(row["arm_ms"]), "ms")),
        Cell(level(_number(row["control_ms"]), "ms")),
        Cell(str(shift.blocks)),
    )


def _number(value: str | float | None) -> float | None:
    return None if value is None else float(value)


def _percent(value: str | float | None) -> str:
    return ABSENT if value is None else f"{signed(float(value), 1)}{NBSP}%"


def _span(low: str | float | None, high: str | float | None) -> str:
    return ABSENT if low is None or high is None else f"[{signed(float(low), 1)}, {signed(float(high), 1)}]{NBSP}%"
