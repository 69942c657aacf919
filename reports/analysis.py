"""A run made into answers: everything the page, the tables and the exports are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshgauge.run import RunRecord
from reports.comparing.comparison import Comparison, compare
from reports.comparing.questions import Question, questions_of
from reports.comparing.remarks import Remark, aa_alarm, indicative_reason, remarks_on
from reports.comparing.sequential import LOOK_ALPHA
from reports.comparing.statistics import ALPHA
from reports.readings.trials import Readings


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
        alpha: level of significance of the whole run; its intervals are of 1 - alpha.
    """

    run: RunRecord
    readings: Readings
    answers: tuple[Answer, ...]
    remarks: tuple[Remark, ...]
    indicative: str | None
    withheld: str | None
    alpha: float = ALPHA

    def answer(self, question: Question) -> Answer:
        """Return the answer to a further question of the same run: one family of tests of its own."""
        run = self.run
        return Answer(question, _compared(question, run, self.readings, self.withheld))


def analyse(run: RunRecord) -> Analysis:
    """Return the answers of a run in any state.

    Raises:
        MeasurementError: a trial is counted twice.
    """
    readings = Readings(run)
    questions = questions_of(run)
    same = {q.key: _compared(q, run, readings) for q in questions if q.key == "aa"}
    withheld = aa_alarm(same.get("aa", ()))
    found: Mapping[str, tuple[Comparison, ...]] = {
        q.key: same[q.key] if q.key in same else _compared(q, run, readings, withheld) for q in questions
    }
    return Analysis(
        run,
        readings,
        tuple(Answer(question, found[question.key]) for question in questions),
        remarks_on(run, readings, found, withheld),
        indicative_reason(run),
        withheld,
        LOOK_ALPHA if run.plan.sequential else ALPHA,
    )


def _compared(
    question: Question, run: RunRecord, readings: Readings, withheld: str | None = None
) -> tuple[Comparison, ...]:
    plan = run.plan
    return compare(question, readings, plan.blocks, plan.margins, withheld, sequential=plan.sequential)
