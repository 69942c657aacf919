"""Verdicts: one word for a comparison, with what has to be said beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reports.comparing.statistics import ALPHA, Effect, Interval
from reports.readings.metrics import Metric

Word = Literal["slower", "faster", "more", "less", "equivalent", "inconclusive", "invalid"]
Flag = Literal["fragile", "tiny but real", "below margin", "unconfirmed", "indicative", "across runs"]

FEWEST_VALID_BLOCKS = 6
LEAST_VALID_RATIO = 0.8  # of the planned blocks
FRAGILE_RANK_P = 0.10

FLAG_MEANINGS: dict[Flag, str] = {
    "fragile": "a rank test, which ignores sizes, does not support it: look at the single blocks",
    "tiny but real": "the difference is real, and too small to matter",
    "below margin": "the estimate is smaller than the margin, although the interval reaches beyond it",
    "unconfirmed": "seen in one run; it is confirmed when a second run on fresh blocks agrees",
    "across runs": "both sides were measured at different times, each divided by the control of its own run",
    "indicative": "some trials, or the host, were less quiet than a benchmark needs",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Exactly one word.

    Attributes:
        reason: why there is no better word; empty where the word says it all.
        open: whether more blocks of the same run could change it.
    """

    word: Word
    flags: tuple[Flag, ...] = ()
    reason: str = ""
    open: bool = False


def margin_on_scale(metric: Metric, margin: float) -> float:
    """Return a margin on the scale of the metric's effects: ln(1 + margin) for ratios, so that it is symmetric."""
    return math.log1p(margin) if metric.scale == "ratio" else margin


def too_few_blocks(valid: int, planned: int) -> str | None:
    """Return why so many valid blocks give no verdict, or None when they do."""
    needed = max(FEWEST_VALID_BLOCKS, math.ceil(LEAST_VALID_RATIO * planned - 1e-9))
    if valid >= needed:
        return None
    return f"{valid} of {planned} planned blocks are valid; a verdict needs {needed}"


def judge(
    effect: Effect,
    metric: Metric,
    margin: float,
    p_adjusted: float,
    rank_p: float,
    *,
    degraded: bool,
    alpha: float = ALPHA,
) -> Verdict:
    """Return the verdict on a valid comparison.

    Args:
        margin: on the scale of the effect.
        p_adjusted: after Benjamini-Hochberg over the family.
        degraded: some of its trials were degraded.
        alpha: level of significance; equivalence takes two one-sided tests at the same level, that is an interval
            of 1 - 2 alpha (90 % at 5 %) inside the margin.

    Source: measurement.md 4; reference/statistics.md 4.9.
    """
    narrow = effect.interval(1 - 2 * alpha)
    inside = narrow is not None and narrow.inside(margin)
    significant = p_adjusted <= alpha
    flags: list[Flag] = []
    word: Word
    if significant and not inside:
        word = metric.words[0] if effect.estimate > 0 else metric.words[1]
        flags.append("unconfirmed")
        if abs(effect.estimate) < margin:
            flags.append("below margin")
    elif inside:
        word = "equivalent"
        if significant:
            flags.append("tiny but real")
    else:
        word = "inconclusive"
    if significant and rank_p > FRAGILE_RANK_P:
        flags.append("fragile")
    if degraded:
        flags.append("indicative")
    return Verdict(word, tuple(flags), open=word == "inconclusive")


def selected_interval(effect: Effect, selected: int, family: int, alpha: float = ALPHA) -> Interval | None:
    """Return the wider interval that is honest for a comparison picked because it was significant.

    Source: Benjamini and Yekutieli 2005 (false coverage rate), level 1 - q R / m.
    """
    return effect.interval(1 - alpha * selected / family)
