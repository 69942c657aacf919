"""Numbers and results in words: one way to write them, on pages, in figures and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from meshgauge.matrix import is_baseline
from reports.comparing.comparison import Comparison
from reports.comparing.questions import Question
from reports.comparing.result import Result
from reports.comparing.statistics import Interval
from reports.comparing.verdict import FEWEST_VALID_BLOCKS, Verdict
from reports.readings.metrics import Metric

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"  # a number and its unit stay on one line
ABSENT = "–"
MOST_REACHABLE_BLOCKS = 30  # more than that nobody runs: the margin is out of reach (statistics.md 4.3)


def percent_of_ln(ln_ratio: float) -> float:
    """Return a ln ratio as a change in per cent."""
    return 100 * math.expm1(ln_ratio)


def signed(value: float, decimals: int) -> str:
    """Return the number with its sign, and a true minus; zero has no sign."""
    text = f"{abs(value):.{decimals}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def decimals_for(half_width: float) -> int:
    """Return as many decimals as the uncertainty leaves meaning: two digits of the half width."""
    if half_width <= 0 or not math.isfinite(half_width):
        return 2
    return min(max(1 - math.floor(math.log10(half_width)), 0), 3)


def level(value: float | None, unit: str = "") -> str:
    """Return a level with three significant digits and its unit; a dash where there is none."""
    if value is None:
        return ABSENT
    if value == 0:
        text = "0"
    else:
        decimals = min(max(2 - math.floor(math.log10(abs(value))), 0), 6)
        text = f"{value:,.{decimals}f}".replace("-", MINUS)
    return f"{text}{NBSP}{unit}" if unit else text


def difference_bounds(comparison: Result) -> tuple[float, float | None, float | None] | None:
    """Return estimate, low and high in per cent (ratios) or in the metric's unit; None without any block."""
    effect, interval = comparison.effect, comparison.interval
    if effect is None:
        return None
    shown = percent_of_ln if comparison.metric.scale == "ratio" else float
    if interval is None:
        return shown(effect.estimate), None, None
    return shown(effect.estimate), shown(interval.low), shown(interval.high)


def difference_unit(metric: Metric) -> str:
    """Return the unit differences of this metric are shown in."""
    return "%" if metric.scale == "ratio" else metric.unit


def count_range(counts: Iterable[int]) -> str:
    """Return counts as a reader says them: ``10``, or ``8 to 10``; ``0`` when there are none."""
    seen = sorted(set(counts)) or [0]
    return f"{seen[0]}" if len(seen) == 1 else f"{seen[0]} to {seen[-1]}"


def level_name(alpha: float) -> str:
    """Return the confidence level of intervals, such as ``95 %``; in sequential mode ``98.2 %``."""
    return f"{100 * (1 - alpha):g}{NBSP}%"


def difference(comparison: Result) -> str:
    """Return the estimate with its unit, such as ``+61.2 %``."""
    bounds = difference_bounds(comparison)
    if bounds is None:
        return ABSENT
    return f"{signed(bounds[0], _decimals(comparison))}{NBSP}{difference_unit(comparison.metric)}"


def interval(comparison: Result) -> str:
    """Return the interval in brackets, such as ``[+55.0, +68.1]``; a dash with fewer than two blocks."""
    bounds = difference_bounds(comparison)
    if bounds is None or bounds[1] is None or bounds[2] is None:
        return ABSENT
    decimals = _decimals(comparison)
    return f"[{signed(bounds[1], decimals)}, {signed(bounds[2], decimals)}]"


def _decimals(comparison: Result) -> int:
    """Return the decimals one comparison is shown with: what the interval leaves, at most four digits in all."""
    bounds = difference_bounds(comparison)
    known = [abs(value) for value in bounds or () if value is not None]
    most = 2 if comparison.metric.scale == "ratio" else 3
    room = 3 - math.floor(math.log10(max(known))) if any(known) else most
    meant = most
    if bounds is not None and bounds[1] is not None and bounds[2] is not None:
        meant = decimals_for((bounds[2] - bounds[1]) / 2)
    return max(min(meant, most, room), 0)


def on_scale(metric: Metric, value: float | None) -> str:
    """Return a size on the metric's scale (a margin, a smallest detectable effect) without sign."""
    if value is None:
        return ABSENT
    size = percent_of_ln(value) if metric.scale == "ratio" else value
    return f"{size:.{2 if size < 1 else 1}f}{NBSP}{difference_unit(metric)}"


def added(comparison: Comparison) -> str:
    """Return the ratio applied to the control's level, such as ``+0.21 ms``: true of this run only."""
    if comparison.effect is None or comparison.control_level is None or comparison.metric.scale != "ratio":
        return ABSENT
    value = comparison.control_level * math.expm1(comparison.effect.estimate)
    return f"{'+' if value > 0 else ''}{level(value, comparison.metric.unit)}"


def blocks(needed: int | None) -> str:
    """Return how many blocks a margin asks for."""
    return "more than 2000" if needed is None else str(max(needed, FEWEST_VALID_BLOCKS))


def is_reachable(needed: int | None) -> bool:
    """Return whether a run of a size that people make would show the margin."""
    return needed is not None and needed <= MOST_REACHABLE_BLOCKS


def verdict_text(verdict: Verdict | None) -> str:
    """Return the word with the flags that belong to this result alone."""
    if verdict is None:
        return ABSENT
    flags = [flag for flag in verdict.flags if flag != "unconfirmed"]  # true of every difference: said once
    return f"{verdict.word} ({', '.join(flags)})" if flags else verdict.word


