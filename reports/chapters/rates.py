"""Capacity and rate-latency: how latency grows with the rate, and the highest rate that held among those measured."""

from __future__ import annotations

from collections.abc import Iterator

from reports.analysis import Analysis
from reports.chapters.asking import MOST_FIGURES, listed
from reports.figures.canvas import arm_styles
from reports.figures.rate_latency import MOST_ARMS, rate_latency_figure
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Part, Picture, Text
from reports.readings.rate_curves import (
    LEAST_ANSWERED_RATIO,
    MOST_ERRORS_PERCENT,
    Level,
    RateCurve,
    RateFamily,
    RatePoint,
    rate_families,
)
from reports.wording import ABSENT, NBSP, level

SLUG = "rates"
MOST_NAMED = 4
CAPACITY_COLUMNS = ("arm", "highest rate that held", "lowest rate that did not", "in words")
COLUMNS = (
    "arm",
    "offered",
    "p50 [95 % interval], ms",
    "p99 [95 % interval], ms",
    "valid trials",
    "answered",
    "errors",
    "held",
    "remark",
)


def rates_chapter(analysis: Analysis) -> Chapter | None:
    """Return latency over rate; None where the run has no arm at two rates."""
    run = analysis.run
    families = [f for f in rate_families(run, analysis.readings) if f.curves]
    if not families:
        return None
    return Chapter(SLUG, "Capacity: latency over rate", _answer(families), tuple(_parts(analysis, families)))


def _answer(families: list[RateFamily]) -> str:
    first = families[0]
    alike: dict[str, list[str]] = {}
    for curve in first.curves:
        alike.setdefault(_bracket(curve), []).append(curve.arm)
    said = "; ".join(f"{listed(arms, MOST_NAMED)}: {bracket}" for bracket, arms in alike.items())
    where = f" ({first.where})" if len(families) > 1 else ""
    more = f" {len(families) - 1} more combinations are below." if len(families) > 1 else ""
    return f"Highest of the measured rates that held{where}: {said}.{more}"


def _bracket(curve: RateCurve) -> str:
    held, failed = curve.bracket
    if held is None and failed is None:
        return "not known, no trial could tell"
    if failed is None:
        return f"at least {held:g}{NBSP}rps, higher rates were not measured"
    if held is None:
        return f"less than {failed:g}{NBSP}rps, the lowest rate measured"
    return f"between {held:g} and {failed:g}{NBSP}rps"


def _parts(analysis: Analysis, families: list[RateFamily]) -> Iterator[Part]:
    styles = arm_styles(analysis.run)
    for at, family in enumerate(families, 1):
        yield Heading(family.where, f"family-{at}")
        yield Text((_conditions(family), *_comparable(family)))
        if at <= MOST_FIGURES:
            name = "rate-latency" if len(families) == 1 else f"rate-latency-{at}"
            yield Picture(rate_latency_figure(family, styles, name))
            if len(family.curves) > MOST_ARMS:
                yield Text((f"The figure shows the first {MOST_ARMS} of {len(family.curves)} arms; the table all.",))
        rows = tuple(_capacity_row(curve) for curve in family.curves)
        yield Grid(f"capacity-{at}", "Highest rate that held", CAPACITY_COLUMNS, rows, frozenset({1, 2}))
        points = tuple(_row(curve, point) for curve in family.curves for point in curve.points)
        title = "Latency, answers and errors at each rate; intervals are between blocks"
        yield Grid(f"rates-{at}", title, COLUMNS, points, frozenset({1, 2, 3, 4, 5, 6, 7}))


def _conditions(family: RateFamily) -> str:
    own = "" if family.limits else " The plan sets no limit on latency, so none is asked for here."
    asked = (
        f"{100 * LEAST_ANSWERED_RATIO:g}{NBSP}% of arrivals answered, none dropped",
        f"at most {MOST_ERRORS_PERCENT:g}{NBSP}% errors",
        "p50 in the second half of the window at most a fifth above the first",
        *family.limits,
    )
    return (
        f"A trial holds its rate with {'; '.join(asked)}. A rate holds when two thirds of its trials do. "
        f"Trials whose load generator or host failed a gate say nothing about it.{own}"
    )


def _comparable(family: RateFamily) -> Iterator[str]:
    if family.weakest_rps:
        yield (
            f"Compare latencies at {0.7 * family.weakest_rps:g}{NBSP}rps and below, 70{NBSP}% of what the weakest arm "
            "is known to carry: beyond, queues make a slightly slower proxy look much slower."
        )


def _capacity_row(curve: RateCurve) -> tuple[Cell, ...]:
    held, failed = curve.bracket
    words = _bracket(curve)
    again = [p for p in curve.points if p.held and failed is not None and p.rate_rps > failed]
    if again:
        rates = listed([f"{p.rate_rps:g}{NBSP}rps" for p in again])
        words = f"{words}; {rates} held again, so the failure below may not be one of capacity"
    return (
        Cell(curve.arm),
        Cell(ABSENT if held is None else f"{held:g}{NBSP}rps"),
        Cell(ABSENT if failed is None else f"{failed:g}{NBSP}rps"),
        Cell(words),
    )


def _row(curve: RateCurve, point: RatePoint) -> tuple[Cell, ...]:
    answered, errors = point.answered_ratio, point.errors_percent
    saturated = answered is not None and answered < LEAST_ANSWERED_RATIO
    remark = "saturated: it does not keep up" if saturated else ""
    if not point.valid and not saturated:
        remark = "no valid trial: latency is not shown"
    held = {None: Cell(ABSENT), True: Cell("yes", "good"), False: Cell("no", "bad")}[point.held]
    if point.probed:
        held = Cell(f"{held.text}, {point.passed} of {point.probed}", held.tone)
    return (
        Cell(curve.arm),
        Cell(f"{point.rate_rps:g}{NBSP}rps"),
        Cell(_level(point.levels.get("p50"))),
        Cell(_level(point.levels.get("p99"))),
        Cell(f"{point.valid} of {point.trials}", "" if point.valid == point.trials else "warning"),
        Cell(ABSENT if answered is None else f"{100 * answered:.1f}{NBSP}%"),
        Cell(ABSENT if errors is None else f"{errors:.3g}{NBSP}%"),
        held,
        Cell(remark),
    )


def _level(found: Level | None) -> str:
    if found is None:
        return ABSENT
    if found.low_ms is None or found.high_ms is None:
        return f"{level(found.middle_ms)} (one block)"
    return f"{level(found.middle_ms)} [{level(found.low_ms)}, {level(found.high_ms)}]"
