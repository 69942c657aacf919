"""Channels: where notices go. A channel's secret is read by senders alone, and shown once, by whoever makes it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.fields import NAME_PATTERN
from meshgauge.store import schema_tracking as schema
from meshgauge.store.notices import EVENTS, Event

Kind = Literal["webhook", "slack", "email"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A receiver. ``target``: address of the webhook (Slack's is a secret in itself), or the mailbox."""

    id: int
    name: str
    kind: Kind
    target: str = field(repr=False)
    secret: str | None = field(repr=False)
    events: tuple[Event, ...]
    created_at: dt.datetime


_COLUMNS = (
    schema.channel.c.id,
    schema.channel.c.name,
    schema.channel.c.kind,
    schema.channel.c.target,
    schema.channel.c.secret,
    schema.channel.c.events,
    schema.channel.c.created_at,
)


def _row(row: sa.Row[Any]) -> ChannelRow:
    return ChannelRow(row.id, row.name, row.kind, row.target, row.secret, tuple(row.events), row.created_at)


def add(
    connection: sa.Connection, name: str, kind: Kind, target: str, secret: str | None, events: Sequence[Event]
) -> ChannelRow:
    """Store a channel.

    Raises:
        ConflictError: there is a channel of that name, or the name cannot be one.
        UnknownNameError: no such kind or event.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of channel", kind, KINDS)
    for event in events:
        if event not in EVENTS:
            raise UnknownNameError("event", event, EVENTS)
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConflictError(f"{name!r} cannot be a channel's name; use lower-case letters, digits and . _ + -")
    row = connection.execute(
        insert(schema.channel)
        .values(name=name, kind=kind, target=target, secret=secret, events=list(dict.fromkeys(events)))
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(*_COLUMNS)
    ).one_or_none()
    if row is None:
        raise ConflictError(f"there is a channel {name!r} already; remove it first, or give this one another name")
    return _row(row)


def listed(connection: sa.Connection) -> tuple[ChannelRow, ...]:
    """Return all channels by name."""
    return tuple(map(_row, connection.execute(sa.select(*_COLUMNS).order_by(schema.channel.c.name))))


def get(connection: sa.Connection, name: str) -> ChannelRow:
    """Return one channel.

    Raises:
        UnknownNameError: no such channel.
    """
    row = connection.execute(sa.select(*_COLUMNS).where(schema.channel.c.name == name)).one_or_none()
    if row is None:
        raise _unknown(connection, name)
    return _row(row)


def by_id(connection: sa.Connection, channel_id: int) -> ChannelRow | None:
    """Return a channel, or None when it was removed meanwhile."""
    row = connection.execute(sa.select(*_COLUMNS).where(schema.channel.c.id == channel_id)).one_or_none()
    return None if row is None else _row(row)


def remove(connection: sa.Connection, name: str) -> None:
    """Remove a channel with its notices, sent or not.

    Raises:
        UnknownNameError: no such channel.
    """
    if connection.execute(sa.delete(schema.channel).where(schema.channel.c.name == name)).rowcount == 0:
        raise _unknown(connection, name)


def _unknown(connection: sa.Connection, name: str) -> UnknownNameError:
    return UnknownNameError("channel", name, [row.name for row in listed(connection)])
