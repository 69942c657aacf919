"""A run made into answers: everything the page, the tables and the exports are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshgauge.run import RunRecord
from reports.comparison import Comparison, compare
from reports.questions import Question, questions_of
from reports.readings import Readings
from reports.remarks import Remark, aa_alarm, indicative_reason, remarks_on


@dataclass(frozen=True, slots=True)
class Answer:
    """A question with all its comparisons, secondary metrics included."""

    question: Question
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Analysis:
    """A run, its readings, its answers and what must be said about them.

    Attributes:
        indicative: why the hosts make all verdicts indicative; None when they are large enough.
        withheld: why no verdict is given at all; None when the A/A comparisons are calm or were not planned.
    """

    run: RunRecord
    readings: Readings
    answers: tuple[Answer, ...]
    remarks: tuple[Remark, ...]
    indicative: str | None
    withheld: str | None


def analyse(run: RunRecord) -> Analysis:
    """Return the answers of a run in any state.

    Raises:
        MeasurementError: a trial is counted twice.
    """
    readings = Readings(run)
    questions = questions_of(run)
    blocks, margins = run.plan.blocks, run.plan.margins
    same = {q.key: compare(q, readings, blocks, margins) for q in questions if q.key == "aa"}
    withheld = aa_alarm(same.get("aa", ()))
    found: Mapping[str, tuple[Comparison, ...]] = {
        q.key: same[q.key] if q.key in same else compare(q, readings, blocks, margins, withheld) for q in questions
    }
    return Analysis(
        run,
        readings,
        tuple(Answer(question, found[question.key]) for question in questions),
        remarks_on(run, readings, found, withheld),
        indicative_reason(run),
        withheld,
    )
