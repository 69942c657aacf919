"""Nights as stored: points once a run, in order; annotations, the pinned baseline; all of it read back as a Trend."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.store import schedules, schema, steps
from meshgauge.store import schema_tracking as tables
from meshgauge.store.schedules import ScheduleRow
from meshgauge.trend import Annotation, MissedNight, PinnedBaseline, Point, SeriesName, Trend

MOST_NIGHTS = 400  # a year and a little; older ones stay stored


@dataclass(frozen=True, slots=True)
class Night:
    """A finished run of a schedule, due at ``at``."""

    run_id: uuid.UUID
    schedule_id: int
    schedule: str
    at: dt.datetime


_DUE_AT = sa.func.coalesce(schema.run.c.fire_at, schema.run.c.created_at)


def untracked(connection: sa.Connection) -> tuple[Night, ...]:
    """Return the oldest finished run of each schedule whose points are not stored yet."""
    rows = connection.execute(
        sa.select(schema.run.c.id, schema.schedule.c.id, schema.schedule.c.name, _DUE_AT)
        .join(schema.schedule, schema.schedule.c.id == schema.run.c.schedule_id)
        .where(
            schema.run.c.finished_at.is_not(None),
            ~sa.exists().where(tables.tracked_run.c.run_id == schema.run.c.id),
        )
        .distinct(schema.run.c.schedule_id)
        .order_by(schema.run.c.schedule_id, _DUE_AT, schema.run.c.created_at)
    )
    return tuple(Night(*row) for row in rows)


def keep_night(connection: sa.Connection, night: Night, points: Sequence[Point], problem: str | None) -> bool:
    """Store a night's points for ever; return False when another did so before.

    From here to the end of the transaction nobody else adds nights to this schedule, so that whoever looks for steps
    has seen all earlier ones.

    Args:
        problem: why the run gave no points; None: it gave them.
    """
    key = f"meshgauge.tracking.{night.schedule_id}"
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(key))))
    kept = connection.execute(
        insert(tables.tracked_run).values(run_id=night.run_id, problem=problem).on_conflict_do_nothing()
    )
    if kept.rowcount == 0:
        return False
    if points:
        rows = [{**_columns(point), "schedule_id": night.schedule_id} for point in points]
        connection.execute(insert(tables.series_point), rows)
    return True


def _columns(point: Point) -> dict[str, Any]:
    row = {field.name: getattr(point, field.name) for field in dataclasses.fields(point)}
    return {**row, "series": point.series.key, "run_id": uuid.UUID(point.run_id)}


def points(
    connection: sa.Connection, schedule_id: int, nights: int = MOST_NIGHTS, until: dt.datetime | None = None
) -> tuple[Point, ...]:
    """Return the points of the last ``nights`` nights due by ``until`` (default: all), oldest first."""
    point = tables.series_point
    own = sa.select(point.c.at).where(point.c.schedule_id == schedule_id)
    if until is not None:
        own = own.where(point.c.at <= until)
    last = own.distinct().order_by(point.c.at.desc()).limit(nights)
    rows = connection.execute(
        sa.select(point)
        .where(point.c.schedule_id == schedule_id, point.c.at.in_(last))
        .order_by(point.c.at, point.c.run_id, point.c.series, point.c.metric)
    )
    return tuple(_point({name: value for name, value in row._mapping.items() if name != "schedule_id"}) for row in rows)


def _point(row: Mapping[str, Any]) -> Point:
    return Point(**{**row, "series": SeriesName.of(row["series"]), "run_id": str(row["run_id"])})


def annotate(connection: sa.Connection, schedule: str, at: dt.datetime | None, text: str, made_by: str) -> Annotation:
    """Store somebody's remark on a night, by default on this one.

    Raises:
        UnknownNameError: no such schedule.
    """
    row = connection.execute(
        insert(tables.annotation)
        .values(schedule_id=schedules.get(connection, schedule).id, at=at or sa.func.now(), text=text, made_by=made_by)
        .returning(*_ANNOTATION)
    ).one()
    return Annotation(**row._mapping)


_ANNOTATION = (
    tables.annotation.c.id,
    tables.annotation.c.at,
    tables.annotation.c.text,
    tables.annotation.c.made_by,
)


def remove_annotation(connection: sa.Connection, schedule: str, annotation_id: int) -> None:
    """Take a remark back.

    Raises:
        UnknownNameError: no such schedule, or no such remark of it.
    """
    schedule_id = schedules.get(connection, schedule).id
    annotation = tables.annotation
    own = sa.and_(annotation.c.schedule_id == schedule_id, annotation.c.id == annotation_id)
    if connection.execute(sa.delete(annotation).where(own)).rowcount == 0:
        known = connection.execute(sa.select(annotation.c.id).where(annotation.c.schedule_id == schedule_id)).scalars()
        raise UnknownNameError("annotation", str(annotation_id), map(str, known))


def pin(
    connection: sa.Connection,
    schedule: str,
    run_id: uuid.UUID,
    reason: str,
    pinned_by: str,
    points_of_run: Collection[Point],
) -> None:
    """Make a run the baseline of a schedule, instead of the one before.

    Raises:
        UnknownNameError: no such schedule.
    """
    stored = [{**_columns(point), "run_id": point.run_id, "at": point.at.isoformat()} for point in points_of_run]
    values = {"run_id": run_id, "reason": reason, "pinned_by": pinned_by, "points": stored}
    connection.execute(
        insert(tables.pinned_baseline)
        .values(schedule_id=schedules.get(connection, schedule).id, **values)
        .on_conflict_do_update(index_elements=["schedule_id"], set_={**values, "created_at": sa.func.now()})
    )


def unpin(connection: sa.Connection, schedule: str) -> None:
    """Let the schedule have no pinned baseline.

    Raises:
        UnknownNameError: no such schedule.
        ConflictError: none was pinned.
    """
    pinned = tables.pinned_baseline
    own = pinned.c.schedule_id == schedules.get(connection, schedule).id
    if connection.execute(sa.delete(pinned).where(own)).rowcount == 0:
        raise ConflictError(f"schedule {schedule!r} has no pinned baseline")


def pinned_baseline(connection: sa.Connection, schedule_id: int) -> PinnedBaseline | None:
    """Return the run that a schedule's nights are held against; None when none is pinned."""
    row = connection.execute(
        sa.select(tables.pinned_baseline).where(tables.pinned_baseline.c.schedule_id == schedule_id)
    ).one_or_none()
    if row is None:
        return None
    kept = tuple(_point({**point, "at": dt.datetime.fromisoformat(point["at"])}) for point in row.points)
    return PinnedBaseline(str(row.run_id), row.reason, row.pinned_by, row.created_at, kept)


