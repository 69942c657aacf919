"""Comparisons as tables: every number with its unit, its interval and its n."""

from __future__ import annotations

from collections.abc import Sequence

from reports.comparing.comparison import Comparison
from reports.figures.canvas import Row
from reports.pages.chapter import Cell, Grid
from reports.pages.csv_text import to_csv
from reports.wording import (
    ABSENT,
    added,
    blocks_compared,
    companion,
    difference,
    difference_bounds,
    difference_unit,
    interval,
    level,
    level_name,
    lost,
    verdict_text,
)

MOST_RESULTS = 900  # of one chapter with all metrics; beyond, those without a verdict are left to the CSV

# The word and its interval come before the levels: a narrow screen shows them without scrolling.
NUMERIC = frozenset({3, 4, 5, 6, 7, 8})


def columns(alpha: float) -> tuple[str, ...]:
    """Return the heads of a table of results whose intervals are of 1 - ``alpha``."""
    return (
        "comparison",
        "measured",
        "verdict",
        "difference",
        f"{level_name(alpha)} interval",
        "blocks",
        "this side",
        "other side",
        "in this run",
        "remark",
    )


def result_grids(
    name: str, title: str, comparisons: Sequence[Comparison], *, all_metrics: bool = True
) -> tuple[Grid, ...]:
    """Return the primary results as a table, and with ``all_metrics`` the others, which carry no verdict, folded."""
    primary = [c for c in comparisons if c.metric.primary]
    others = [c for c in comparisons if not c.metric.primary]
    several = len({c.pair.scope for c in comparisons}) > 1
    grids = []
    heads = columns(comparisons[0].alpha) if comparisons else ()
    if primary:
        grids.append(Grid(name, title, heads, tuple(result_row(c, with_scope=several) for c in primary), NUMERIC))
    if others and all_metrics:
        rows = tuple(result_row(c, with_scope=several) for c in others)
        grids.append(Grid(f"{name}-more", f"{title}: what gets no verdict", heads, rows, NUMERIC, folded=True))
    return tuple(grids)


def result_row(c: Comparison, *, with_scope: bool = False) -> tuple[Cell, ...]:
    """Return one comparison as a row beneath ``columns``; ``with_scope`` tells equal names in several scopes apart."""
    note = companion(c) or (lost(c) if c.metric.primary and c.n < c.planned else "")
    return (
        Cell(f"{c.pair.label} ({c.pair.scope})" if with_scope else c.pair.label),
        Cell(c.metric.title),
        verdict_cell(c),
        Cell(difference(c)),
        Cell(interval(c)),
        Cell(blocks_compared(c)),
        Cell(level(c.arm_level, c.metric.unit)),
        Cell(level(c.control_level, c.metric.unit)),
        Cell(added(c) if c.metric.unit == "ms" else ABSENT),
        Cell(note),
    )


def verdict_cell(c: Comparison) -> Cell:
    """Return the verdict with its flags, marked by its word."""
    return Cell(verdict_text(c.verdict), c.verdict.word if c.verdict else "")


def texts(*values: str) -> tuple[Cell, ...]:
    """Return plain fields of a row."""
    return tuple(map(Cell, values))


def result_csv(comparisons: Sequence[Comparison]) -> bytes:
    """Return all numbers of comparisons as CSV, on the scale they are shown in."""
    return to_csv(map(_csv_row, comparisons)).encode()


def _csv_row(c: Comparison) -> Row:
    low, middle, high = _bounds(c)
    return {
        "comparison": c.pair.label,
        "scope": str(c.pair.scope),
        "metric": c.metric.name,
        "unit": c.metric.unit,
        "arm_level": c.arm_level,
        "control_level": c.control_level,
        "difference": middle,
        "difference_unit": difference_unit(c.metric),
        "low": low,
        "high": high,
        "interval_level": 1 - c.alpha,
        "p": c.p,
        "p_adjusted": c.p_adjusted,
        "blocks": c.n,
        "verdict": c.verdict.word if c.verdict else None,
        "flags": " ".join(c.verdict.flags) if c.verdict else None,
        "reason": c.verdict.reason if c.verdict else None,
    }


def _bounds(c: Comparison) -> tuple[float | None, float | None, float | None]:
    middle, low, high = difference_bounds(c) or (None, None, None)
    return low, middle, high
