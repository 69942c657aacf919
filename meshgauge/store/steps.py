"""Steps as stored. An alert is never moved or removed by later nights; only its state and its finding go on."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.store import schema
from meshgauge.store import schema_tracking as tables
from meshgauge.trend import Cause, SeriesName, Step, StepState

STATES: tuple[StepState, ...] = get_args(StepState)

_step = tables.step
_onset, _detected = schema.run.alias("onset"), schema.run.alias("detected")


def _due_at(run: Any) -> Any:
    return sa.func.coalesce(run.c.fire_at, run.c.created_at)


def _selected() -> sa.Select[Any]:
    return (
        sa.select(
            _step,
            schema.schedule.c.name.label("schedule"),
            _due_at(_onset).label("onset_at"),
            _due_at(_detected).label("detected_at"),
        )
        .join(schema.schedule, schema.schedule.c.id == _step.c.schedule_id)
        .join(_onset, _onset.c.id == _step.c.onset_run_id)
        .join(_detected, _detected.c.id == _step.c.detected_run_id)
    )


def _made(row: sa.Row[Any]) -> Step:
    values = {name: value for name, value in row._mapping.items() if name != "schedule_id"}
    return Step(
        **{
            **values,
            "series": SeriesName.of(row.series),
            "cause": Cause(**row.cause),
            "onset_run_id": str(row.onset_run_id),
            "detected_run_id": str(row.detected_run_id),
            "confirming_run_id": None if row.confirming_run_id is None else str(row.confirming_run_id),
        }
    )


def add(
    connection: sa.Connection,
    schedule_id: int,
    series: SeriesName,
    metric: str,
    onset_run_id: str,
    detected_run_id: str,
    size: float,
    before: float,
    cause: Cause,
) -> Step | None:
    """Store an alert as suspected; None when that onset is known.

    Args:
        size, before: on the metric's scale.
    """
    step_id = connection.execute(
        insert(_step)
        .values(
            schedule_id=schedule_id,
            series=series.key,
            metric=metric,
            onset_run_id=uuid.UUID(onset_run_id),
            detected_run_id=uuid.UUID(detected_run_id),
            size=size,
            before=before,
            cause=dataclasses.asdict(cause),
        )
        .on_conflict_do_nothing(index_elements=["schedule_id", "series", "metric", "onset_run_id"])
        .returning(_step.c.id)
    ).scalar_one_or_none()
    return None if step_id is None else get(connection, step_id)


def get(connection: sa.Connection, step_id: int) -> Step:
    """Return one step.

    Raises:
        UnknownNameError: no such step; names the newest.
    """
    row = connection.execute(_selected().where(_step.c.id == step_id)).one_or_none()
    if row is None:
        newest = connection.execute(sa.select(_step.c.id).order_by(_step.c.id.desc()).limit(20)).scalars()
        raise UnknownNameError("step", str(step_id), map(str, newest))
    return _made(row)


def of_schedule(connection: sa.Connection, schedule_id: int) -> tuple[Step, ...]:
    """Return the steps of a schedule, oldest onset first."""
    rows = connection.execute(_selected().where(_step.c.schedule_id == schedule_id).order_by("onset_at", _step.c.id))
    return tuple(map(_made, rows))


def all_of(connection: sa.Connection, state: StepState | None = None, limit: int = 200) -> tuple[Step, ...]:
    """Return steps of all schedules, the newest first, only those in ``state`` where one is given."""
    query = _selected().order_by(_step.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(_step.c.state == state)
    return tuple(map(_made, connection.execute(query)))


def unconfirmed(connection: sa.Connection) -> tuple[Step, ...]:
    """Return the suspected steps for which no confirming run was submitted and nothing was found yet, oldest first."""
    query = _selected().where(
        _step.c.state == "suspected", _step.c.confirming_run_id.is_(None), _step.c.finding.is_(None)
    )
    return tuple(map(_made, connection.execute(query.order_by(_step.c.id))))


def answered(connection: sa.Connection) -> tuple[Step, ...]:
    """Return the steps whose confirming run has ended and was not read yet, oldest first."""
    confirming = schema.run.alias("confirming")
    query = (
        _selected()
        .join(confirming, confirming.c.id == _step.c.confirming_run_id)
        .where(_step.c.finding.is_(None), confirming.c.finished_at.is_not(None))
    )
    return tuple(map(_made, connection.execute(query.order_by(_step.c.id))))


def hold(connection: sa.Connection, seen: Step) -> bool:
    """Lock a step for the rest of this transaction; False when another moved it on since ``seen`` was read."""
    row = connection.execute(
        sa.select(_step.c.state, _step.c.confirming_run_id, _step.c.finding)
        .where(_step.c.id == seen.id)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return False
    confirming = None if row.confirming_run_id is None else str(row.confirming_run_id)
    return (row.state, confirming, row.finding) == (seen.state, seen.confirming_run_id, seen.finding)


def link(connection: sa.Connection, step_id: int, confirming_run_id: uuid.UUID) -> None:
    """Say which run confirms a step; what an earlier one found is forgotten. Call under ``hold``."""
    connection.execute(
        sa.update(_step)
        .where(_step.c.id == step_id)
        .values(confirming_run_id=confirming_run_id, finding=None, changed_at=sa.func.now())
    )


def settle(connection: sa.Connection, step_id: int, state: StepState | None, finding: str) -> None:
    """Store what was found of a step. Call under ``hold``.

    Args:
        state: what it is from now on; None: it stays as it is. One that was acknowledged meanwhile stays so.
    """
    moved = _step.c.state if state is None else sa.case((_step.c.state == "acknowledged", _step.c.state), else_=state)
    connection.execute(
        sa.update(_step).where(_step.c.id == step_id).values(state=moved, finding=finding, changed_at=sa.func.now())
    )


def acknowledge(connection: sa.Connection, step_id: int, reason: str, acknowledged_by: str) -> Step:
    """Take note of a step, with a reason and a name.

    Raises:
        UnknownNameError: no such step.
        ConflictError: it is acknowledged already.
    """
    done = connection.execute(
        sa.update(_step)
        .where(_step.c.id == step_id, _step.c.state != "acknowledged")
        .values(state="acknowledged", reason=reason, changed_by=acknowledged_by, changed_at=sa.func.now())
    )
    step = get(connection, step_id)
    if done.rowcount == 0:
        raise ConflictError(f"step {step_id} was acknowledged by {step.changed_by} already: {step.reason}")
    return step
