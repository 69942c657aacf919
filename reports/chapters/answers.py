"""Results in words for the first line of a chapter: right for a run in any state."""

from __future__ import annotations

from collections.abc import Sequence

from meshgauge.run import RunRecord
from reports.chapters.asking import listed
from reports.comparing.comparison import Comparison
from reports.comparing.verdict import Word
from reports.wording import count_range, difference

ORDER: Sequence[Word] = ("slower", "more", "faster", "less", "equivalent", "inconclusive", "invalid")
DIRECTED: frozenset[Word] = frozenset({"slower", "more", "faster", "less"})
MOST_NAMED = 3


def state_of(run: RunRecord) -> str:
    """Return what must precede every answer of a run that has not come to its planned end; empty for one that has."""
    return {
        "queued": "So far: ",
        "running": "So far: ",
        "cancelled": "The run was cancelled; of what was measured: ",
        "failed": "The run failed; of what was measured: ",
    }.get(run.state, "")


def word_of(comparison: Comparison) -> Word | None:
    """Return the verdict's word; None where the analysis gave none."""
    return None if comparison.verdict is None else comparison.verdict.word


def counted(comparisons: Sequence[Comparison], start: str) -> str:
    """Return how many comparisons came out how, the few of each kind by name, as one sentence."""
    if not comparisons:
        return f"{start}: nothing was compared."
    reason = common_refusal(comparisons)
    if reason:
        return f"{start}: no verdict, because {reason}."
    groups: dict[Word, list[Comparison]] = {}
    for comparison in comparisons:
        word = word_of(comparison)
        if word is not None:
            groups.setdefault(word, []).append(comparison)
    parts = []
    for word in (word for word in ORDER if word in groups):
        said = "without a verdict" if word == "invalid" else word
        parts.append(f"{len(groups[word])} {said} ({listed(_names(groups[word], word), MOST_NAMED)})")
    return f"{start}: {'; '.join(parts)}."


def _names(members: Sequence[Comparison], word: Word) -> list[str]:
    """Return the names of pairs with what they differ by; a pair that comes in several scopes once."""
    of_label: dict[str, list[Comparison]] = {}
    for comparison in members:
        of_label.setdefault(comparison.pair.label, []).append(comparison)
    names = []
    for label, found in of_label.items():
        times = "" if len(found) == 1 else f" {len(found)}x"
        known = sorted((c for c in found if c.effect), key=lambda c: c.effect.estimate if c.effect else 0.0)
        size = ""
        if word in DIRECTED and known:
            low, high = difference(known[0]), difference(known[-1])
            size = f" {low}" if low == high else f" {low} to {high}"
        names.append(f"{label}{times}{size}")
    return names


def common_refusal(comparisons: Sequence[Comparison]) -> str | None:
    """Return why none of the comparisons has a verdict; None where one of them has."""
    verdicts = [c.verdict for c in comparisons if c.verdict is not None]
    if not verdicts or any(verdict.word != "invalid" for verdict in verdicts):
        return None
    reasons = {verdict.reason for verdict in verdicts}
    if len(reasons) == 1:
        return reasons.pop().rstrip(".")
    n = count_range(c.n for c in comparisons)
    return f"{n} of {comparisons[0].planned} planned blocks are valid; the tables say why for each"
