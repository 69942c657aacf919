"""What an environment's claim means: the plan it belongs to and the trials still without an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.store import schema


@dataclass(frozen=True, slots=True)
class ClaimedWork:
    """The rows behind a claim. ``trials``: (id, cell, load label), in their turn."""

    plan_text: str
    document: Mapping[str, Any]
    resolution: Mapping[str, Any]
    seed: int
    tuning: Mapping[str, Any] | None
    trials: tuple[tuple[str, str, str], ...]


def read_work(connection: sa.Connection, claim: Claim) -> ClaimedWork:
    """Return what the holder of ``claim`` has to do."""
    run = connection.execute(
        sa.select(schema.run, schema.plan.c.body)
        .join(schema.plan, schema.plan.c.sha256 == schema.run.c.plan_sha256)
        .where(schema.run.c.id == claim.run_id)
    ).one()
    trials = connection.execute(
        sa.select(schema.trial.c.id, schema.trial.c.cell, schema.trial.c.load)
        .where(schema.trial.c.environment_id == claim.environment_id, schema.trial.c.state == "pending")
        .order_by(schema.trial.c.turn)
    )
    return ClaimedWork(
        plan_text=run.body,
        document=run.document,
        resolution=run.resolved,
        seed=run.seed,
        tuning=run.tuning,
        trials=tuple((str(row.id), row.cell, row.load) for row in trials),
    )
