"""What a running environment tells on its way: the host's tuning, and how far the current trial is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.store import events, schema

PROGRESS = "progress"


def keep_tuning(connection: sa.Connection, claim: Claim, tuning: Mapping[str, Any]) -> None:
    """Store how the host was quietened, once: the run's later environments use the same."""
    connection.execute(
        sa.update(schema.run)
        .where(schema.run.c.id == claim.run_id, schema.run.c.tuning.is_(None))
        .values(tuning=dict(tuning))
    )


def report(connection: sa.Connection, claim: Claim, fields: Mapping[str, Any]) -> None:
    """Tell those who watch how far the current trial is."""
    data = {"environment": claim.key, "block": claim.block, **fields}
    events.append(connection, claim.run_id, PROGRESS, data)


def forget(connection: sa.Connection, claim: Claim) -> None:
    """Drop the progress reports of a trial that is over: they are for live eyes only."""
    connection.execute(
        sa.delete(schema.event).where(schema.event.c.run_id == claim.run_id, schema.event.c.kind == PROGRESS)
    )
