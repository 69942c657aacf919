"""Schedules and their fires. ``PRIMARY KEY (schedule_id, fire_at)`` makes a double fire impossible."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.store import schema

Decision = Literal["run", "missed", "overlap", "refused"]


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A plan that fires by itself. Everything up to ``last_fire_at`` is decided."""

    id: int
    name: str
    cron: str
    time_zone: str
    body: str
    paused: bool
    submitted_by: str
    last_fire_at: dt.datetime
    created_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Fire:
    """What became of one due time."""

    fire_at: dt.datetime
    decision: Decision
    reason: str | None = None
    run_id: uuid.UUID | None = None


_COLUMNS = (
    schema.schedule.c.id,
    schema.schedule.c.name,
    schema.schedule.c.cron,
    schema.schedule.c.time_zone,
    schema.schedule.c.body,
    schema.schedule.c.paused,
    schema.schedule.c.submitted_by,
    schema.schedule.c.last_fire_at,
    schema.schedule.c.created_at,
)


def add(connection: sa.Connection, name: str, cron: str, time_zone: str, body: str, submitted_by: str) -> ScheduleRow:
    """Store a schedule; its first fire is the first due time from now on.

    Raises:
        ConflictError: there is a schedule of that name.
    """
    row = connection.execute(
        insert(schema.schedule)
        .values(
            name=name, cron=cron, time_zone=time_zone, body=body, submitted_by=submitted_by, last_fire_at=sa.func.now()
        )
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(*_COLUMNS)
    ).one_or_none()
    if row is None:
        raise ConflictError(f"there is a schedule {name!r} already; remove it first, or give this one another name")
    return ScheduleRow(**row._mapping)


def listed(connection: sa.Connection) -> tuple[ScheduleRow, ...]:
    """Return all schedules by name."""
    rows = connection.execute(sa.select(*_COLUMNS).order_by(schema.schedule.c.name))
    return tuple(ScheduleRow(**row._mapping) for row in rows)


def get(connection: sa.Connection, name: str) -> ScheduleRow:
    """Return one schedule.

    Raises:
        UnknownNameError: no such schedule.
    """
    row = connection.execute(sa.select(*_COLUMNS).where(schema.schedule.c.name == name)).one_or_none()
    if row is None:
        raise _unknown(connection, name)
    return ScheduleRow(**row._mapping)


def set_paused(connection: sa.Connection, name: str, *, paused: bool) -> ScheduleRow:
    """Pause or resume a schedule. What fell into a pause was not missed: it is skipped without a record.

    Raises:
        UnknownNameError: no such schedule.
    """
    now_if_resumed = sa.case(
        (schema.schedule.c.paused, sa.func.greatest(schema.schedule.c.last_fire_at, sa.func.now())),
        else_=schema.schedule.c.last_fire_at,
    )
    row = connection.execute(
        sa.update(schema.schedule)
        .where(schema.schedule.c.name == name)
        .values(paused=paused, last_fire_at=schema.schedule.c.last_fire_at if paused else now_if_resumed)
        .returning(*_COLUMNS)
    ).one_or_none()
    if row is None:
        raise _unknown(connection, name)
    return ScheduleRow(**row._mapping)


def remove(connection: sa.Connection, name: str) -> None:
    """Remove a schedule and the record of its fires; its runs stay.

    Raises:
        UnknownNameError: no such schedule.
    """
    done = connection.execute(sa.delete(schema.schedule).where(schema.schedule.c.name == name))
    if done.rowcount == 0:
        raise _unknown(connection, name)


def _unknown(connection: sa.Connection, name: str) -> UnknownNameError:
    return UnknownNameError("schedule", name, [row.name for row in listed(connection)])


def active(connection: sa.Connection) -> tuple[ScheduleRow, ...]:
    """Return the schedules that are not paused."""
    return tuple(row for row in listed(connection) if not row.paused)


def hold(connection: sa.Connection, seen: ScheduleRow) -> bool:
    """Lock a schedule for the rest of this transaction; False when another decided since ``seen`` was read."""
    row = connection.execute(
        sa.select(schema.schedule.c.paused, schema.schedule.c.last_fire_at)
        .where(schema.schedule.c.id == seen.id)
        .with_for_update()
    ).one_or_none()
    return row is not None and not row.paused and row.last_fire_at == seen.last_fire_at


def open_run(connection: sa.Connection, schedule_id: int) -> uuid.UUID | None:
    """Return a run of this schedule that is not finished, or None."""
    return connection.execute(
        sa.select(schema.run.c.id)
        .where(schema.run.c.schedule_id == schedule_id, schema.run.c.finished_at.is_(None))
        .order_by(schema.run.c.created_at.desc())
        .limit(1)
    ).scalar_one_or_none()


def record(connection: sa.Connection, schedule_id: int, decided: Sequence[Fire]) -> None:
    """Store what became of due times and move ``last_fire_at`` on. Call under ``hold``."""
    connection.execute(
        insert(schema.schedule_fire).on_conflict_do_nothing(),
        [
            {
                "schedule_id": schedule_id,
                "fire_at": fire.fire_at,
                "decision": fire.decision,
                "reason": fire.reason,
                "run_id": fire.run_id,
            }
            for fire in decided
        ],
    )
    newest = max(fire.fire_at for fire in decided)
    connection.execute(
        sa.update(schema.schedule)
        .where(schema.schedule.c.id == schedule_id)
        .values(last_fire_at=sa.func.greatest(schema.schedule.c.last_fire_at, newest))
    )


def fires(connection: sa.Connection, schedule_id: int, limit: int = 20) -> tuple[Fire, ...]:
    """Return what became of the last due times, newest first."""
    rows = connection.execute(
        sa.select(
            schema.schedule_fire.c.fire_at,
            schema.schedule_fire.c.decision,
            schema.schedule_fire.c.reason,
            schema.schedule_fire.c.run_id,
        )
        .where(schema.schedule_fire.c.schedule_id == schedule_id)
        .order_by(schema.schedule_fire.c.fire_at.desc())
        .limit(limit)
    )
    return tuple(Fire(row.fire_at, row.decision, row.reason, row.run_id) for row in rows)
