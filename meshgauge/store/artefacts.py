"""Artefacts: rendered configurations, ends of logs, anything that explains an environment."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from dataclasses import dataclass

import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.errors import UnknownNameError
from meshgauge.store import schema


@dataclass(frozen=True, slots=True)
class ArtefactRow:
    """An artefact without its content."""

    id: int
    run_id: uuid.UUID
    environment_id: uuid.UUID | None
    attempt: int | None
    name: str
    media_type: str
    sha256: str
    size_bytes: int
    created_at: dt.datetime


def keep(connection: sa.Connection, claim: Claim, name: str, media_type: str, content: bytes) -> None:
    """Store one artefact of a claimed environment's attempt."""
    connection.execute(
        sa.insert(schema.artefact).values(
            run_id=claim.run_id,
            environment_id=claim.environment_id,
            attempt=claim.attempt,
            name=name,
            media_type=media_type,
            sha256=hashlib.sha256(content).hexdigest(),
            content=content,
        )
    )


_COLUMNS = (
    schema.artefact.c.id,
    schema.artefact.c.run_id,
    schema.artefact.c.environment_id,
    schema.artefact.c.attempt,
    schema.artefact.c.name,
    schema.artefact.c.media_type,
    schema.artefact.c.sha256,
    sa.func.length(schema.artefact.c.content).label("size_bytes"),
    schema.artefact.c.created_at,
)


def listed(connection: sa.Connection, run_id: uuid.UUID) -> tuple[ArtefactRow, ...]:
    """Return the artefacts of a run, oldest first."""
    rows = connection.execute(
        sa.select(*_COLUMNS).where(schema.artefact.c.run_id == run_id).order_by(schema.artefact.c.id)
    )
    return tuple(ArtefactRow(**row._mapping) for row in rows)


def read(connection: sa.Connection, artefact_id: int) -> tuple[ArtefactRow, bytes]:
    """Return one artefact and its content.

    Raises:
        UnknownNameError: no such artefact.
    """
    row = connection.execute(
        sa.select(*_COLUMNS, schema.artefact.c.content).where(schema.artefact.c.id == artefact_id)
    ).one_or_none()
    if row is None:
        raise UnknownNameError("artefact", str(artefact_id), [])
    values = dict(row._mapping)
    content = bytes(values.pop("content"))
    return ArtefactRow(**values), content