def trend(connection: sa.Connection, schedule: str) -> Trend:
    """Return everything known of a schedule's last nights.

    Raises:
        UnknownNameError: no such schedule.
    """
    row = schedules.get(connection, schedule)
    seen = points(connection, row.id)
    annotation = tables.annotation
    remarks = connection.execute(
        sa.select(*_ANNOTATION).where(annotation.c.schedule_id == row.id).order_by(annotation.c.at, annotation.c.id)
    )
    return Trend(
        schedule=row.name,
        cron=row.cron,
        time_zone=row.time_zone,
        points=seen,
        steps=steps.of_schedule(connection, row.id),
        annotations=tuple(Annotation(**remark._mapping) for remark in remarks),
        baseline=pinned_baseline(connection, row.id),
        missed=_missed(connection, row, seen),
    )


def change_key(connection: sa.Connection, schedule: str) -> str:
    """Return a text that changes whenever something of ``trend`` does.

    Raises:
        UnknownNameError: no such schedule.
    """
    schedule_id = schedules.get(connection, schedule).id
    parts = connection.execute(_CHANGES, {"schedule": schedule_id}).one()
    return f"{schedule_id} {' '.join(map(str, parts))}"


_CHANGES = sa.text(
    "SELECT (SELECT count(*) FROM tracked_run t JOIN run r ON r.id = t.run_id WHERE r.schedule_id = :schedule),"
    " (SELECT max(changed_at) FROM step WHERE schedule_id = :schedule),"
    " (SELECT count(*) FROM annotation WHERE schedule_id = :schedule),"
    " (SELECT max(id) FROM annotation WHERE schedule_id = :schedule),"
    " (SELECT created_at FROM pinned_baseline WHERE schedule_id = :schedule),"
    " (SELECT max(fire_at) FROM schedule_fire WHERE schedule_id = :schedule)"
)


def _missed(connection: sa.Connection, row: ScheduleRow, seen: Sequence[Point]) -> tuple[MissedNight, ...]:
    """Return due times since the first night shown that gave no run, or a run that gave no points."""
    since = min((point.at for point in seen), default=row.created_at)
    fire = schema.schedule_fire
    without_run = connection.execute(
        sa.select(fire.c.fire_at, sa.func.coalesce(fire.c.reason, fire.c.decision))
        .where(fire.c.schedule_id == row.id, fire.c.decision != "run", fire.c.fire_at >= since)
        .order_by(fire.c.fire_at.desc())
        .limit(MOST_NIGHTS)
    ).all()
    without_points = connection.execute(
        sa.select(_DUE_AT, tables.tracked_run.c.problem)
        .join(schema.run, schema.run.c.id == tables.tracked_run.c.run_id)
        .where(schema.run.c.schedule_id == row.id, tables.tracked_run.c.problem.is_not(None), since <= _DUE_AT)
    ).all()
    return tuple(MissedNight(*night) for night in sorted((*without_run, *without_points), key=lambda night: night[0]))
