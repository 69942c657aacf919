"""Notices: the outbox. What happened is written beside what happened, and sent later by whoever claims it.

Delivery is at least once: a sender that dies between sending and ``mark_sent`` leaves a claim that runs out, and
the next one sends again, under the same delivery id.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from meshgauge.errors import UnknownNameError
from meshgauge.store import schema_tracking as schema

Event = Literal["run_finished", "gate_failed", "step_suspected", "step_confirmed", "step_not_reproduced", "test"]
EVENTS: tuple[Event, ...] = get_args(Event)

_DELIVERIES = uuid.UUID("6b1c2b0e-3f0f-5b58-9a0e-6d657368676d")


def put(connection: sa.Connection, event: Event, key: str, payload: Mapping[str, Any]) -> int:
    """Write a notice for every channel that wants ``event``; return for how many this was news.

    Part of the caller's transaction: what is rolled back is never told.

    Args:
        key: of what happened; a channel is told of the same key once.

    Raises:
        UnknownNameError: no such event.
    """
    if event not in EVENTS:
        raise UnknownNameError("event", event, EVENTS)
    # Held until the commit: a channel that is removed meanwhile is left out instead of breaking the transaction.
    wanting = (
        sa.select(schema.channel.c.id, sa.literal(event), sa.literal(key), sa.cast(dict(payload), JSONB))
        .where(schema.channel.c.events.has_key(event))
        .with_for_update(read=True, key_share=True)
    )
    stored = connection.execute(
        insert(schema.notice)
        .from_select(["channel_id", "event", "key", "payload"], wanting)
        .on_conflict_do_nothing(index_elements=["channel_id", "key"])
    )
    return stored.rowcount


@dataclass(frozen=True, slots=True)
class Claimed:
    """A notice somebody holds for a while, to send it. ``attempt`` counts from 1."""

    id: int
    channel_id: int
    event: Event
    key: str
    payload: Mapping[str, Any]
    attempt: int
    created_at: dt.datetime

    @property
    def delivery_id(self) -> uuid.UUID:
        """The same for every attempt, and not used again by a database made anew: receivers know doubles by it."""
        return uuid.uuid5(_DELIVERIES, f"{self.id} {self.created_at.isoformat()}")


def claim(
    connection: sa.Connection, hold_s: float, limit: int, busy: Collection[int] = (), only: int | None = None
) -> tuple[Claimed, ...]:
    """Take due notices, oldest first and at most one a channel; nobody else gets them within ``hold_s``.

    Args:
        busy: ids of channels that are being sent to already.
        only: id of the one channel whose notices are wanted.
    """
    notice = schema.notice
    due = [notice.c.state == "pending", notice.c.not_before <= sa.func.now(), notice.c.channel_id.not_in(busy)]
    if only is not None:
        due.append(notice.c.channel_id == only)
    first = (
        sa.select(notice.c.id)
        .where(*due)
        .distinct(notice.c.channel_id)
        .order_by(notice.c.channel_id, notice.c.id)
        .subquery()
    )
    ids = (
        sa.select(notice.c.id)
        .where(notice.c.id.in_(sa.select(first.c.id)), *due)
        .order_by(notice.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("claimed")  # evaluated once: as a subquery the planner may lock more rows than asked for
    )
    rows = connection.execute(
        sa.update(notice)
        .where(notice.c.id.in_(sa.select(ids.c.id)))
        .values(attempts=notice.c.attempts + 1, not_before=sa.func.now() + dt.timedelta(seconds=hold_s))
        .returning(*_CLAIMED)
    )
    return tuple(sorted((_claimed(row) for row in rows), key=lambda claimed: claimed.id))


_CLAIMED = (
    schema.notice.c.id,
    schema.notice.c.channel_id,
    schema.notice.c.event,
    schema.notice.c.key,
    schema.notice.c.payload,
    schema.notice.c.attempts,
    schema.notice.c.created_at,
)


def _claimed(row: sa.Row[Any]) -> Claimed:
    return Claimed(row.id, row.channel_id, row.event, row.key, row.payload, row.attempts, row.created_at)


def put_claimed(
    connection: sa.Connection, channel_id: int, event: Event, key: str, payload: Mapping[str, Any], hold_s: float
) -> Claimed:
    """Write a notice for one channel, whether it wants the event or not, and claim it at once."""
    row = connection.execute(
        sa.insert(schema.notice)
        .values(
            channel_id=channel_id,
            event=event,
            key=key,
            payload=dict(payload),
            attempts=1,
            not_before=sa.func.now() + dt.timedelta(seconds=hold_s),
        )
        .returning(*_CLAIMED)
    ).one()
    return _claimed(row)


def _held(claimed: Claimed) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the guard of every change: a claim that ran out, and was taken by another, changes nothing."""
    notice = schema.notice
    return (notice.c.id == claimed.id, notice.c.attempts == claimed.attempt, notice.c.state == "pending")


