"""Comparisons as tables: every number with its unit, its interval and its n."""

from __future__ import annotations

from collections.abc import Sequence

from reports.chapter import Cell, Grid
from reports.comparison import Comparison
from reports.wording import (
    ABSENT,
    added,
    blocks_compared,
    companion,
    difference,
    interval,
    level,
    level_name,
    lost,
    verdict_text,
)

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


def result_grids(name: str, title: str, comparisons: Sequence[Comparison]) -> tuple[Grid, ...]:
    """Return the primary results as a table, and the others, which carry no verdict, folded beneath."""
    primary = [c for c in comparisons if c.metric.primary]
    others = [c for c in comparisons if not c.metric.primary]
    grids = []
    heads = columns(comparisons[0].alpha) if comparisons else ()
    if primary:
        grids.append(Grid(name, title, heads, tuple(map(result_row, primary)), NUMERIC))
    if others:
        rows = tuple(map(result_row, others))
        grids.append(Grid(f"{name}-more", f"{title}: what gets no verdict", heads, rows, NUMERIC, folded=True))
    return tuple(grids)


def result_row(c: Comparison) -> tuple[Cell, ...]:
    """Return one comparison as a row beneath ``columns``."""
    note = companion(c) or (lost(c) if c.metric.primary and c.n < c.planned else "")
    return (
        Cell(c.pair.label),
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
