"""Following schedules: nights become points, points give steps away, steps are confirmed by runs of their own.

Beside the reconciler's tick, never in it: reading a night takes seconds. Any number of trackers may work at once.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import sqlalchemy as sa
import structlog

from coordinator import submission
from coordinator.notices import tell
from coordinator.planner import Planner
from coordinator.step_plans import step_plan
from coordinator.submission import Announce
from meshgauge.errors import ConflictError, MeshgaugeError
from meshgauge.resolved import ResolvedPlan
from meshgauge.run import RunRecord
from meshgauge.store import events, runs, schedules, series, steps
from meshgauge.store.database import transaction
from meshgauge.store.notices import Event
from meshgauge.store.records import read_run
from meshgauge.store.series import Night
from meshgauge.trend import Point, Step
from reports.nightly.nights import night_points
from reports.nightly.step_findings import Finding, judge_repeat, judge_versions, step_sentence
from reports.nightly.trends import StepDetector, cause_of
from reports.readings.metrics import METRIC_OF

# A detector needs no more; without steps its window is 60 nights, and gaps may lie between.
NIGHTS_READ = 120
# What shows in older nights (after an upgrade, or an outage) is history: nobody is woken, nothing measured for it.
NEWS_WITHIN = dt.timedelta(days=7)
# Onsets of one change may differ from metric to metric by some nights; one run confirms them all.
SAME_CHANGE_WITHIN = dt.timedelta(days=7)
OURSELVES = "Meshgauge"
# A defect in reading one run is logged with its trace, and told where the run is shown. It must neither hold up the
# other nights nor end the process, which also looks after leases.
_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)

T = TypeVar("T")

log = structlog.get_logger()


def follow(engine: sa.Engine, planner: Planner, announce: Announce, now: dt.datetime | None = None) -> None:
    """Do all there is to do: new nights, runs for new steps, answers of runs that ended. Idempotent.

    Args:
        announce: tells the sites of a new run at once.
        now: by default this host's clock; only tells old nights from new ones.

    Raises:
        ServiceUnavailableError: Postgres is away.
    """
    at = now or dt.datetime.now(dt.UTC)
    while nights := _read(engine, series.untracked):
        done = [_safely("night_not_tracked", partial(_track, engine, night, at)) for night in nights]
        if not any(done):
            break  # what is left waits for something that is away
    for step in _read(engine, steps.unconfirmed):
        _safely("step_not_confirmed", partial(_confirm, engine, planner, announce, step, at))
    for step in _read(engine, steps.answered):
        _safely("step_not_judged", partial(_judge, engine, step))


def _read(engine: sa.Engine, query: Callable[[sa.Connection], T]) -> T:
    with transaction(engine) as connection:
        return query(connection)


def _safely(event: str, do: Callable[[], bool]) -> bool:
    """Return what ``do`` says; False when it has to be tried again later. One failure stops nobody else's turn."""
    try:
        return do()
    except MeshgaugeError as error:
        log.warning(event, reason=str(error))
        return False


def _track(engine: sa.Engine, night: Night, now: dt.datetime) -> bool:
    """Store the points of a night, and the steps that show with it."""
    points: tuple[Point, ...] = ()
    problem = None
    try:
        record = _read(engine, lambda connection: read_run(connection, night.run_id))
        points = night_points(record, night.at)
    except MeshgaugeError as error:
        if error.retryable:
            raise
        problem = str(error)  # this night stays a gap; the next ones must not wait for it
    except _FAULTS as error:
        log.exception("night_unreadable", run=str(night.run_id))
        problem = f"a fault of Meshgauge: {error!r}"
    if not points and problem is None:
        problem = "the plan has no mesh to compare with its baseline"
    with transaction(engine) as connection:
        if not series.keep_night(connection, night, points, problem):
            return True
        for step in _new_steps(connection, night, points):
            _suspect(connection, step, is_news=now - night.at <= NEWS_WITHIN)
    log.info("night_tracked", schedule=night.schedule, run=str(night.run_id), points=len(points), problem=problem)
    return True


