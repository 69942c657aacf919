"""The answer in words: what a reader should know after ten seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.analysis import Analysis, Answer
from reports.comparing.comparison import Comparison
from reports.comparing.questions import Pair, Scope
from reports.comparing.statistics import ALPHA
from reports.comparing.verdict import Word
from reports.wording import NBSP, arm_sentence, level, percent_of_ln, signed

MOST_NAMED = 3
ORDER: Sequence[Word] = ("slower", "faster", "more", "less", "equivalent", "inconclusive", "invalid")


@dataclass(frozen=True, slots=True)
class Headline:
    """The first line on one question in one scope, and a sentence for each pair."""

    question: str
    scope: Scope
    text: str
    sentences: tuple[tuple[str, str], ...]


def headlines(analysis: Analysis) -> tuple[Headline, ...]:
    """Return the headlines of every question and scope, the main question first."""
    return tuple(
        Headline(answer.question.title, scope, _text(answer, pairs), _sentences(answer, pairs))
        for answer in analysis.answers
        for scope, pairs in _by_scope(answer).items()
    )


def overall(analysis: Analysis) -> str | None:
    """Return one first line over all scopes of the main question; None where one scope says it all."""
    main = next((answer for answer in analysis.answers if answer.question.key == "baseline"), None)
    if main is None or len(_by_scope(main)) < 2:
        return None
    return _text(main, main.comparisons)


def _by_scope(answer: Answer) -> Mapping[Scope, list[Comparison]]:
    scopes: dict[Scope, list[Comparison]] = {}
    for comparison in answer.comparisons:
        scopes.setdefault(comparison.pair.scope, []).append(comparison)
    return scopes


def _sentences(answer: Answer, comparisons: Sequence[Comparison]) -> tuple[tuple[str, str], ...]:
    pairs: dict[int, tuple[Pair, list[Comparison]]] = {}
    for comparison in comparisons:
        pairs.setdefault(id(comparison.pair), (comparison.pair, []))[1].append(comparison)
    return tuple((pair.label, arm_sentence(answer.question, members)) for pair, members in pairs.values())


def _text(answer: Answer, comparisons: Sequence[Comparison]) -> str:
    if answer.question.key == "aa":
        return _aa_text(comparisons)
    if answer.question.key != "baseline":
        return _counted(comparisons, f"Median request against {answer.question.against}")
    medians = [c for c in comparisons if c.metric.name == "p50"]
    words = {c.verdict.word for c in medians if c.verdict}
    if words == {"invalid"}:
        return _no_verdict(medians)
    if words == {"slower"}:
        low, high = _extremes(medians)
        names = f"{_share(medians)} the median request slower than {answer.question.against}"
        return f"{names}{_from_to(low, high)}. {_cost(comparisons)}".strip()
    return f"{_counted(comparisons, f'Median request against {answer.question.against}')} {_cost(comparisons)}".strip()


def _no_verdict(medians: Sequence[Comparison]) -> str:
    """Return why there is no verdict at all: the reason all share, else how many blocks there are."""
    reasons = {c.verdict.reason for c in medians if c.verdict}
    if len(reasons) == 1:
        return f"No verdict: {reasons.pop()}."
    fewest, most = min(c.n for c in medians), max(c.n for c in medians)
    blocks = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"No verdict: {blocks} of {medians[0].planned} planned blocks are valid; each table below says why."


def _share(medians: Sequence[Comparison]) -> str:
    if len(medians) == 1:
        return f"{medians[0].pair.label} makes"
    meshes = {c.pair.cell.environment.mesh.label for c in medians}
    several = len({c.pair.scope for c in medians}) > 1
    what = "combinations of mesh, profile and load" if several else "combinations of mesh and profile"
    if len(meshes) == len(medians):
        what = "meshes"
    return f"Both {what} make" if len(medians) == 2 else f"All {len(medians)} {what} make"


def _extremes(comparisons: Sequence[Comparison]) -> tuple[Comparison, Comparison]:
    ordered = sorted(comparisons, key=lambda c: c.effect.estimate if c.effect else 0.0)
    return ordered[0], ordered[-1]


def _from_to(low: Comparison, high: Comparison) -> str:
    if low is high:
        return f", by {_size(low)}"
    return f", by {_size(low)} ({low.pair.label}) to {_size(high)} ({high.pair.label})"


def _size(c: Comparison) -> str:
    return f"{abs(percent_of_ln(c.effect.estimate)):.0f}{NBSP}%" if c.effect else "?"


def _cost(comparisons: Sequence[Comparison]) -> str:
    costs = [c for c in comparisons if c.metric.name == "cpu_data_plane" and c.effect]
    if not costs:
        return ""
    low, high = _extremes(costs)
    if low is high:
        return f"It costs {level(_estimate(low))} cores per 1000 requests a second."
    return (
        f"The proxies cost {level(_estimate(low))} ({low.pair.label}) to "
        f"{level(_estimate(high))} ({high.pair.label}) cores per 1000 requests a second."
    )


def _estimate(c: Comparison) -> float | None:
    return None if c.effect is None else c.effect.estimate


def _counted(comparisons: Sequence[Comparison], start: str) -> str:
    """Return how many pairs came out how, naming them where they are few."""
    groups: dict[Word, list[Comparison]] = {}
    for c in comparisons:
        if c.metric.name == "p50" and c.verdict:
            groups.setdefault(c.verdict.word, []).append(c)
    parts = []
    for word, members in sorted(groups.items(), key=lambda group: ORDER.index(group[0])):
        differs = word in {"slower", "faster"}
        named = [f"{c.pair.label} {_signed(c)}" if differs else c.pair.label for c in members]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        parts.append(f"{len(members)} {word} ({', '.join(named[:MOST_NAMED])}{more})")
    return f"{start}: {'; '.join(parts)}." if parts else f"{start}: nothing was compared."


def _signed(c: Comparison) -> str:
    return f"{signed(percent_of_ln(c.effect.estimate), 0)}{NBSP}%" if c.effect else ""


def _aa_text(comparisons: Sequence[Comparison]) -> str:
    primary = [c for c in comparisons if c.metric.primary]
    alpha = min((c.alpha for c in primary), default=ALPHA)
    differing = sum(c.p is not None and c.p < alpha for c in primary)
    widest = max((percent_of_ln(abs(c.effect.estimate)) for c in primary if c.effect), default=None)
    size = (
        ""
        if widest is None
        else f"; the largest difference is {widest:.1f}{NBSP}%, which is what noise alone makes here"
    )
    return f"The same thing measured twice: {differing} of {len(primary)} results differ at p < {alpha:g}{size}."
