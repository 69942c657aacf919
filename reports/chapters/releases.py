"""Release against release: the newest of each mesh against all older ones, and each against the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import Analysis, Answer
from reports.chapters.answers import counted
from reports.chapters.asking import MOST_FIGURES, MOST_PAIRS, answer_to, asked, by_pair, of_metric, scopes_of
from reports.chapters.grids import MOST_RESULTS, result_csv, result_grids
from reports.chapters.ladders import Ladder, ladders, release_name
from reports.comparing.comparison import Comparison
from reports.comparing.questions import Pair, Question
from reports.figures.gallery import file_stem
from reports.figures.ladder import Step, ladder_figure
from reports.pages.chapter import Chapter, Heading, Part, Picture, Text
from reports.wording import arm_sentence

SLUG = "releases"
STEPS_FILE = "release-steps.csv"


def releases_chapter(analysis: Analysis) -> Chapter | None:
    """Return the releases of each mesh against each other; None where no mesh has two."""
    newest = answer_to(analysis, "release")
    found = tuple(ladder for ladder in ladders(analysis.run.cells) if len(ladder.cells) > 1)
    if newest is None or not newest.comparisons or not found:
        return None
    of_pair = {(c[0].pair.cell.key, c[0].pair.control.key): c for c in by_pair(newest.comparisons)}
    longer = [ladder for ladder in found if len(ladder.cells) > 2]
    consecutive, left_out = _consecutive(analysis, longer)
    text = ["The newest release stands against each older one; both ran in the same blocks."]
    if consecutive:
        text.append(
            "Each release against the one before it is a question with a family of its own: the same pair can be "
            "significant in one table and not in the other, where it shares the error rate with other results."
        )
    if left_out:
        text.append(
            f"For their number, the steps of {left_out} more combinations are compared with the newest release only."
        )
    steps = consecutive.comparisons if consecutive else ()
    everything = len(newest.comparisons) + len(steps) <= MOST_RESULTS
    if not everything:
        text.append(
            "Metrics without a verdict (p90, memory ...) are in comparisons.csv, of steps between older releases in "
            f"{STEPS_FILE}."
        )
    parts: list[Part] = [Text(tuple(text)), *_parts(analysis, found, of_pair, steps, all_metrics=everything)]
    files = {STEPS_FILE: result_csv(steps)} if steps else {}
    return Chapter(SLUG, "Release against release", _answer(newest, found, of_pair), tuple(parts), files)


def _consecutive(analysis: Analysis, longer: Sequence[Ladder]) -> tuple[Answer | None, int]:
    """Return each release against the one before it, and for how many ladders there was no room."""
    pairs: list[Pair] = []
    for at, ladder in enumerate(longer):
        steps = list(zip(ladder.cells[1:], ladder.cells[:-1], strict=True))
        if pairs and len(pairs) + len(steps) > MOST_PAIRS:
            return asked(analysis, _question(pairs)), len(longer) - at
        pairs += [
            Pair(
                cell,
                before,
                f"{cell.environment.mesh.label} vs {release_name(before)} · {ladder.profile}",
                ladder.scope,
            )
            for cell, before in steps
        ]
    return (asked(analysis, _question(pairs)), 0) if pairs else (None, 0)


def _question(pairs: Sequence[Pair]) -> Question:
    return Question("consecutive", "Each release against the one before it", "the release before", tuple(pairs))


def _answer(newest: Answer, found: Sequence[Ladder], of_pair: Mapping[tuple[str, str], Sequence[Comparison]]) -> str:
    nearest = [c for ladder in found for c in of_pair.get((ladder.cells[-1].key, ladder.cells[-2].key), ())]
    if len(found) == 1 and nearest:
        return f"{nearest[0].pair.label}: {arm_sentence(newest.question, nearest)}"
    return counted(of_metric(nearest, "p50"), "Newest release against the one before it, median request")


def _parts(
    analysis: Analysis,
    found: Sequence[Ladder],
    of_pair: Mapping[tuple[str, str], Sequence[Comparison]],
    consecutive: Sequence[Comparison],
    *,
    all_metrics: bool,
) -> Iterator[Part]:
    scopes = scopes_of(analysis.run)
    steps_of = {(c[0].pair.cell.key, c[0].pair.control.key): c for c in by_pair(consecutive)}
    for at, ladder in enumerate(found, 1):
        where = f"{ladder.profile}, {ladder.scope}"
        yield Heading(f"{ladder.mesh}: {where}", f"ladder-{at}")
        *older, last = ladder.cells
        against = [of_pair.get((last.key, cell.key), ()) for cell in older]
        if at <= MOST_FIGURES and any(against):
            steps = [
                Step(release_name(cell), {c.metric.name: c for c in comparisons if c.metric.primary})
                for cell, comparisons in zip(older, against, strict=True)
            ]
            name = file_stem(f"releases-{at}", "", ladder.scope, scopes)
            yield Picture(ladder_figure(ladder.mesh, where, [*steps, Step(release_name(last), {})], name))
        flat = [c for comparisons in reversed(against) for c in comparisons]
        title = f"{ladder.mesh}: {release_name(last)} against each older release"
        yield from result_grids(f"newest-{at}", title, flat, all_metrics=all_metrics)
        between = [
            c
            for cell, before in zip(ladder.cells[1:], ladder.cells[:-1], strict=True)
            for c in steps_of.get((cell.key, before.key), ())
        ]
        title = f"{ladder.mesh}: each release against the one before it"
        yield from result_grids(f"steps-{at}", title, between, all_metrics=all_metrics)
