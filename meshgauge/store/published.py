"""Series others published: stored with their source, listed, removed. Nothing of ours refers to them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.store.schema_tracking import published_series


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published series; ``rows`` is what its reader made of the file, as JSON."""

    name: str
    source: str
    format: str
    rows: Mapping[str, Any]
    imported_by: str
    created_at: dt.datetime


_COLUMNS = (
    published_series.c.name,
    published_series.c.source,
    published_series.c.format,
    published_series.c.rows,
    published_series.c.imported_by,
    published_series.c.created_at,
)


def add(
    connection: sa.Connection, name: str, source: str, importer: str, rows: Mapping[str, Any], imported_by: str
) -> PublishedRow:
    """Store a series.

    Raises:
        ConflictError: the name is taken; what was imported is never overwritten.
    """
    made = connection.execute(
        insert(published_series)
        .values(name=name, source=source, format=importer, rows=rows, imported_by=imported_by)
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(*_COLUMNS)
    ).one_or_none()
    if made is None:
        raise ConflictError(
            f"there is a published series {name!r} already; choose another name, or remove that one first"
        )
    return PublishedRow(**made._mapping)


def listed(connection: sa.Connection) -> tuple[PublishedRow, ...]:
    """Return all series by name."""
    rows = connection.execute(sa.select(*_COLUMNS).order_by(published_series.c.name))
    return tuple(PublishedRow(**row._mapping) for row in rows)


def get(connection: sa.Connection, name: str) -> PublishedRow:
    """Return one series.

    Raises:
        UnknownNameError: there is none of that name.
    """
    row = connection.execute(sa.select(*_COLUMNS).where(published_series.c.name == name)).one_or_none()
    if row is None:
        raise _unknown(connection, name)
    return PublishedRow(**row._mapping)


def remove(connection: sa.Connection, name: str) -> None:
    """Remove one series.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if connection.execute(sa.delete(published_series).where(published_series.c.name == name)).rowcount == 0:
        raise _unknown(connection, name)


def _unknown(connection: sa.Connection, name: str) -> UnknownNameError:
    return UnknownNameError("published series", name, connection.execute(sa.select(published_series.c.name)).scalars())
