"""The results in one scope: every question the plan asked there, its figure and its numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from meshgauge.matrix import Cell as MatrixCell
from meshgauge.run import RunRecord
from meshgauge.trial import CLOCKS
from reports.analysis import Analysis, Answer
from reports.chapters.answers import state_of
from reports.chapters.grids import result_grids
from reports.comparing.comparison import Comparison
from reports.comparing.questions import Pair, Scope, arm_name, scope_of
from reports.figures.gallery import Gallery
from reports.headlines import Headline, headlines
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Listing, Part, Picture, Text
from reports.readings.trials import Readings
from reports.wording import ABSENT, level, on_scale

CLOCK_COLUMNS = ("Arm", *(f"{clock} {name}, ms" for clock in CLOCKS for name in ("p50", "p99")), "trials")


def scopes_of(analysis: Analysis) -> tuple[Scope, ...]:
    """Return the scopes of a run in the order of its cells."""
    return tuple(dict.fromkeys(scope_of(cell) for cell in analysis.run.cells))


def scope_slug(number: int) -> str:
    """Return the slug of the results of the n-th scope, counted from 1."""
    return f"results-{number}"


def main_headlines(analysis: Analysis) -> Mapping[Scope, Headline]:
    """Return what is said first about each scope; one in which nothing is compared is not among them."""
    found: dict[Scope, Headline] = {}
    for headline in headlines(analysis):
        found.setdefault(headline.scope, headline)
    return found


def result_chapters(analysis: Analysis, gallery: Gallery) -> Iterator[Chapter]:
    """Yield the results, one chapter a scope."""
    run = analysis.run
    cells: dict[Scope, list[MatrixCell]] = {}
    for cell in run.cells:
        cells.setdefault(scope_of(cell), []).append(cell)
    said: dict[Scope, list[Headline]] = {}
    for headline in headlines(analysis):
        said.setdefault(headline.scope, []).append(headline)
    compared: dict[tuple[str, Scope], list[Comparison]] = {}
    for answer in analysis.answers:
        for c in answer.comparisons:
            compared.setdefault((answer.question.title, c.pair.scope), []).append(c)
    for at, (scope, members) in enumerate(cells.items(), 1):
        parts: list[Part] = [Text((f"{_described(members[0])}.",))]
        for place, headline in enumerate(said.get(scope, ())):
            answer = next(a for a in analysis.answers if a.question.title == headline.question)
            parts += _question(answer, headline, compared[headline.question, scope], gallery, run, is_first=place == 0)
        parts += _overall_figures(scope, gallery)
        parts += _clocks(members, analysis.readings)
        first = next(iter(said.get(scope, ())), None)
        text = (
            first.text if first else f"Nothing is compared here: there is no cell of “{run.plan.baseline}” beside it."
        )
        yield Chapter(scope_slug(at), f"Results: {scope}", f"{state_of(run)}{text}", tuple(parts))


def _described(cell: MatrixCell) -> str:
    load, spec = cell.load, cell.environment.workload.spec
    rate = "Closed loop" if load.rate_rps is None else f"{load.rate_rps:g} requests a second, {load.arrival} arrivals"
    size = "" if spec.reply_bytes is None else f", replies of {spec.reply_bytes} bytes"
    return (
        f"{rate} over {load.connections} connections, {spec.method} over {spec.protocol}{size}; "
        f"{load.warm_up_s:g} s warm-up, {load.window_s:g} s measured"
    )


def _question(
    answer: Answer,
    headline: Headline,
    comparisons: Sequence[Comparison],
    gallery: Gallery,
    run: RunRecord,
    *,
    is_first: bool,
) -> Iterator[Part]:
    key = answer.question.key
    yield Heading(headline.question, key)
    if not is_first:  # the first one is the answer of the page
        yield Text((headline.text,))
    yield Listing(headline.sentences)
    if figure := gallery.forests.get((key, headline.scope)):
        yield Picture(figure)
    yield from result_grids(key, f"{headline.question}: every number", comparisons)
    unequal = {c.pair.label: settings for c in comparisons if (settings := _unequal_settings(c.pair, run))}
    if unequal:
        yield Text(("Set differently on the two sides, so part of the difference:",))
        yield Listing(tuple(unequal.items()))
    margins = {c.metric.title: on_scale(c.metric, c.margin) for c in comparisons if c.metric.primary}
    if margins:
        within = ", ".join(f"{name} ±{margin}" for name, margin in margins.items())
        yield Text(
            (
                f"Differences count as too small to matter within {within}. Levels are means over the compared blocks, "
                "geometric where the difference is in per cent. “In this run” applies the ratio to the control's "
                "level: milliseconds do not carry over to other machines.",
            )
        )


def _unequal_settings(pair: Pair, run: RunRecord) -> str:
    """Return the features that both meshes of a pair state, and state differently (measurement.md 7)."""
    arm, control = (run.features.get(cell.environment.key, {}) for cell in (pair.cell, pair.control))
    differing = {
        name.replace("_", " "): None
        for role in arm
        if role in control
        for name, value in arm[role].items()
        if control[role].get(name, value) != value
    }
    return ", ".join(differing)


def _overall_figures(scope: Scope, gallery: Gallery) -> Iterator[Part]:
    if percentiles := gallery.percentiles.get(scope):
        yield Heading("Latency by percentile", "percentiles")
        yield Picture(percentiles)
    if cost := gallery.costs.get(scope):
        yield Heading("Cost", "cost")
        yield Picture(cost)


def _clocks(cells: Sequence[MatrixCell], readings: Readings) -> Iterator[Part]:
    """Yield p50 and p99 of every clock of each arm, medians over valid trials, in ms."""
    rows = []
    for cell in cells:
        turns = [turn for turns in readings.blocks_of(cell).values() for turn in turns if "latency" not in turn.spoiled]
        found = [_median(turn.clocks[clock][at] for turn in turns) for clock in CLOCKS for at in (0, 1)]
        rows.append(tuple(Cell(text) for text in (arm_name(cell), *found, str(len(turns)))))
    yield Heading("All clocks", "clocks")
    yield Text(
        (
            "Response time is counted from the moment a request was due, service time from the moment it was sent; lag "
            "is the load generator's own lateness; net = response − lag is what verdicts use. Medians over valid "
            "trials, in ms.",
        )
    )
    yield Grid("clocks", "All clocks of each arm", CLOCK_COLUMNS, tuple(rows), frozenset(range(1, len(CLOCK_COLUMNS))))


def _median(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return level(statistics.median(known)) if known else ABSENT
