"""Schedules: which times are due, and what becomes of each (run, missed, overlap, refused).

Times come from cronsim with an IANA zone: Celery's crontab and croniter were both seen to be wrong on the
nights clocks change (reference/operations.md 5).
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
import zoneinfo
from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from cronsim import CronSim, CronSimError

from coordinator import submission
from coordinator.plan_check import NO_TWIN
from coordinator.planner import Planner, installed_planner, read_plan
from coordinator.submission import Announce
from meshgauge.errors import InvalidPlanError, MeshgaugeError, Problem
from meshgauge.fields import NAME_PATTERN
from meshgauge.resolved import ResolvedPlan
from meshgauge.settings import Settings
from meshgauge.store import schedules
from meshgauge.store.database import transaction
from meshgauge.store.schedules import Fire, ScheduleRow

GRACE = dt.timedelta(hours=2)  # a due time missed by less still runs; older ones are only recorded
MAX_RECORDED = 500  # of one outage, the newest

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Draft:
    """A schedule somebody wants: parts given here replace those of the plan."""

    text: str
    submitted_by: str
    name: str | None = None
    cron: str | None = None
    time_zone: str | None = None
    may_run_programs: bool = False


def is_name(text: str) -> bool:
    """Return whether ``text`` can name a schedule."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def next_fire(cron: str, time_zone: str, after: dt.datetime) -> dt.datetime:
    """Return the first due time after ``after``, in UTC.

    Raises:
        InvalidPlanError: the cron expression or the time zone is wrong, or never comes true.
    """
    zone = _zone(time_zone)
    if len(cron.split()) != 5:
        raise _bad_cron(cron, "it needs five fields: minute hour day month weekday")
    try:
        found: dt.datetime = next(CronSim(cron, after.astimezone(zone)))
    except CronSimError as error:
        raise _bad_cron(cron, str(error)) from error
    except StopIteration as error:
        raise _bad_cron(cron, "that day never comes") from error
    return found.astimezone(dt.UTC)


def _zone(time_zone: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"unknown time zone {time_zone!r}; write an IANA name such as UTC or Europe/Berlin"
        raise InvalidPlanError([Problem("schedule.time_zone", message)]) from error


def _bad_cron(cron: str, reason: str) -> InvalidPlanError:
    return InvalidPlanError([Problem("schedule.cron", f"{cron!r} is no cron expression: {reason}")])


def add(engine: sa.Engine, planner: Planner, draft: Draft) -> ScheduleRow:
    """Store a schedule after seeing that its plan can be run and its times make sense.

    Raises:
        InvalidPlanError: one of them does not.
        ConflictError: there is a schedule of that name.
    """
    resolved = planner.resolve(draft.text, may_run_programs=draft.may_run_programs)
    planned = resolved.plan.schedule
    cron = draft.cron or (planned.cron if planned else None)
    if cron is None:
        message = "is needed: write schedule: {cron: ..., time_zone: ...} into the plan, or give cron with the request"
        raise InvalidPlanError([Problem("schedule", message)])
    time_zone = draft.time_zone or (planned.time_zone if planned else "UTC")
    next_fire(cron, time_zone, dt.datetime.now(dt.UTC))
    with transaction(engine) as connection:
        return schedules.add(
            connection, draft.name or resolved.plan.name, cron, time_zone, draft.text, draft.submitted_by
        )


def warnings_on(body: str) -> tuple[str, ...]:
    """Return what the owner of a scheduled plan should know, from its text alone."""
    try:
        plan = read_plan(body)
    except InvalidPlanError as error:  # it could be run when it was added, and a newer Meshgauge reads it otherwise
        return (f"the plan can no longer be run as it stands: {error}",)
    return () if plan.aa_arm else (NO_TWIN,)


def due_times(row: ScheduleRow, now: dt.datetime) -> tuple[dt.datetime, ...]:
    """Return the times due since the last decision, oldest first; of a long outage the newest MAX_RECORDED."""
    zone = _zone(row.time_zone)
    passed = itertools.takewhile(lambda at: at <= now, CronSim(row.cron, row.last_fire_at.astimezone(zone)))
    newest: list[dt.datetime] = []
    for at in passed:
        newest.append(at.astimezone(dt.UTC))
        if len(newest) > 2 * MAX_RECORDED:
            del newest[:-MAX_RECORDED]
    return tuple(newest[-MAX_RECORDED:])


def fire_due(
    engine: sa.Engine,
    settings: Settings,
    planner: Planner | None = None,
    announce: Announce | None = None,
    now: dt.datetime | None = None,
) -> tuple[Fire, ...]:
    """Decide every due time of every schedule; return what was decided.

    Safe to call from several processes at once: planning happens outside of any transaction, and whoever
    decides second finds the schedule moved on.

    Args:
        planner: by default the one of this installation.
        announce: tells the sites of a new run at once; by default the reconciler's next tick does.
        now: by default the database's clock.
    """
    with transaction(engine) as connection:
        at = now or connection.execute(sa.select(sa.func.now())).scalar_one()
        rows = schedules.active(connection)
    decided: list[Fire] = []
    for row in rows:
        try:
            times = due_times(row, at)
        except InvalidPlanError as error:  # its zone is gone from this host: not the others' fault
            log.error("schedule_broken", schedule=row.name, reason=str(error))  # noqa: TRY400 - a sentence of ours
            continue
        if times:
            decided.extend(_decide(engine, planner or installed_planner(settings), announce, row, times, at))
    return tuple(decided)


def _decide(
    engine: sa.Engine,
    planner: Planner,
    announce: Announce | None,
    row: ScheduleRow,
    times: tuple[dt.datetime, ...],
    now: dt.datetime,
) -> tuple[Fire, ...]:
    newest = times[-1]
    missed = [Fire(at, "missed", "nothing was there to start it in time") for at in times[:-1]]
    resolved: ResolvedPlan | None = None
    refusal: str | None = None
    if now - newest > GRACE:
        missed.append(Fire(newest, "missed", f"more than {GRACE.total_seconds() / 3600:g} h had passed"))
    else:
        try:
            resolved = planner.resolve(row.body, may_run_programs=planner.settings.allow_commands)
        except MeshgaugeError as error:
            if error.retryable:  # the next tick tries again, as long as the grace lasts
                log.warning("schedule_waits", schedule=row.name, fire_at=newest.isoformat(), reason=str(error))
                return ()
            refusal = str(error)
    with transaction(engine) as connection:
        if not schedules.hold(connection, row):
            return ()
        fires = list(missed)
        if refusal is not None:
            fires.append(Fire(newest, "refused", refusal))
        elif resolved is not None:
            fires.append(_run_or_overlap(connection, planner.settings, row, newest, resolved))
        schedules.record(connection, row.id, fires)
    if announce is not None and resolved is not None and fires[-1].decision == "run":
        submission.tell(engine, announce, submission.sites_of(planner.settings, resolved))
    log.info("schedule_decided", schedule=row.name, fire_at=newest.isoformat(), decision=fires[-1].decision)
    return tuple(fires)


def _run_or_overlap(
    connection: sa.Connection, settings: Settings, row: ScheduleRow, fire_at: dt.datetime, resolved: ResolvedPlan
) -> Fire:
    if (still_open := schedules.open_run(connection, row.id)) is not None:
        return Fire(fire_at, "overlap", f"run {still_open} was not finished")
    run_id, _ = submission.store(
        connection,
        settings,
        resolved,
        f"schedule {row.id}:{fire_at.isoformat()}",
        f"schedule {row.name}",
        (row.id, fire_at),
    )
    return Fire(fire_at, "run", None, run_id)
