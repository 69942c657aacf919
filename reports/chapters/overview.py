"""The first page of a run: the answer, what must be said about it, and the way to every other page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import Analysis
from reports.chapters.answers import state_of
from reports.chapters.results import main_headlines, scope_slug, scopes_of
from reports.comparing.questions import Scope
from reports.headlines import Headline, overall
from reports.pages.chapter import Cell, Chapter, Grid, Listing, Part, Text

SLUG = "index"


def overview_chapter(analysis: Analysis, others: Sequence[Chapter], folder: str) -> Chapter:
    """Return the first page of a run in any state.

    Args:
        others: the run's other chapters, in the order of reading.
        folder: of the run's pages, from the site's root.
    """
    return Chapter(SLUG, analysis.run.plan.name, answer_of(analysis), tuple(_parts(analysis, others, folder)))


def answer_of(analysis: Analysis) -> str:
    """Return the answer of a run in words: one sentence or two, right in any state."""
    said = overall(analysis)
    if said is None:
        firsts = main_headlines(analysis)
        said = next((_scope_answer(analysis, firsts, scope) for scope in scopes_of(analysis)), "The run has no cells.")
    return f"{state_of(analysis.run)}{said}"


def run_line(analysis: Analysis) -> str:
    """Return when the run was made, how large it is, and its name."""
    run = analysis.run
    return (
        f"{run.started_at or run.created_at:%Y-%m-%d %H:%M} UTC · {run.plan.blocks} blocks planned · "
        f"{len(analysis.readings.trials)} trials · run {run.run_id}"
    )


def _scope_answer(analysis: Analysis, firsts: Mapping[Scope, Headline], scope: Scope) -> str:
    headline = firsts.get(scope)
    if headline is not None:
        return headline.text
    return (
        f"Nothing to compare in {scope}: the plan's baseline is “{analysis.run.plan.baseline}”, and no pair of "
        "cells shares workload, infrastructure and load with it."
    )


def _parts(analysis: Analysis, others: Sequence[Chapter], folder: str) -> Iterator[Part]:
    run, scopes, firsts = analysis.run, scopes_of(analysis), main_headlines(analysis)
    if run.reason:
        yield Text((f"The run ended as {run.state}: {run.reason}",), "warning")
    yield Text(
        (f"{run.state.capitalize()}, {run_line(analysis)}.", *([run.plan.description] * bool(run.plan.description)))
    )
    if len(scopes) == 1 and (headline := firsts.get(scopes[0])):
        yield Listing(headline.sentences)
    if analysis.indicative:
        yield Text((f"All verdicts are indicative. {analysis.indicative}",), "warning")
    for remark in analysis.remarks:
        yield Text((remark.text,), "info" if remark.severity == "note" else "warning")
    if len(scopes) > 1:
        rows = tuple(
            (
                Cell(str(scope), link=f"{folder}/{scope_slug(at)}.html"),
                Cell(_scope_answer(analysis, firsts, scope)),
            )
            for at, scope in enumerate(scopes, 1)
        )
        yield Grid("answers", "The answer by workload, place and load", ("Where and how", "Answer"), rows)
    slugs = {scope_slug(at) for at in range(1, len(scopes) + 1)} if len(scopes) > 1 else set()
    pages = tuple(
        (Cell(chapter.title, link=f"{folder}/{chapter.slug}.html"), Cell(chapter.answer))
        for chapter in others
        if chapter.slug not in slugs
    )
    yield Grid("pages", "Every page of this run", ("Page", "What it says"), pages)