def _new_steps(connection: sa.Connection, night: Night, tonight: Sequence[Point]) -> Iterable[Step]:
    """Yield the steps that tonight's points give away, stored as suspected."""
    seen = series.points(connection, night.schedule_id, NIGHTS_READ, until=night.at)
    known = steps.of_schedule(connection, night.schedule_id)
    for point in tonight:
        if point.value is None:
            continue
        same = (point.series, point.metric)
        nights = [other for other in seen if (other.series, other.metric) == same and other.value is not None]
        place = {other.run_id: at for at, other in enumerate(nights)}
        own = [step.onset_run_id for step in known if (step.series, step.metric) == same]
        onsets = [place[run_id] for run_id in own if run_id in place]
        detector = StepDetector(resolution=METRIC_OF[point.metric].resolution)
        alert = detector.look([other.value for other in nights if other.value is not None], onsets)
        if alert is None:
            continue
        made = steps.add(
            connection, night.schedule_id, point.series, point.metric, nights[alert.onset].run_id, point.run_id,
            alert.size, alert.before, cause_of(nights, alert.onset)
        )  # fmt: skip
        if made is not None:
            yield made


def _suspect(connection: sa.Connection, step: Step, *, is_news: bool) -> None:
    """Say that a step is suspected. One that came with a change of the environment is an annotation, not an alert."""
    log.info("step_suspected", step=step.id, schedule=step.schedule, cause=step.cause.kind)
    if step.cause.kind == "environment":
        reason = f"the environment changed, the mesh did not: {step.cause.text}"
        steps.acknowledge(connection, step.id, reason, OURSELVES)
        steps.settle(connection, step.id, None, "An A/B on today's environment cannot bring the one of before back.")
    elif step.cause.kind == "configuration":
        why = "The version did not change, so an A/B of versions cannot tell: look at the configuration."
        steps.settle(connection, step.id, None, why)
    elif not is_news:
        why = f"Seen in nights long past; measure it with: meshgauge trend confirm {step.id}"
        steps.settle(connection, step.id, None, why)
    if is_news and step.cause.kind != "environment":
        _announce_step(connection, step, "step_suspected", f"Suspected step: {step_sentence(step)}.")


def _announce_step(connection: sa.Connection, step: Step, event: Event, answer: str) -> None:
    facts = {"step": step.id, "schedule": step.schedule, "series": step.series.key, "metric": step.metric}
    events.append(connection, uuid.UUID(step.detected_run_id), event, {**facts, "answer": answer})
    page = f"/trends/{step.schedule}"
    tell(
        connection,
        event,
        f"step {step.id} {event}",
        {"subject": step.schedule, "answer": answer, "page": page, **facts},
    )


def confirm_again(engine: sa.Engine, planner: Planner, announce: Announce, step_id: int) -> Step:
    """Submit a confirming run for a step because somebody asks for it; return the step.

    Raises:
        UnknownNameError: no such step.
        ConflictError: a run that confirms it is under way.
        UnsupportedError, InvalidPlanError: what would have to run cannot be had again.
        ServiceUnavailableError: Postgres, or the index of versions, is away.
    """
    step = _read(engine, lambda connection: steps.get(connection, step_id))
    if step.confirming_run_id is not None and step.finding is None:
        raise ConflictError(f"run {step.confirming_run_id} is confirming step {step_id}; wait until it has ended")
    _submit(engine, planner, announce, step, key=f"step {step.id} after {step.confirming_run_id}")
    return _read(engine, lambda connection: steps.get(connection, step_id))


def _confirm(engine: sa.Engine, planner: Planner, announce: Announce, step: Step, now: dt.datetime) -> bool:
    """Give a suspected step the run that confirms it: its own, or that of the same change in another metric."""
    with transaction(engine) as connection:
        shared = _run_of_same_change(connection, step)
        if shared is not None:
            if steps.hold(connection, step):
                steps.link(connection, step.id, shared)
            return True
    try:
        _submit(engine, planner, announce, step, key=f"step {step.id}")
    except MeshgaugeError as error:
        if error.retryable and now - step.detected_at <= NEWS_WITHIN:
            raise
        with transaction(engine) as connection:
            if steps.hold(connection, step):
                steps.settle(connection, step.id, None, f"It cannot be confirmed by a run: {error}")
    return True


