"""Comparisons as tables: every number with its unit, its interval and its n."""

from __future__ import annotations

from collections.abc import Sequence

from reports.chapter import Cell, Grid
from reports.comparison import Comparison
from reports.wording import ABSENT, added, blocks_compared, companion, difference, interval, level, lost, verdict_text

COLUMNS = (
    "comparison",
    "measured",
    "other side",
    "this side",
    "difference",
    "95 % interval",
    "in this run",
    "blocks",
    "verdict",
    "remark",
)
NUMERIC = frozenset({2, 3, 4, 5, 6, 7})


def result_grids(name: str, title: str, comparisons: Sequence[Comparison]) -> tuple[Grid, ...]:
    """Return the primary results as a table, and the others, which carry no verdict, folded beneath."""
    primary = [c for c in comparisons if c.metric.primary]
    others = [c for c in comparisons if not c.metric.primary]
    grids = []
    if primary:
        grids.append(Grid(name, title, COLUMNS, tuple(map(result_row, primary)), NUMERIC))
    if others:
        rows = tuple(map(result_row, others))
        grids.append(Grid(f"{name}-more", f"{title}: what gets no verdict", COLUMNS, rows, NUMERIC, folded=True))
    return tuple(grids)


def result_row(c: Comparison) -> tuple[Cell, ...]:
    """Return one comparison as a row of COLUMNS."""
    note = companion(c) or (lost(c) if c.metric.primary and c.n < c.planned else "")
    return (
        Cell(c.pair.label),
        Cell(c.metric.title),
        Cell(level(c.control_level, c.metric.unit)),
        Cell(level(c.arm_level, c.metric.unit)),
        Cell(difference(c)),
        Cell(interval(c)),
        Cell(added(c) if c.metric.unit == "ms" else ABSENT),
        Cell(blocks_compared(c)),
        verdict_cell(c),
        Cell(note),
    )


def verdict_cell(c: Comparison) -> Cell:
    """Return the verdict with its flags, marked by its word."""
    return Cell(verdict_text(c.verdict), c.verdict.word if c.verdict else "")


def texts(*values: str) -> tuple[Cell, ...]:
    """Return plain fields of a row."""
    return tuple(map(Cell, values))
