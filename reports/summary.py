"""The result table of a run for the terminal and the API: one row a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from reports.analysis import Analysis
from reports.comparing.comparison import Comparison
from reports.comparing.questions import QuestionKey
from reports.comparing.verdict import Flag
from reports.headlines import headlines
from reports.wording import companion, difference_bounds, difference_unit, on_scale


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One metric of one pair.

    Attributes:
        arm, against: labels of the two sides; profile, workload, infrastructure, load: of the arm.
        value, against_value: levels in ``unit``, means over the compared blocks (geometric where ratios are taken).
        difference, low, high: estimate and interval of ``level``, in ``difference_unit``; None with too few blocks.
        level: confidence level of the interval: 0.95, or 0.982 in sequential mode.
        n, planned: blocks compared and blocks the plan asked for. ``look``: in sequential mode, the look they are of.
        p: of this result alone; p_adjusted: after Benjamini-Hochberg over its question.
        verdict: one word; None for metrics that get none. ``reason`` is what has to be said beside it.
        smallest_detectable: text with unit; None where nothing was judged.
    """

    question: QuestionKey
    arm: str
    profile: str
    against: str
    workload: str
    infrastructure: str
    load: str
    metric: str
    unit: str
    value: float | None
    against_value: float | None
    difference: float | None
    difference_unit: str
    low: float | None
    high: float | None
    level: float
    n: int
    planned: int
    look: int | None
    p: float | None
    p_adjusted: float | None
    verdict: str | None
    flags: tuple[Flag, ...]
    reason: str
    smallest_detectable: str | None
    blocks_needed: int | None


def result_rows(analysis: Analysis) -> tuple[ResultRow, ...]:
    """Return one row a comparison, in the order of the page."""
    indicative = analysis.indicative is not None
    return tuple(_row(c, answer.question.key, indicative) for answer in analysis.answers for c in answer.comparisons)


def to_json(analysis: Analysis) -> dict[str, Any]:
    """Return the whole result as JSON-ready mappings: answers in words, remarks, rows."""
    run = analysis.run
    return {
        "run_id": run.run_id,
        "plan": run.plan.name,
        "state": run.state,
        "reason": run.reason,
        "indicative": analysis.indicative,
        "withheld": analysis.withheld,
        "level": 1 - analysis.alpha,
        "remarks": [asdict(remark) for remark in analysis.remarks],
        "answers": [
            {
                "question": headline.question,
                "scope": asdict(headline.scope),
                "text": headline.text,
                "sentences": [{"pair": label, "text": text} for label, text in headline.sentences],
            }
            for headline in headlines(analysis)
        ],
        "results": [asdict(row) | {"flags": list(row.flags)} for row in result_rows(analysis)],
    }


def _row(c: Comparison, question: QuestionKey, indicative: bool) -> ResultRow:
    environment, control = c.pair.cell.environment, c.pair.control.environment
    estimate, low, high = difference_bounds(c) or (None, None, None)
    flags = c.verdict.flags if c.verdict else ()
    if indicative and c.verdict and c.verdict.word != "invalid" and "indicative" not in flags:
        flags = (*flags, "indicative")
    return ResultRow(
        question=question,
        arm=environment.mesh.label,
        profile=environment.profile.name,
        against=_against(question, control.mesh.label, control.profile.name, control.workload.label),
        workload=environment.workload.label,
        infrastructure=environment.infrastructure.name,
        load=c.pair.cell.load.label,
        metric=c.metric.name,
        unit=c.metric.unit,
        value=c.arm_level,
        against_value=c.control_level,
        difference=estimate,
        difference_unit=difference_unit(c.metric),
        low=low,
        high=high,
        level=1 - c.alpha,
        n=c.n,
        planned=c.planned,
        look=c.look,
        p=c.p,
        p_adjusted=c.p_adjusted,
        verdict=c.verdict.word if c.verdict else None,
        flags=flags,
        reason=companion(c),
        smallest_detectable=None if c.detectable is None else on_scale(c.metric, c.detectable),
        blocks_needed=c.needed,
    )


def _against(question: QuestionKey, mesh: str, profile: str, workload: str) -> str:
    """Return the other side's label: whatever of it differs from the arm's own."""
    own: Mapping[QuestionKey, str] = {"profile": f"{mesh} {profile}", "application": workload}
    return own.get(question, mesh)