def _run_of_same_change(connection: sa.Connection, step: Step) -> uuid.UUID | None:
    cause = step.cause
    for other in steps.all_of(connection):
        same_place = other.series == step.series or (cause.kind == "version" and other.series.cell == step.series.cell)
        same_arms = (other.cause.kind, other.cause.before.get("hops"), other.cause.after.get("hops")) == (
            cause.kind, cause.before.get("hops"), cause.after.get("hops")
        )  # fmt: skip
        near = abs(other.onset_at - step.onset_at) <= SAME_CHANGE_WITHIN
        if other.schedule == step.schedule and same_place and same_arms and near and other.confirming_run_id:
            return uuid.UUID(other.confirming_run_id)
    return None


def _submit(engine: sa.Engine, planner: Planner, announce: Announce, step: Step, key: str) -> None:
    night = _read(engine, lambda connection: runs.restored_plan(connection, uuid.UUID(step.detected_run_id)))
    resolved: ResolvedPlan = planner.resolve(
        step_plan(night, step), may_run_programs=planner.settings.allow_commands
    )  # as for its schedule's own runs
    with transaction(engine) as connection:
        if not steps.hold(connection, step):
            return
        # Not through run.confirms, which is for thresholds: this run answers for its step alone.
        run_id, is_new = submission.store(
            connection, planner.settings, resolved, f"tracking {key}", f"schedule {step.schedule}"
        )
        steps.link(connection, step.id, run_id)
    if is_new:
        submission.tell(engine, announce, submission.sites_of(planner.settings, resolved))
    log.info("step_confirming", step=step.id, run=str(run_id))


def _judge(engine: sa.Engine, step: Step) -> bool:
    """Read the confirming run of a step and store what it says."""
    record = _read(engine, lambda connection: read_run(connection, uuid.UUID(str(step.confirming_run_id))))
    try:
        finding = judge_versions(record, step) if step.cause.kind == "version" else _repeat(engine, record, step)
    except MeshgaugeError as error:
        if error.retryable:
            raise
        finding = Finding(None, f"The confirming run cannot be read: {error}")
    except _FAULTS as error:
        log.exception("confirming_run_unreadable", run=step.confirming_run_id)
        finding = Finding(None, f"The confirming run cannot be read, a fault of Meshgauge: {error!r}")
    with transaction(engine) as connection:
        if not steps.hold(connection, step):
            return True
        steps.settle(connection, step.id, finding.state, finding.text)
        if step.state == "suspected" and finding.state in ("confirmed", "not_reproduced"):
            word: Event = "step_confirmed" if finding.state == "confirmed" else "step_not_reproduced"
            said = "Confirmed step" if finding.state == "confirmed" else "Not reproduced"
            _announce_step(connection, step, word, f"{said}: {step_sentence(step)}. {finding.text}.")
    log.info("step_judged", step=step.id, state=finding.state)
    return True


def _repeat(engine: sa.Engine, record: RunRecord, step: Step) -> Finding:
    """Hold a repeat of the same version against the nights before the onset."""
    with transaction(engine) as connection:
        seen = series.points(
            connection, schedules.get(connection, step.schedule).id, NIGHTS_READ, until=step.detected_at
        )
        known = steps.of_schedule(connection, schedules.get(connection, step.schedule).id)
    same = (step.series, step.metric)
    earlier = [o.onset_at for o in known if (o.series, o.metric) == same and o.onset_at < step.onset_at]
    since = max(earlier, default=dt.datetime.min.replace(tzinfo=dt.UTC))
    nights = [
        point.value
        for point in seen
        if (point.series, point.metric) == same and point.value is not None and since <= point.at < step.onset_at
    ]
    return judge_repeat(record, step, nights)
