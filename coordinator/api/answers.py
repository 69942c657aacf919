"""Values as JSON, and the shapes the API answers with. The OpenAPI document is made from the same types."""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import jsonify, url_for
from flask.wrappers import Response
from pydantic import TypeAdapter

from coordinator.schedules import next_fire, warnings_on
from meshgauge.errors import InvalidPlanError, UnknownNameError
from meshgauge.store import schedules, schema
from meshgauge.store.runs import RunRow
from meshgauge.store.schedules import Fire, ScheduleRow

_SHORTEST_ID = 6


@functools.cache
def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """Return the (de)serialiser of a type, made once."""
    return TypeAdapter(kind)


def as_json(kind: Any, value: Any) -> Any:
    """Return ``value`` of type ``kind`` as plain JSON values."""
    return adapter_of(kind).dump_python(value, mode="json")


def answer(kind: Any, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``value`` as the JSON answer of a view that declared ``kind``."""
    response = jsonify(as_json(kind, value))
    response.status_code = status
    response.headers.update(headers or {})
    return response


@dataclass(frozen=True, slots=True)
class RunView:
    """A run and where its parts are. ``trials`` counts them per state; times are UTC, estimates in seconds.

    ``confirms`` is the run whose findings this one repeats on fresh blocks.
    """

    id: str
    name: str
    state: str
    reason: str | None
    submitted_by: str
    blocks: int
    extra_blocks: int
    estimate_s: float
    cancel_requested_at: dt.datetime | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    schedule_id: int | None
    confirms: str | None
    trials: Mapping[str, int]
    links: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunList:
    """Runs, newest first. ``next``: address of the following page; None on the last."""

    runs: tuple[RunView, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class FireView:
    """What became of one due time of a schedule."""

    fire_at: dt.datetime
    decision: str
    reason: str | None
    run: str | None


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A plan that fires by itself. ``next_fire_at`` is None while it is paused, or has the ``problem`` it names.

    ``warnings``: what its owner should know of the plan.
    """

    name: str
    cron: str
    time_zone: str
    paused: bool
    submitted_by: str
    created_at: dt.datetime
    next_fire_at: dt.datetime | None
    problem: str | None
    fires: tuple[FireView, ...]
    warnings: tuple[str, ...]


def run_view(row: RunRow) -> RunView:
    """Return a run as the API shows it."""
    run = str(row.id)
    parts = ("progress", "events", "summary", "trials", "artefacts", "report", "plan")
    links = {"self": url_for("runs.show", run=run), "page": url_for("pages.run", run=run)}
    links |= {part: f"{links['self']}/{part}" for part in parts}
    return RunView(
        id=run,
        name=row.name,
        state=row.state,
        reason=row.reason,
        submitted_by=row.submitted_by,
        blocks=row.blocks,
        extra_blocks=row.extra_blocks,
        estimate_s=row.estimate_s,
        cancel_requested_at=row.cancel_at,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        schedule_id=row.schedule_id,
        confirms=None if row.confirms is None else str(row.confirms),
        trials=row.trials,
        links=links,
    )


def schedule_view(connection: sa.Connection, row: ScheduleRow) -> ScheduleView:
    """Return a schedule with the last of its fires."""
    following, problem = None, None
    try:
        following = None if row.paused else next_fire(row.cron, row.time_zone, row.last_fire_at)
    except InvalidPlanError as error:  # it was right when it was added; this host no longer knows its zone
        problem = str(error)
    return ScheduleView(
        name=row.name,
        cron=row.cron,
        time_zone=row.time_zone,
        paused=row.paused,
        submitted_by=row.submitted_by,
        created_at=row.created_at,
        next_fire_at=following,
        problem=problem,
        fires=tuple(map(_fire_view, schedules.fires(connection, row.id))),
        warnings=warnings_on(row.body),
    )


def _fire_view(fire: Fire) -> FireView:
    return FireView(fire.fire_at, fire.decision, fire.reason, None if fire.run_id is None else str(fire.run_id))


def run_id_of(connection: sa.Connection, text: str) -> uuid.UUID:
    """Return the id of the run a path names: in full, or by the first characters when they are unique.

    Raises:
        UnknownNameError: no such run, or several begin like that.
    """
    try:
        return uuid.UUID(text)
    except ValueError:
        pass
    short = text.lower()
    if len(short) < _SHORTEST_ID or not set(short) <= set("0123456789abcdef-"):
        raise UnknownNameError("run", text, [])
    id_text = sa.cast(schema.run.c.id, sa.Text)
    found = connection.execute(sa.select(schema.run.c.id).where(id_text.startswith(short)).limit(3)).scalars().all()
    if len(found) != 1:
        raise UnknownNameError("run", text, map(str, found))
    run_id: uuid.UUID = found[0]
    return run_id
