"""Checks in words: what was seen, what is allowed, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.comparing.statistics import Interval
from reports.readings.metrics import Metric
from reports.thresholds.levels import Level
from reports.thresholds.outcome import Bound, Check, Confirmation, Status
from reports.thresholds.worsenings import Worsening
from reports.wording import NBSP, decimals_for, difference_unit, level, signed

_MOST_USEFUL_BLOCKS = 1000  # more than any plan may ask for
_VERB = {
    "failed": ("breaks its threshold", "break their thresholds"),
    "undecided": ("is not decided", "are not decided"),
}


def unit_of(metric: Metric) -> str:
    """Return the unit in which worsenings of a metric are bounded and shown."""
    return difference_unit(metric)


def answer(status: Status, checks: Sequence[Check]) -> str:
    """Return the first line: the status, how many checks, and the first that matters."""
    number = len(checks)
    if status == "passed":
        what = "the only check keeps its threshold" if number == 1 else f"all {number} checks keep their thresholds"
        return f"Passed: {what}."
    found = [check for check in checks if check.status == status]
    told = f"{len(found)} of {number} checks {_VERB[status][len(found) > 1]}" if number > 1 else "the only check"
    is_open = status == "failed" and all(check.confirmation == "unconfirmed" for check in found)
    word = "Failed (unconfirmed)" if is_open else status.capitalize()
    first = found[0]
    return f"{word}: {told}: {first.subject}: {first.sentence}"


def level_sentence(seen: Level, bound: Bound, limit: float, status: Status, needed: int | None) -> str:
    """Return one check of a level."""
    unit, title = seen.metric.unit, seen.metric.title
    allowed = f"{bound.replace('_', ' ')} {_limit(limit, unit)} is allowed"
    if seen.value is None:
        return f"{title} has no value; {allowed}: not decided. {_capital(seen.reason)}"
    span = "" if seen.interval is None else f" [{level(seen.interval.low)}, {level(seen.interval.high)}]"
    shown = f"{title} is {level(seen.value, unit)}{span}, {_blocks(seen.n)}; {allowed}"
    return f"{shown}: {_conclusion(status, seen.reason, needed)}"


def worsening_sentence(
    seen: Worsening,
    first: Worsening,
    limit: float,
    against: str,
    *,
    status: Status,
    confirmation: Confirmation | None,
    needed: int | None,
    confirmed_by: str | None,
    lacking: str,
) -> str:
    """Return one check of a worsening."""
    unit = unit_of(seen.metric)
    allowed = f"at most {_limit(limit, unit)} worse is allowed"
    if seen.value is None:
        return f"{seen.metric.title} cannot be compared with {against}; {allowed}: not decided. {_capital(seen.reason)}"
    kind = "fresh " if confirmation in ("confirmed", "not reproduced") else ""
    shown = f"{seen.metric.title} is {_change(seen, against)}, {_blocks(seen.n, kind)}; {allowed}"
    if confirmation == "unconfirmed":
        why = f": {lacking}" if lacking else " until fresh blocks agree"
        return f"{shown}: broken in the first run ({_p(seen.p)}), unconfirmed{why}."
    if confirmation == "confirmed":
        by = f"run {(confirmed_by or '')[:8]}"
        return f"{shown}: broken, confirmed by {by} ({_p(seen.p)}; the first run had {_percent(first)})."
    before = f"the {_percent(first)} of the first run not confirmed, " if confirmation == "not reproduced" else ""
    return f"{shown}: {before}{_conclusion(status, seen.reason, needed)}"


def _conclusion(status: Status, reason: str | None, needed: int | None) -> str:
    if status != "undecided":
        return "kept." if status == "passed" else "broken."
    if reason is not None:
        return f"not decided. {_capital(reason)}"
    if needed is None or needed > _MOST_USEFUL_BLOCKS:
        return "not decided: it is too near the limit for any number of blocks that could be run."
    return f"not decided: the interval reaches over the limit; about {max(needed, 6)} blocks would show on which side."


def _change(seen: Worsening, against: str) -> str:
    value = seen.value or 0.0
    span = "" if seen.interval is None else f" {_interval(seen.interval)}"
    if _size(seen).startswith(f"{0:.{_decimals(seen.interval)}f}{NBSP}"):
        return f"the same as {against}'s{span}"
    if value > 0:
        return f"worse than {against} by {_size(seen)}{span}"
    return f"better than {against} by {_size(seen)}{span}"


def _size(seen: Worsening) -> str:
    return f"{abs(seen.value or 0.0):.{_decimals(seen.interval)}f}{NBSP}{unit_of(seen.metric)}"


def _percent(seen: Worsening) -> str:
    return f"{signed(seen.value or 0.0, _decimals(seen.interval))}{NBSP}{unit_of(seen.metric)}"


def _interval(interval: Interval) -> str:
    decimals = _decimals(interval)
    return f"[{signed(interval.low, decimals)}, {signed(interval.high, decimals)}]"


def _decimals(interval: Interval | None) -> int:
    return 2 if interval is None else min(decimals_for((interval.high - interval.low) / 2), 2)


def _p(p: float | None) -> str:
    if p is None or not math.isfinite(p):
        return "no p"
    return "one-sided p < 0.001" if p < 0.001 else f"one-sided p {p:.3f}"


def _limit(limit: float, unit: str) -> str:
    return f"{limit:g}{NBSP}{unit}"


def _blocks(n: int, kind: str = "") -> str:
    return f"{n} {kind}{'block' if n == 1 else 'blocks'}"


def _capital(reason: str | None) -> str:
    text = reason or "nothing was measured"
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
