"""Steps in words, and what a confirming run says of one: confirmed, not reproduced, or no answer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from meshgauge.errors import MeasurementError
from meshgauge.matrix import Cell
from meshgauge.run import RunRecord
from meshgauge.trend import Step, StepState
from reports.comparing.comparison import Comparison, observe, refusal
from reports.comparing.questions import Pair, scope_of
from reports.comparing.verdict import FEWEST_VALID_BLOCKS
from reports.nightly.trends import CONFIRM_P
from reports.readings.metrics import METRIC_OF, Metric
from reports.readings.trials import Readings
from reports.wording import NBSP, difference, difference_unit, interval, percent_of_ln, signed

STATE_WORDS: dict[StepState, str] = {
    "suspected": "suspected",
    "confirmed": "confirmed",
    "not_reproduced": "not reproduced",
    "acknowledged": "acknowledged",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a confirming run says. ``state`` None: nothing that would move the step on; ``text`` says why."""

    state: StepState | None
    text: str


def shown(metric: Metric, value: float, decimals: int = 1) -> str:
    """Return a difference on the metric's scale as the reader sees it, such as ``+10.2 %``."""
    size = percent_of_ln(value) if metric.scale == "ratio" else value
    return f"{signed(size, decimals)}{NBSP}{difference_unit(metric)}"


def step_sentence(step: Step) -> str:
    """Return a step as one plain sentence without its state."""
    metric = METRIC_OF[step.metric]
    change = {"version": f"with {step.cause.text}", "nothing": f"nothing on record changed: {step.cause.text}"}
    why = change.get(step.cause.kind, f"with a change of {step.cause.kind}: {step.cause.text}")
    size = shown(metric, step.size)
    return f"{metric.title} of {step.series.title}: {size} since the night of {step.onset_at:%Y-%m-%d}, {why}"


def judge_versions(run: RunRecord, step: Step) -> Finding:
    """Return what an A/B of the versions before and after says: p < .01 and the same sign confirms.

    Args:
        run: its arms are the control, the older version and the newer one, in this order.

    Source: reference/statistics.md 4.12; power for +5 % .84 at a block sd of 3.5 % (3.9).
    """
    metric = METRIC_OF[step.metric]
    _, before, after = (_cells_of(run, arm.label) for arm in run.arms[:3])
    seen, why_not = _compared(run, Pair(after, before, "newer against older", scope_of(after)), metric)
    what = f"{step.cause.after['version']} against {step.cause.before['version']}"
    if seen is None or seen.effect is None or seen.effect.p is None:
        return _no_answer(step, what, why_not)
    p = seen.effect.p
    agrees = p < CONFIRM_P and seen.effect.estimate * step.size > 0
    numbers = f"{difference(seen)} {interval(seen)}, p = {p:.2g}"
    return Finding(
        "confirmed" if agrees else "not_reproduced", f"{what} on {seen.n} fresh blocks: {metric.name} {numbers}"
    )


def judge_repeat(run: RunRecord, step: Step, nights_before: Sequence[float]) -> Finding:
    """Return whether the level after the step is still there: for steps without any change of version.

    The run's effect against its control is held against the nights before the onset as a further night would be:
    ``t = (effect - mean) / sqrt(s^2 (1 + 1/n) + se^2)``, s the sd of those n nights, which includes what differs from
    session to session, and se the standard error over the run's blocks. p < .01 and the same sign confirms.

    Args:
        run: its arms are the control and the arm, in this order.
        nights_before: values of the nights before the onset, on the metric's scale.

    Raises:
        ValueError: fewer than two nights.
    """
    metric = METRIC_OF[step.metric]
    control, arm = (_cells_of(run, label) for label in (run.arms[0].label, run.arms[1].label))
    seen, why_not = _compared(run, Pair(arm, control, "again", scope_of(arm)), metric)
    what = f"{step.cause.after['version']} again, against {step.series.control}"
    if seen is None or seen.effect is None or seen.effect.standard_error is None:
        return _no_answer(step, what, why_not)
    n, mean = len(nights_before), statistics.fmean(nights_before)
    spread = max(statistics.variance(nights_before), metric.resolution**2)
    move = seen.effect.estimate - mean
    t = move / math.sqrt(spread * (1 + 1 / n) + seen.effect.standard_error**2)
    p = float(2 * stats.t.sf(abs(t), n - 1))
    agrees = p < CONFIRM_P and move * step.size > 0
    still = "is still there" if agrees else "is not there"
    text = (
        f"{what} on {seen.n} fresh blocks: {metric.name} {difference(seen)}, which is {shown(metric, move)} "
        f"off the {n} nights before, p = {p:.2g}; the step {still}"
    )
    return Finding("confirmed" if agrees else "not_reproduced", text)


def _cells_of(run: RunRecord, label: str) -> Cell:
    found = [cell for cell in run.cells if cell.environment.mesh.label == label]
    if len(found) != 1:
        raise MeasurementError(f"a confirming run has one cell of {label}, not {len(found)}")
    return found[0]


def _compared(run: RunRecord, pair: Pair, metric: Metric) -> tuple[Comparison | None, str]:
    """Return the comparison, or why there is none that could be judged."""
    readings = Readings(run)
    seen = observe(pair, metric, readings, run.plan.blocks, run.plan.margins)
    refused = refusal(seen, readings)
    if refused is not None and not refused.open:
        return None, refused.reason
    if seen.n < FEWEST_VALID_BLOCKS:
        lost = f" ({'; '.join(seen.losses)})" if seen.losses else ""
        return None, f"{seen.n} of {run.plan.blocks} blocks are valid, {FEWEST_VALID_BLOCKS} are needed{lost}"
    return seen, ""


def _no_answer(step: Step, what: str, reason: str) -> Finding:
    return Finding(None, f"{what}: no answer, {reason}. Measure again with: meshgauge trend confirm {step.id}")
