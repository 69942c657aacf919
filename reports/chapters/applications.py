"""Application version against version, without a mesh and behind each."""

from __future__ import annotations

from collections.abc import Iterator

from reports.analysis import Analysis, Answer
from reports.chapters.answers import counted
from reports.chapters.asking import MOST_FIGURES, answer_to, by_pair, in_scope, of_metric, scopes_of
from reports.chapters.grids import MOST_RESULTS, result_grids
from reports.figures.forest import forest_plot
from reports.figures.gallery import file_stem
from reports.pages.chapter import Chapter, Heading, Part, Picture, Text
from reports.wording import arm_sentence

SLUG = "application-versions"
MOST_ROWS_DRAWN = 12


def applications_chapter(analysis: Analysis) -> Chapter | None:
    """Return the versions of the user's application against each other; None where none has two."""
    answer = answer_to(analysis, "application")
    if answer is None or not answer.comparisons:
        return None
    return Chapter(SLUG, "Application version against version", _answer(answer), tuple(_parts(analysis, answer)))


def _answer(answer: Answer) -> str:
    pairs = by_pair(answer.comparisons)
    if len(pairs) == 1:
        return f"{pairs[0][0].pair.label}: {arm_sentence(answer.question, pairs[0])}"
    return counted(of_metric(answer.comparisons, "p50"), "Newest version against older ones, median request")


def _parts(analysis: Analysis, answer: Answer) -> Iterator[Part]:
    yield Text(
        (
            "Versions are compared in the order in which the plan lists them, oldest first, on the same mesh and in "
            "the same blocks. In per cent a change is smaller behind a mesh, because the mesh adds time of its own.",
        )
    )
    scopes, everything = scopes_of(analysis.run), len(answer.comparisons) <= MOST_RESULTS
    found = [scope for scope in scopes if any(c.pair.scope == scope for c in answer.comparisons)]
    for at, scope in enumerate(found, 1):
        part = in_scope(answer, scope)
        yield Heading(str(scope), f"scope-{at}")
        rows = len({id(c.pair) for c in part.comparisons})
        if at <= MOST_FIGURES and rows <= MOST_ROWS_DRAWN and any(c.metric.primary for c in part.comparisons):
            name = file_stem("forest", answer.question.key, scope, scopes)
            yield Picture(forest_plot(part, scope, name))
        title = f"Newest version against each older one, {scope}"
        yield from result_grids(f"results-{at}", title, part.comparisons, all_metrics=everything)
    if not everything:
        yield Text(("Metrics without a verdict (p90, memory ...) are in comparisons.csv.",), "info")