def mark_sent(connection: sa.Connection, claimed: Claimed, remark: str) -> None:
    """Record that the receiver took it; ``remark``: what it answered, in short."""
    connection.execute(
        sa.update(schema.notice)
        .where(*_held(claimed))
        .values(state="sent", sent_at=sa.func.now(), reason=remark, not_before=sa.func.now())
    )


def mark_failed(connection: sa.Connection, claimed: Claimed, reason: str) -> None:
    """Give a notice up."""
    connection.execute(sa.update(schema.notice).where(*_held(claimed)).values(state="failed", reason=reason))


def postpone(connection: sa.Connection, claimed: Claimed, reason: str, pause_s: float) -> None:
    """Let a notice be claimed again after ``pause_s``."""
    later = sa.func.now() + dt.timedelta(seconds=pause_s)
    connection.execute(sa.update(schema.notice).where(*_held(claimed)).values(not_before=later, reason=reason))


def give_up(connection: sa.Connection, max_attempts: int) -> int:
    """End notices whose last attempt was claimed by a sender that never came back; return their number."""
    notice = schema.notice
    ended = connection.execute(
        sa.update(notice)
        .where(notice.c.state == "pending", notice.c.attempts >= max_attempts, notice.c.not_before <= sa.func.now())
        .values(
            state="failed",
            reason=sa.func.coalesce(notice.c.reason + "; ", "") + "the sender ended in the midst of the last attempt",
        )
    )
    return ended.rowcount


def enrich(connection: sa.Connection, key: str, facts: Mapping[str, Any]) -> None:
    """Add facts, worked out after the event, to every notice of ``key`` that is still to be sent."""
    notice = schema.notice
    connection.execute(
        sa.update(notice)
        .where(notice.c.key == key, notice.c.state == "pending")
        .values(payload=notice.c.payload.op("||")(sa.cast(dict(facts), JSONB)))
    )


def forget(connection: sa.Connection, older_than: dt.timedelta) -> int:
    """Delete notices that were sent or given up longer ago; return their number."""
    notice = schema.notice
    gone = connection.execute(
        sa.delete(notice).where(notice.c.state != "pending", notice.c.created_at < sa.func.now() - older_than)
    )
    return gone.rowcount


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """What became of one notice. ``reason``: the receiver's answer, or why it was not sent (yet)."""

    id: int
    channel: str
    event: str
    key: str
    state: str
    attempts: int
    reason: str | None
    not_before: dt.datetime
    created_at: dt.datetime
    sent_at: dt.datetime | None


def newest(connection: sa.Connection, limit: int, channel: str | None = None) -> tuple[NoticeRow, ...]:
    """Return the newest notices, newest first; of one channel, or of all."""
    notice = schema.notice
    query = (
        sa.select(
            notice.c.id,
            schema.channel.c.name.label("channel"),
            notice.c.event,
            notice.c.key,
            notice.c.state,
            notice.c.attempts,
            notice.c.reason,
            notice.c.not_before,
            notice.c.created_at,
            notice.c.sent_at,
        )
        .join(schema.channel, schema.channel.c.id == notice.c.channel_id)
        .order_by(notice.c.id.desc())
        .limit(limit)
    )
    if channel is not None:
        query = query.where(schema.channel.c.name == channel)
    return tuple(NoticeRow(**row._mapping) for row in connection.execute(query))
