"""Questions that chapters ask beyond those of the run page, and what all chapters group cells by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshgauge.matrix import Cell
from meshgauge.run import RunRecord
from reports.analysis import Analysis, Answer
from reports.comparing.comparison import Comparison
from reports.comparing.questions import Question, QuestionKey, Scope, scope_of

# Figures and pairs of one chapter: with more, a run of 1000 cells would take minutes to draw and nobody would look.
MOST_FIGURES = 6
MOST_PAIRS = 300


def asked(analysis: Analysis, question: Question) -> Answer:
    """Return the answer to a question of a chapter's own: its primary results are a family by themselves."""
    return analysis.answer(question)


def answer_to(analysis: Analysis, key: QuestionKey) -> Answer | None:
    """Return what the analysis already answered; None where the run has no pairs for it."""
    return next((answer for answer in analysis.answers if answer.question.key == key), None)


def scopes_of(run: RunRecord) -> tuple[Scope, ...]:
    """Return the scopes of a run in the order of its cells."""
    return tuple(dict.fromkeys(scope_of(cell) for cell in run.cells))


def cells_by_scope(cells: Iterable[Cell]) -> dict[Scope, list[Cell]]:
    """Return the cells of each scope, in the run's order."""
    found: dict[Scope, list[Cell]] = {}
    for cell in cells:
        found.setdefault(scope_of(cell), []).append(cell)
    return found


def by_pair(comparisons: Iterable[Comparison]) -> tuple[tuple[Comparison, ...], ...]:
    """Return the metrics of each pair together, pairs in the order they came."""
    pairs: dict[int, list[Comparison]] = {}
    for comparison in comparisons:
        pairs.setdefault(id(comparison.pair), []).append(comparison)
    return tuple(tuple(members) for members in pairs.values())


def in_scope(answer: Answer, scope: Scope) -> Answer:
    """Return the part of an answer that lies in one scope."""
    return Answer(answer.question, tuple(c for c in answer.comparisons if c.pair.scope == scope))


def of_metric(comparisons: Iterable[Comparison], name: str) -> tuple[Comparison, ...]:
    """Return the comparisons of one metric."""
    return tuple(c for c in comparisons if c.metric.name == name)


def listed(words: Sequence[str], most: int = 4) -> str:
    """Return words as in a sentence: ``a, b and c``; beyond ``most`` with how many more there are."""
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
