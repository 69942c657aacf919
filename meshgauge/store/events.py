"""Events: what happened to a run, in order, for its diary and for live progress."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from meshgauge.store import schema

CANCEL_CHANNEL = "meshgauge_cancel"  # payload: run id
EVENT_CHANNEL = "meshgauge_event"  # payload: run id


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``id`` only grows."""

    id: int
    at: dt.datetime
    kind: str
    data: Mapping[str, Any]


def append(connection: sa.Connection, run_id: uuid.UUID, kind: str, data: Mapping[str, Any]) -> None:
    """Record an event and wake those who watch the run; both take effect at commit."""
    connection.execute(sa.insert(schema.event).values(run_id=run_id, kind=kind, data=dict(data)))
    connection.execute(sa.select(sa.func.pg_notify(EVENT_CHANNEL, str(run_id))))


def after(connection: sa.Connection, run_id: uuid.UUID, last_id: int, limit: int = 500) -> tuple[Event, ...]:
    """Return the run's events with an id above ``last_id``, oldest first."""
    rows = connection.execute(
        sa.select(schema.event.c.id, schema.event.c.at, schema.event.c.kind, schema.event.c.data)
        .where(schema.event.c.run_id == run_id, schema.event.c.id > last_id)
        .order_by(schema.event.c.id)
        .limit(limit)
    )
    return tuple(Event(row.id, row.at, row.kind, row.data) for row in rows)
