"""Any two runs: what differs between them, then each arm of the second against the same arm of the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.chapters.grids import texts
from reports.comparing.across import Across, AcrossResult
from reports.comparing.across_words import CAVEAT, answer_of, blocks_of, remark_on, run_name
from reports.comparing.questions import Scope
from reports.figures.forest import forest_of
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Part, Picture, Text
from reports.wording import ABSENT, difference, interval, level, level_name, verdict_text

MOST_FIGURES = 6
NUMERIC = frozenset({3, 4, 5, 6, 7})


def two_runs_chapter(across: Across) -> Chapter:
    """Return the page of two runs; its table names each interval's level, and each side's own overhead."""
    first, second = across.first.run, across.second.run
    return Chapter(
        "two-runs",
        f"Two runs: {run_name(second)} against {run_name(first)}",
        answer_of(across),
        tuple(_parts(across)),
    )


def _parts(across: Across) -> Iterator[Part]:
    for reason in dict.fromkeys(filter(None, (across.first.indicative, across.second.indicative))):
        yield Text((f"All verdicts are indicative. {reason}",), "warning")
    yield Heading("What else differs between the two runs", "conditions")
    yield Text((CAVEAT,), "warning" if any(condition.weighty for condition in across.conditions) else "info")
    yield _conditions(across)
    yield Heading("Arm by arm", "results")
    scopes = tuple(dict.fromkeys(result.pair.scope for result in across.results))
    for at, scope in enumerate(scopes):
        yield from _scope(across, scope, at)
    if len(scopes) > MOST_FIGURES:
        yield Text((f"Figures are drawn for the first {MOST_FIGURES} of {len(scopes)} loads; the tables hold all.",))
    if across.unmatched:
        yield Heading("What could not be compared", "unmatched")
        rows = tuple(texts(left.run[:8], left.cell, left.reason) for left in across.unmatched)
        yield Grid("unmatched", "Cells without a counterpart", ("run", "cell", "why"), rows)


def _conditions(across: Across) -> Grid:
    rows = tuple(
        (Cell(c.fact), Cell(c.first), Cell(c.second), Cell("may move results", "warning") if c.weighty else Cell(""))
        for c in across.conditions
    )
    heads = ("fact", f"first run ({across.first.run.run_id[:8]})", f"second run ({across.second.run.run_id[:8]})", "")
    return Grid("conditions", "Facts that are not the same in both runs", heads, rows)


def _scope(across: Across, scope: Scope, at: int) -> Iterator[Part]:
    results = [result for result in across.results if result.pair.scope == scope]
    primary = [result for result in results if result.metric.primary]
    if at < MOST_FIGURES and any(result.effect for result in primary):
        title = "Second run against first: how each arm's overhead changed"
        yield Picture(forest_of(primary, title, "the first run", scope, f"two-runs-{at + 1}"))
    yield _results(f"two-runs-{at + 1}", f"Second run against first ({scope})", primary, across.alpha)
    others = [result for result in results if not result.metric.primary]
    if others:
        title = f"What gets no verdict ({scope})"
        yield _results(f"two-runs-{at + 1}-more", title, others, across.alpha, folded=True)
    yield _controls(f"two-runs-{at + 1}-controls", scope, primary)


def _results(name: str, title: str, results: Sequence[AcrossResult], alpha: float, *, folded: bool = False) -> Grid:
    heads = (
        "arm",
        "measured",
        "verdict",
        "second against first",
        f"{level_name(alpha)} interval",
        "first against its control",
        "second against its control",
        "blocks",
        "versions, first and second",
        "remark",
    )
    rows = tuple(
        (
            Cell(result.pair.label),
            Cell(result.metric.title),
            Cell(verdict_text(result.verdict), result.verdict.word if result.verdict else ""),
            Cell(difference(result)),
            Cell(interval(result)),
            Cell(difference(result.first)),
            Cell(difference(result.second)),
            Cell(blocks_of(result)),
            Cell(" / ".join(dict.fromkeys(result.versions))),
            Cell(remark_on(result)),
        )
        for result in results
    )
    return Grid(name, title, heads, rows, NUMERIC, folded=folded)


def _controls(name: str, scope: Scope, results: Sequence[AcrossResult]) -> Grid:
    """Return the levels of the controls: how much the ground itself moved. They get no verdict."""
    rows: dict[tuple[str, str, str], tuple[Cell, ...]] = {}
    for result in results:
        key = (result.first.pair.control.key, result.second.pair.control.key, result.metric.name)
        unit = result.metric.unit
        levels = [seen.control_level for seen in (result.first, result.second)]
        rows.setdefault(
            key,
            (
                Cell(result.second.pair.control.environment.mesh.label),
                Cell(result.metric.title),
                *(Cell(level(value, unit) if value is not None else ABSENT) for value in levels),
            ),
        )
    heads = ("control", "measured", "first run", "second run")
    return Grid(name, f"The controls themselves ({scope})", heads, tuple(rows.values()), frozenset({2, 3}), folded=True)