def lost(comparison: Comparison) -> str:
    """Return why blocks are missing; empty where none is."""
    return f"Lost blocks, {'; '.join(comparison.losses)}" if comparison.losses else ""


def blocks_compared(comparison: Comparison) -> str:
    """Return the blocks compared, and those planned; repeated blocks can make it more than planned."""
    if comparison.look is not None:
        return f"{comparison.n} (looked at; {comparison.planned} at most)"
    if comparison.n > comparison.planned:
        return f"{comparison.n} ({comparison.planned} planned)"
    return f"{comparison.n} of {comparison.planned}"


def companion(comparison: Comparison) -> str:
    """Return what has to stand beside the verdict word; empty where the word says it all."""
    verdict = comparison.verdict
    if verdict is None or verdict.word not in {"inconclusive", "invalid"}:
        return ""
    if verdict.word == "invalid":
        return ". ".join(part for part in (verdict.reason, lost(comparison)) if part)
    margin = on_scale(comparison.metric, comparison.margin)
    shown = f"{comparison.n} blocks show {on_scale(comparison.metric, comparison.detectable)} or more"
    if is_reachable(comparison.needed):
        return f"{shown}; the margin of {margin} takes about {blocks(comparison.needed)} blocks"
    return f"{shown}; the margin of {margin} is not reachable here: it takes {_about(comparison.needed)} blocks"


def _about(needed: int | None) -> str:
    return blocks(needed) if needed is None else f"about {blocks(needed)}"


def arm_sentence(question: Question, comparisons: Sequence[Comparison]) -> str:
    """Return one arm's answer: median, tail, cost. ``comparisons`` are of one pair."""
    of = {comparison.metric.name: comparison for comparison in comparisons}
    median, tail = of.get("p50"), of.get("p99")
    clauses = []
    if median and tail and _reason(median) and _reason(median) == _reason(tail):
        seen = f" (seen: p50 {_seen(median)}, p99 {_seen(tail)})" if median.effect and tail.effect else ""
        clauses.append(f"no verdict on latency{seen}: {_reason(median)}")
    else:
        clauses += [_latency_clause(question, c) for c in (median, tail) if c]
    return "; ".join((*clauses, _cost_clause(of))) + "."


def _reason(c: Comparison) -> str:
    return c.verdict.reason if c.verdict and c.verdict.word == "invalid" else ""


def _seen(c: Comparison) -> str:
    return f"{difference(c)} {interval(c)}" if c.interval else f"{difference(c)} in a single block"


def _latency_clause(question: Question, c: Comparison) -> str:
    what = {"p50": "the median request", "p99": f"the slowest 1{NBSP}% of requests"}[c.metric.name]
    word = c.verdict.word if c.verdict else "invalid"
    if word == "invalid":
        seen = f" (seen: {_seen(c)})" if c.effect else ""
        return f"no verdict on {what}{seen}: {_reason(c)}"
    if word in {"slower", "faster"}:
        than = f" than {question.against}" if c.metric.name == "p50" else ""
        return f"{what} {'is' if c.metric.name == 'p50' else 'are'} {_how_much(c, word)}{than}{_span(c)}"
    if word == "equivalent":
        return f"{what}: equivalent within ±{on_scale(c.metric, c.margin)} ({_seen(c)})"
    margin = on_scale(c.metric, c.margin)
    if is_reachable(c.needed):
        return f"{what}: inconclusive ({_seen(c)}; about {blocks(c.needed)} blocks would show {margin})"
    least = on_scale(c.metric, c.detectable)
    return f"{what}: inconclusive ({_seen(c)}; {margin} is not reachable here, {c.n} blocks show {least} or more)"


def _how_much(c: Comparison, word: str) -> str:
    return f"{difference(c).lstrip('+' + MINUS)} {word}"


def _span(c: Comparison) -> str:
    """Return the interval as sizes in the direction of the verdict, and the milliseconds of this run."""
    bounds = difference_bounds(c)
    if bounds is None or bounds[1] is None or bounds[2] is None:
        return ""
    low, high = sorted((abs(bounds[1]), abs(bounds[2])))
    decimals = _decimals(c)
    return f" [{low:.{decimals}f} to {high:.{decimals}f}{NBSP}%; {added(c)} in this run]"


def _cost_clause(of: dict[str, Comparison]) -> str:
    cost = of.get("cpu_data_plane")
    if cost is None or cost.effect is None:
        return "the cost in CPU was not measured"
    if is_baseline(cost.pair.control.environment.mesh):
        proxies = len(cost.pair.cell.environment.mesh.hops)
        what = "its proxy costs" if proxies == 1 else f"its {proxies} proxies cost"
        size = difference(cost).split(NBSP)[0].replace("+", "")
        if cost.interval is None:
            return f"{what} {size} cores per 1000 rps in a single block"
        return f"{what} {size} {interval(cost).replace('+', '')} cores per 1000 rps"
    word = of["cpu"].verdict.word if "cpu" in of and of["cpu"].verdict else "invalid"
    return f"CPU of the proxies {_seen(cost)} (app and data plane: {word})"


def within(interval_: Interval | None, metric: Metric) -> str:
    """Return an interval on the metric's scale, in the unit it is shown in."""
    if interval_ is None:
        return ABSENT
    low, high = interval_.low, interval_.high
    if metric.scale == "ratio":
        low, high = percent_of_ln(low), percent_of_ln(high)
    decimals = decimals_for((high - low) / 2)
    return f"[{signed(low, decimals)}, {signed(high, decimals)}]"
