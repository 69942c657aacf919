"""The outcome as Markdown, short enough for a comment on a pull request: the answer first, then what matters."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from reports.thresholds.outcome import Check, Outcome
from reports.wording import ABSENT, decimals_for, level, signed

_MOST_ROWS = 20  # of a table; what it costs a reader to scroll past a comment is the limit, not GitHub's 65 536 bytes
_MOST_SENTENCE = 400

_SPECIAL = re.compile(r"([\\`*_\[\]|~!])")
_STARTS_A_REFERENCE = re.compile(r"([@#])(?=\w)")
_ORDER = {"failed": 0, "undecided": 1, "passed": 2}


def markdown(outcome: Outcome, report_url: str | None = None) -> str:
    """Return a summary in GitHub's Markdown. Whatever came from a plan or a log is escaped: it formats nothing.

    Args:
        report_url: address of the full report; None: there is none a reader could open.
    """
    checks = sorted(outcome.checks, key=lambda check: _ORDER[check.status])
    open_checks = [check for check in checks if check.status != "passed"]
    kept = [check for check in checks if check.status == "passed"]
    parts = [f"### Meshgauge: {escaped(outcome.plan)}", f"**{escaped(_cut(outcome.sentence))}**"]
    parts += [f"> {escaped(remark)}" for remark in outcome.remarks]
    if open_checks:
        parts.append(_table(open_checks))
    if kept:
        what = "1 check keeps its threshold" if len(kept) == 1 else f"{len(kept)} checks keep their thresholds"
        parts.append(f"<details><summary>{what}</summary>\n\n{_table(kept)}\n\n</details>")
    parts.append(_footer(outcome, report_url))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is: on one line, without markup, mentions or references."""
    flat = html.escape(" ".join(text.split()), quote=False)
    return _STARTS_A_REFERENCE.sub("\\1\u200b", _SPECIAL.sub(r"\\\1", flat))


def _table(checks: Sequence[Check]) -> str:
    lines = ["| Check | Measured | Allowed | Blocks | Answer |", "|---|---:|---:|---:|---|"]
    lines += [_row(check) for check in checks[:_MOST_ROWS]]
    if len(checks) > _MOST_ROWS:
        lines.append(f"| … and {len(checks) - _MOST_ROWS} more: see the report | | | | |")
    return "\n".join(lines)


def _row(check: Check) -> str:
    bound = {"at_most": "at most", "at_least": "at least", "worse_by_at_most": "worse by at most"}[check.bound]
    answer = check.status if check.confirmation is None else f"{check.status} ({check.confirmation})"
    cells = (
        f"{check.title}, {check.subject}",
        f"{_value(check)} {_interval(check)}".strip(),
        f"{bound} {check.limit:g} {check.unit}",
        f"{check.n} of {check.planned}" if check.n <= check.planned else f"{check.n}",
        answer,
    )
    return "| " + " | ".join(map(escaped, cells)) + " |"


def _value(check: Check) -> str:
    if check.value is None:
        return ABSENT
    if check.against is None:
        return level(check.value, check.unit)
    return f"{signed(check.value, _decimals(check))} {check.unit}"


def _interval(check: Check) -> str:
    if check.low is None or check.high is None:
        return ""
    if check.against is None:
        return f"[{level(check.low)}, {level(check.high)}]"
    return f"[{signed(check.low, _decimals(check))}, {signed(check.high, _decimals(check))}]"


def _decimals(check: Check) -> int:
    if check.low is None or check.high is None:
        return 2
    return min(decimals_for((check.high - check.low) / 2), 2)


def _footer(outcome: Outcome, report_url: str | None) -> str:
    runs = f"Run {outcome.run_id[:8]}"
    if outcome.confirming_run_id:
        runs += f", confirmed on the fresh blocks of run {outcome.confirming_run_id[:8]}"
    if report_url:
        runs = f"[{runs}]({html.escape(report_url.replace(' ', '%20').replace(')', '%29'))})"
    versions = "; ".join(f"{arm}: {version}" for arm, version in outcome.versions.items())
    return (
        f"<sub>{runs}. Plus means worse. Intervals are between blocks: 95 % for levels, for worsenings 90 %, so that "
        f"each end is a one-sided 95 % bound. {escaped(versions)}.</sub>"
    )


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= _MOST_SENTENCE else f"{sentence[:_MOST_SENTENCE]}…"
