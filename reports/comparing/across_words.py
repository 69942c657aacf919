"""Two runs in words and rows: the first line, what stands beside a verdict, and the JSON of the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from meshgauge.run import RunRecord
from reports.comparing.across import Across, AcrossResult
from reports.comparing.verdict import Word
from reports.headlines import MOST_NAMED, ORDER
from reports.wording import (
    blocks,
    difference,
    difference_bounds,
    difference_unit,
    interval,
    is_reachable,
    on_scale,
)

CAVEAT = (
    "The two runs did not share their blocks. Each arm is divided by the control of its own run, and the two ratios "
    "are compared: +10 % means that the arm, counted in units of its control, takes 10 % more than in the first run. "
    "By Welch's t a difference where there is none is then as rare as in one run (5 %), and intervals "
    "are about 1.35 times as wide. How an arm and its control happened to be placed on the day does not cancel. To be "
    "sure, measure both sides in the same blocks of one run."
)


def run_name(run: RunRecord) -> str:
    """Return what a reader calls a run: its plan, its day, the first of its id."""
    return f"{run.plan.name} of {run.created_at:%Y-%m-%d} ({run.run_id[:8]})"


def answer_of(across: Across) -> str:
    """Return the first line: how the matched arms came out at the median, and what else differs."""
    names = f"{run_name(across.second.run)} against {run_name(across.first.run)}"
    groups: dict[Word, list[AcrossResult]] = {}
    for result in across.results:
        if result.metric.name == "p50" and result.verdict:
            groups.setdefault(result.verdict.word, []).append(result)
    if not groups:
        return f"{names}: nothing to compare; no arm is in both runs with a control of its own."
    parts = []
    for word, members in sorted(groups.items(), key=lambda group: ORDER.index(group[0])):
        differs = word in {"slower", "faster"}
        named = [f"{r.pair.label} {difference(r)} {interval(r)}" if differs else r.pair.label for r in members]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        parts.append(f"{len(members)} {word} ({', '.join(named[:MOST_NAMED])}{more})")
    weighty = [condition.fact for condition in across.conditions if condition.weighty]
    also = ", ".join(weighty[:MOST_NAMED]) + (f" and {len(weighty) - MOST_NAMED} more" if len(weighty) > 3 else "")
    differing = f" Not the same in both runs: {also}." if weighty else ""
    return f"Median request, {names}, each divided by its own control: {'; '.join(parts)}.{differing}"


def remark_on(result: AcrossResult) -> str:
    """Return what has to stand beside the verdict word; empty where the word says it all."""
    verdict = result.verdict
    if verdict is None or verdict.word not in {"inconclusive", "invalid"}:
        return ""
    if verdict.word == "invalid":
        return ". ".join((verdict.reason, *result.losses))
    margin = on_scale(result.metric, result.margin)
    shown = f"{blocks_of(result)} blocks show {on_scale(result.metric, result.detectable)} or more"
    if is_reachable(result.needed):
        return f"{shown}; the margin of {margin} takes about {blocks(result.needed)} blocks in either run"
    return f"{shown}; the margin of {margin} is not reachable across runs here"


def blocks_of(result: AcrossResult) -> str:
    """Return the blocks of the first and of the second run."""
    return f"{result.first.n} + {result.second.n}"


def to_json(across: Across) -> dict[str, Any]:
    """Return both runs side by side as JSON-ready mappings: answer, conditions, rows, what was left out."""
    return {
        "answer": answer_of(across),
        "caveat": CAVEAT,
        "level": 1 - across.alpha,
        "first": _run(across.first.run),
        "second": _run(across.second.run),
        "indicative": across.first.indicative or across.second.indicative,
        "conditions": [asdict(condition) for condition in across.conditions],
        "results": [_row(result) for result in across.results],
        "unmatched": [asdict(left) for left in across.unmatched],
    }


def _run(run: RunRecord) -> Mapping[str, Any]:
    return {"id": run.run_id, "plan": run.plan.name, "state": run.state, "made": run.created_at.isoformat()}


def _row(result: AcrossResult) -> Mapping[str, Any]:
    estimate, low, high = difference_bounds(result) or (None, None, None)
    sides = [difference_bounds(seen) for seen in (result.first, result.second)]
    environment = result.pair.cell.environment
    return {
        "label": result.pair.label,
        "first_version": result.versions[0],
        "second_version": result.versions[1],
        "profile": environment.profile.name,
        "workload": environment.workload.label,
        "infrastructure": environment.infrastructure.name,
        "load": result.pair.cell.load.label,
        "metric": result.metric.name,
        "unit": result.metric.unit,
        "difference": estimate,
        "low": low,
        "high": high,
        "difference_unit": difference_unit(result.metric),
        "level": 1 - result.alpha,
        "first_to_control": sides[0][0] if sides[0] else None,
        "second_to_control": sides[1][0] if sides[1] else None,
        "n_first": result.first.n,
        "n_second": result.second.n,
        "p": result.p,
        "p_adjusted": result.p_adjusted,
        "verdict": result.verdict.word if result.verdict else None,
        "flags": list(result.verdict.flags) if result.verdict else [],
        "reason": remark_on(result),
    }
