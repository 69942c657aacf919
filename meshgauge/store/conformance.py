"""Results of the contract suite, of which stages are read."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from meshgauge.conformance import ConformanceResult
from meshgauge.store.schema_operations import conformance


def add(connection: sa.Connection, result: ConformanceResult, operation_id: uuid.UUID | None = None) -> None:
    """Keep a result. Earlier ones stay."""
    data = result.to_json()
    connection.execute(
        sa.insert(conformance).values({**data, "at": result.at, "passed": result.passed, "operation_id": operation_id})
    )


def results(connection: sa.Connection) -> tuple[ConformanceResult, ...]:
    """Return the newest result of each adapter, provider and version, newest first."""
    table = conformance
    newest = (
        sa.select(table)
        .distinct(table.c.provider, table.c.adapter, table.c.version)
        .order_by(table.c.provider, table.c.adapter, table.c.version, table.c.at.desc(), table.c.id.desc())
    ).subquery()
    rows = connection.execute(sa.select(newest).order_by(newest.c.at.desc()))
    fields = ("adapter", "version", "provider", "infrastructure", "revision", "checks")
    return tuple(
        ConformanceResult.of_json({name: row._mapping[name] for name in fields} | {"at": row.at.isoformat()})
        for row in rows
    )
